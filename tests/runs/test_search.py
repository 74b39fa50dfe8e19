"""A search with Optuna: its space, its trials, resume after a kill, and mistakes."""

import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner
from optuna.trial import TrialState

from dcgan import compare
from dcgan.common.errors import SweepError, UserError
from dcgan.runs.search.space import SearchSpace, distribution, override_text
from dcgan.runs.search.study import open_study, repair_journal
from dcgan.training.callbacks.trial_report import TrialReport
from dcgan.training.run import train as run_training
from tests.conftest import TINY
from tests.processes import run_forked
from tests.run_files import different_tensors, weights
from tests.runs.test_sweeps import FORKED_JOBS

SWEEP = Path("runs/sweeps/mine")
JOBS = [*TINY, "trainer=cpu", "samples.steps=[0]", "log.every_n_steps=2", "max_steps=4", "sweep.name=mine"]
LOSS = ["evaluator=none", "objective=loss_g"]
SPACE = {"optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True}, "discriminator": ["strided_conv", "avg_pool"]}


@pytest.fixture
def search(dcgan_train):
    """Run a search of a space: search(space, *overrides)."""

    def run(space, *overrides: str, sweeper: dict | None = None):
        file = Path("conf/search/tiny.yaml")
        file.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "defaults": [{"override /hydra/sweeper": "optuna"}],
            "hydra": {"sweeper": {"n_trials": 3, "params": space} | (sweeper or {})},
        }
        file.write_text(f"# @package _global_\n{json.dumps(content)}")
        return dcgan_train("-m", "--config-dir", "conf", "search=tiny", *JOBS, *overrides)

    return run


def trials(sweep: Path = SWEEP):
    return open_study(sweep / "search.journal").trials


def states(sweep: Path = SWEEP) -> list[str]:
    return [trial.state.name for trial in trials(sweep)]


# --- the space


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"low": 1e-4, "high": 1e-2, "log": True}, FloatDistribution(1e-4, 1e-2, log=True)),
        ({"low": 0, "high": 0.5, "step": 0.1}, FloatDistribution(0.0, 0.5, step=0.1)),
        ({"low": 8, "high": 32, "step": 8}, IntDistribution(8, 32, step=8)),
        ({"low": 1, "high": 64, "log": True}, IntDistribution(1, 64, log=True)),
        (["relu", "elu"], CategoricalDistribution(["relu", "elu"])),
        ([0, 0.9, None, True], CategoricalDistribution([0, 0.9, None, True])),
        ([[0.5, 0.9], [0.0, 0.99]], CategoricalDistribution(["[0.5,0.9]", "[0.0,0.99]"])),
    ],
    ids=str,
)
def test_entry_becomes_a_distribution(entry, expected):
    assert distribution("key", entry) == expected


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"low": 2, "high": 1}, "the search space of key is wrong: "),
        ({"low": 0.0, "high": 1.0, "log": True}, "the search space of key is wrong: "),
        ([], "the search space of key is wrong: "),
        ({"low": 1}, "must be a list of options, or {low: 1e-4, high: 1e-2}"),
        ({"low": 1, "high": "2"}, "must be a list of options"),
        ({"low": 1, "high": 2, "log": 1}, "must be a list of options"),
        ({"low": 1, "high": 2, "base": 2}, "must be a list of options"),
        (3, "must be a list of options"),
        ("1,2", "must be a list of options"),
    ],
    ids=str,
)
def test_wrong_entry_is_named(entry, sentence):
    with pytest.raises(UserError) as error:
        distribution("key", entry)
    assert sentence in str(error.value)


def test_values_become_overrides():
    space = SearchSpace({"a.b": {"low": 1e-5, "high": 1.0}, "c": ["x y", None, [0, 0.9]], "d": [True, "relu"]})
    assert space.overrides({"a.b": 1e-5, "c": "x y", "d": True}) == ["a.b=1e-05", "c='x y'", "d=true"]
    assert space.overrides({"a.b": 0.25, "c": "[0,0.9]", "d": "relu"}) == ["a.b=0.25", "c=[0,0.9]", "d=relu"]
    assert override_text({"x": [1, "it's"], "y": None}) == "{x:[1,'it\\'s'],y:null}"


def test_examples_contain_each_option():
    examples = SearchSpace({"a": [1, 2, 3], "b": ["x", "y"], "c": {"low": 4, "high": 5}}).examples()
    assert {example["a"] for example in examples} == {1, 2, 3}
    assert {example["b"] for example in examples} == {"x", "y"}
    assert {example["c"] for example in examples} == {4}


def test_space_of_a_file_is_read_as_numbers(dcgan_train):
    outcome = dcgan_train("-m", "search=fast", "hydra.sweeper.n_trials=0")
    assert outcome.code == 1
    assert "hydra.sweeper.n_trials must be an integer >= 1, got 0" in outcome.err
    assert outcome.err.count("\n") == 1


# --- a whole search


def test_search_runs_its_trials_and_writes_a_report(search, command):
    outcome = search(SPACE, *LOSS)
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    assert states() == ["COMPLETE"] * 3
    for trial in trials():
        summary = json.loads((SWEEP / f"trial_{trial.number:04}" / "summary.json").read_text())
        assert summary["config"]["optimizer"]["lr"] == trial.params["optimizer.lr"]
        assert summary["choices"]["discriminator"] == trial.params["discriminator"]
        assert trial.value == summary["metrics"]["loss_g"]
    assert len({trial.params["optimizer.lr"] for trial in trials()}) == 3
    text = (SWEEP / "search.md").read_text()
    best = min(trials(), key=lambda trial: trial.value)
    assert f"The best run is trial_{best.number:04}: `optimizer.lr={best.params['optimizer.lr']!r} " in text
    assert "3 of 3 trials (3 complete)" in outcome.out
    assert (SWEEP / "search.png").stat().st_size > 1000
    comparison = command(compare, str(SWEEP))
    assert comparison.code == 0, comparison.err
    assert "| optimizer.lr=" in comparison.out
    assert "excluded" not in comparison.out


def test_search_depends_on_its_seed(search):
    params = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        outcome = search(SPACE, *LOSS, f"sweep.name={name}", f"hydra.sweeper.seed={seed}", sweeper={"n_trials": 1})
        assert outcome.code == 0, outcome.err
        params.append(trials(Path("runs/sweeps") / name)[0].params)
    assert params[0] == params[1] != params[2]


def test_larger_n_trials_continue_a_search(search):
    assert search(SPACE, *LOSS, "hydra.sweeper.n_trials=1").code == 0
    before = (SWEEP / "trial_0000" / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    outcome = search(SPACE, *LOSS, "hydra.sweeper.n_trials=2")
    assert outcome.code == 0, outcome.err
    assert states() == ["COMPLETE"] * 2
    assert (SWEEP / "trial_0000" / "checkpoints" / "last.ckpt").stat().st_mtime_ns == before


def test_settings_that_were_tried_do_not_run_again(search):
    outcome = search({"seed": [7]}, *LOSS)
    assert outcome.code == 0, outcome.err
    assert states() == ["COMPLETE"] * 3
    assert sorted(path.name for path in SWEEP.glob("trial_*")) == ["trial_0000"]
    assert len({trial.value for trial in trials()}) == 1
    assert "same settings as trial 0" in (SWEEP / "search.md").read_text()


# --- a killed search


def test_killed_search_is_completed_by_the_same_command(search, monkeypatch):
    """The kill: no more than the journal and the files of the second trial's first steps are left."""
    started = []

    def killed(cfg, run_dir, choices, gpu, resume):
        started.append(run_dir.name)
        if len(started) == 2:
            cfg.max_steps = 2
            run_training(cfg, run_dir, choices, gpu, resume)
            (run_dir / "summary.json").unlink()
            raise KeyboardInterrupt
        return run_training(cfg, run_dir, choices, gpu, resume)

    monkeypatch.setattr("dcgan.training.run.train", killed)
    assert search(SPACE, *LOSS).code == 130
    assert states() == ["COMPLETE", "RUNNING"]
    before = (SWEEP / "trial_0000" / "summary.json").read_bytes()
    outcome = search(SPACE, *LOSS)
    assert outcome.code == 0, outcome.err
    assert states() == ["COMPLETE"] * 3
    assert started == ["trial_0000", "trial_0001", "trial_0001", "trial_0002"]
    (resume,) = [line for line in outcome.out.splitlines() if line.startswith("resume       ")]
    assert resume.endswith(f"{SWEEP}/trial_0001/checkpoints/last.ckpt, step 2")
    assert (SWEEP / "trial_0000" / "summary.json").read_bytes() == before
    resumed = trials()
    # the choices, and the weights, of a search that was not killed
    assert search(SPACE, *LOSS, "sweep.name=other").code == 0
    other = Path("runs/sweeps/other")
    assert [trial.params for trial in trials(other)] == [trial.params for trial in resumed]
    for name in ("trial_0001", "trial_0002"):
        assert different_tensors(weights(other / name), weights(SWEEP / name)) == []


def test_trials_of_a_process_that_is_alive_are_left_to_it(search):
    """Two machines: the other one holds the lock of its trial, which counts."""
    assert search(SPACE, *LOSS, "hydra.sweeper.n_trials=1").code == 0
    study = open_study(SWEEP / "search.journal")
    trial = study.ask(SearchSpace(SPACE).distributions)
    trial.set_user_attr("worker", "other-machine")
    with FileLock(SWEEP / ".search" / "other-machine.lock"):
        outcome = search(SPACE, *LOSS, "hydra.sweeper.n_trials=3")
        assert outcome.code == 0, outcome.err
        assert states() == ["COMPLETE", "RUNNING", "COMPLETE"]
        assert "| running |" in (SWEEP / "search.md").read_text()
    assert search(SPACE, *LOSS, "hydra.sweeper.n_trials=3").code == 0
    assert states() == ["COMPLETE"] * 3


def test_incomplete_line_of_the_journal_is_removed(tmp_path):
    journal = tmp_path / "search.journal"
    open_study(journal).ask()
    complete = journal.read_bytes()
    journal.write_bytes(complete + b'{"op_code":4,"wor')
    repair_journal(journal)
    assert journal.read_bytes() == complete
    assert len(open_study(journal).trials) == 1


def test_search_of_another_space_in_the_same_folder_is_rejected(search):
    assert search(SPACE, *LOSS, "hydra.sweeper.n_trials=1").code == 0
    outcome = search({"seed": [1, 2]}, *LOSS)
    assert outcome.code == 1
    assert "runs/sweeps/mine holds a search with other params" in outcome.err
    outcome = search(SPACE, *LOSS, "ema.decay=0.5")
    assert outcome.code == 1
    assert "runs/sweeps/mine holds a search with other overrides" in outcome.err
    assert outcome.err.count("\n") == 1


# --- pruned, failed and undefined trials

PRUNER = {"_target_": "tests.runs.test_search.PruneSecond"}


class PruneSecond(BasePruner):
    """Prunes the second trial at each of its reports."""

    def prune(self, study, trial):
        assert trial.intermediate_values
        return trial.number == 1


def test_pruned_run_is_saved_and_can_be_resumed(search, dcgan_train, command):
    outcome = search(SPACE, "metrics.every_n_steps=2", sweeper={"pruner": PRUNER, "n_trials": 2})
    assert outcome.code == 0, outcome.err
    assert states() == ["COMPLETE", "PRUNED"]
    first, second = trials()
    assert list(first.intermediate_values) == [2, 4]
    assert first.intermediate_values[4] == first.value
    assert list(second.intermediate_values) == [2]
    run = SWEEP / "trial_0001"
    assert not (run / "summary.json").exists()
    assert not (run / "failure.txt").exists()
    assert "was pruned at step 2 (frechet" in (run / "pruned.txt").read_text()
    assert "pruned       trial_0001: pruned at step 2" in outcome.out
    assert "Traceback" not in outcome.err
    assert "| pruned | pruned at step 2 (frechet" in (SWEEP / "search.md").read_text()
    assert f"{run} was pruned at step 2" in command(compare, str(SWEEP)).out
    # it does not run again
    assert (
        "pruned       " not in search(SPACE, "metrics.every_n_steps=2", sweeper={"pruner": PRUNER, "n_trials": 2}).out
    )
    outcome = dcgan_train(f"ckpt_path={run}/checkpoints/last.ckpt", "trainer=cpu")
    assert outcome.code == 0, outcome.err
    assert json.loads((run / "summary.json").read_text())["step"] == 4
    assert not (run / "pruned.txt").exists()
    uninterrupted = [override for override in JOBS if override != "sweep.name=mine"]
    values = SearchSpace(SPACE).overrides(second.params)
    dcgan_train(*uninterrupted, *values, "metrics.every_n_steps=2", "hydra.run.dir=uninterrupted")
    assert different_tensors(weights("uninterrupted"), weights(run)) == []


def test_pruner_may_get_another_metric(search):
    sweeper = {"pruner": PRUNER, "n_trials": 2, "prune_by": "train/d_real"}
    outcome = search(SPACE, *LOSS, sweeper=sweeper)
    assert outcome.code == 0, outcome.err
    first, second = trials()
    assert list(first.intermediate_values) == [2, 4]
    assert all(0 < value < 1 for value in first.intermediate_values.values())
    assert second.state == TrialState.PRUNED


def test_failed_trial_does_not_stop_the_search(search):
    outcome = search({"optimizer.lr": [1e30, 1e-3]}, *LOSS, "max_steps=20", sweeper={"n_trials": 4, "seed": 1})
    assert outcome.code == 0, outcome.err
    assert {(trial.params["optimizer.lr"], trial.state.name) for trial in trials()} == {
        (1e30, "FAIL"),
        (1e-3, "COMPLETE"),
    }
    text = (SWEEP / "search.md").read_text()
    assert "| failed | training stopped: at step" in text
    assert (failures := list(SWEEP.glob("*/failure.txt")))
    # the next call reports and keeps it
    assert search({"optimizer.lr": [1e30, 1e-3]}, *LOSS, "max_steps=20", sweeper={"n_trials": 4, "seed": 1}).code == 0
    assert list(SWEEP.glob("*/failure.txt")) == failures


def test_undefined_objective_is_a_failed_trial(search, monkeypatch):
    monkeypatch.setattr("dcgan.train.objective_value", lambda *_: math.inf)
    outcome = search(SPACE, *LOSS, sweeper={"n_trials": 2})
    assert outcome.code == 0
    assert states() == ["FAIL"] * 2
    assert "the objective is not a finite number" in (SWEEP / "search.md").read_text()


def test_search_without_a_trial_that_starts_ends_early(search):
    outcome = search({"optimizer.lr": {"low": -2.0, "high": -1.0}}, *LOSS, sweeper={"n_trials": 10})
    assert outcome.code == 1
    assert len(trials()) == 3
    assert "all of the first 3 trials failed before their first step: Invalid learning rate" in outcome.err
    assert "Traceback" not in outcome.err


def test_parallel_trials_report_and_are_pruned_in_their_own_processes(tmp_path, mnist_root):
    (tmp_path / "forked_jobs.py").write_text(FORKED_JOBS)
    (tmp_path / "conf" / "search").mkdir(parents=True)
    pruner = {"_target_": "optuna.pruners.ThresholdPruner", "upper": 1e-3, "n_warmup_steps": 0}
    sweeper = {"n_trials": 2, "params": SPACE, "pruner": pruner, "prune_by": "train/loss_d"}
    content = {"defaults": [{"override /hydra/sweeper": "optuna"}], "hydra": {"sweeper": sweeper}}
    (tmp_path / "conf" / "search" / "tiny.yaml").write_text(f"# @package _global_\n{json.dumps(content)}")
    command = ["forked_jobs.py", "-m", "--config-dir", "conf", "search=tiny", *JOBS, *LOSS, "hydra/launcher=joblib"]
    done = run_forked(*command, "hydra.launcher.n_jobs=2", folder=tmp_path, DCGAN_DATA_DIR=str(mnist_root))
    assert states(tmp_path / SWEEP) == ["PRUNED"] * 2, done.stderr
    assert done.returncode == 1
    assert "no trial of the search is complete" in done.stderr
    assert "Traceback" not in done.stderr
    assert all((tmp_path / SWEEP / f"trial_{i:04}" / "checkpoints" / "last.ckpt").exists() for i in range(2))


def test_search_fast_runs(dcgan_train):
    overrides = ["experiment=search_fast", "metrics.every_n_steps=2", "hydra.sweeper.n_trials=2"]
    outcome = dcgan_train("-m", *JOBS, *overrides)
    assert outcome.code == 0, outcome.err
    assert states() == ["COMPLETE"] * 2
    assert "loss" in trials()[0].params
    summary = json.loads((SWEEP / "trial_0001" / "summary.json").read_text())
    assert summary["config"]["data"]["batch_size"] == 8
    assert summary["choices"]["model"] == "upsample_conv"


# --- mistakes


def check_sentence(outcome, sentence: str) -> None:
    assert outcome.code == 1
    assert sentence in outcome.err, outcome.err
    assert outcome.err.count("\n") == 1, outcome.err


def test_missing_extra_is_named(search, monkeypatch):
    monkeypatch.setattr("dcgan.runs.search.sweeper.find_spec", lambda name: None)
    check_sentence(search(SPACE), "a search needs Optuna: pip install 'dcgan[search]'")


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        ({"optimizer.lrr": [1]}, "there is no key optimizer.lrr: did you mean optimizer.lr?"),
        ({"discriminator": ["avg_pool", "nonsense"]}, "there is no discriminator=nonsense: options: avg_pool"),
        ({"optimizer.lr": 1e-3}, "the search space of optimizer.lr must be a list of options, or {low"),
        ({}, "the search space is empty: give search=NAME"),
    ],
    ids=["key", "option", "form", "empty"],
)
def test_wrong_space_is_rejected_before_the_first_trial(search, space, sentence):
    outcome = search(space)
    assert outcome.code == 1
    assert sentence in outcome.err, outcome.err
    assert "Traceback" not in outcome.err
    assert not SWEEP.exists()


def test_several_values_on_the_command_line_are_rejected(search):
    check_sentence(search(SPACE, "seed=0,1"), "seed=0,1 has several values: in a search, give them below")


@pytest.mark.parametrize(
    ("overrides", "sweeper", "sentence"),
    [
        (
            ["evaluator=none"],
            {},
            "objective=frechet is never reported by this run: choose another evaluator, or one of",
        ),
        (["objective=fretchet"], {}, "objective must be one of"),
        (LOSS, {"prune_by": "test/kid"}, "hydra.sweeper.prune_by=test/kid is never reported by this run"),
    ],
    ids=["not measured", "unknown", "pruner"],
)
def test_metric_that_is_never_reported_stops_the_search(search, overrides, sweeper, sentence):
    outcome = search(SPACE, *overrides, sweeper=sweeper)
    check_sentence(outcome, sentence)
    assert len(trials()) == 1


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["hydra.sweeper.sampler._target_=optuna.samplers.Nonsense"], "Nonsense"),
        (["+hydra.sweeper.sampler.nonsense=1"], "nonsense"),
        (["hydra.sweeper.pruner={_target_:optuna.pruners.MedianPruner,nonsense:1}"], "nonsense"),
    ],
    ids=["class", "argument", "pruner"],
)
def test_wrong_sampler_or_pruner_is_rejected_before_the_first_trial(search, overrides, sentence):
    outcome = search(SPACE, *overrides)
    assert outcome.code == 1
    assert sentence in outcome.err
    assert "Traceback" not in outcome.err
    assert not SWEEP.exists()


def test_commands_start_without_optuna():
    """Hydra imports the sweeper's module at the start of each command."""
    code = "import sys, hydra_plugins.dcgan_search as m; print('optuna' in sys.modules, 'torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["False", "False"]


def test_jobs_of_several_processes_are_rejected():
    """Their ranks could disagree about pruning."""
    with pytest.raises(SweepError, match="a search cannot run jobs of several processes: use trainer=gpu"):
        TrialReport("search.journal", 0).on_train_start(SimpleNamespace(world_size=2), None)


def test_search_without_m_is_rejected(dcgan_train):
    outcome = dcgan_train("search=fast", "hydra.run.dir=run")
    assert (outcome.code, outcome.err) == (1, "error: a search is many trainings: add -m\n")
    assert not Path("run").exists()
