"""Sweeps: the folders of their jobs, failed jobs, and resume after a kill."""

import json
import signal
import time
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from dcgan.common.command import CONF, group_overrides
from dcgan.runs.sweeps import count_jobs, job_name, name_sweep
from dcgan.training.run import train as run_training
from tests.conftest import TINY
from tests.processes import ForkedProcess, members, run_forked
from tests.run_files import different_tensors, weights

RUN = ["trainer=cpu", "max_steps=2", "samples.steps=[0]"]


def folders(sweep: Path) -> list[str]:
    return sorted(path.name for path in sweep.iterdir() if path.is_dir())


def single_sweep() -> Path:
    (sweep,) = Path("runs/sweeps").iterdir()
    return sweep


def test_job_name_has_only_swept_overrides():
    overrides = ["model=upsample_conv", "max_steps=5", "seed=1"]
    assert job_name(overrides, ["model", "seed"]) == "model=upsample_conv,seed=1"


def test_job_name_has_keys_of_the_sweeper_params():
    assert job_name(["seed=1", "loss=hinge"], [], {"seed": "0,1"}) == "seed=1"
    assert job_name(["max_steps=5"], []) == "single"


@pytest.mark.parametrize("arguments", [["-m", "a=1,2"], ["a=1,2", "-m"], ["a=1,2", "--config-dir", "d", "-m", "b=3"]])
def test_overrides_may_stand_anywhere_among_the_options(arguments):
    parsed = get_args_parser().parse_args(name_sweep(group_overrides(arguments)))
    assert parsed.multirun
    assert parsed.config_dir == ("d" if "d" in arguments else None)
    assert parsed.overrides[0] == "a=1,2"
    assert "sweep.keys=[a]" in parsed.overrides


def test_job_name_is_path_safe_short_and_unique():
    names = {job_name([f"data.root=/a b/{c}"], ["data.root"]) for c in "/.:"}
    assert len(names) == 3
    assert all("/" not in name and " " not in name for name in names)
    long = [job_name([f"x=[{','.join(map(str, range(n)))}]"], ["x"]) for n in (100, 101)]
    assert long[0] != long[1]
    assert all(len(name) < 140 for name in long)


def test_sweep_hash_depends_only_on_the_command():
    def sweep_hash(*arguments: str) -> str:
        (override,) = [a for a in name_sweep(["-m", *arguments]) if a.startswith("sweep.hash=")]
        return override

    assert sweep_hash("seed=0,1", "loss=hinge") == sweep_hash("loss=hinge", "seed=0,1")
    rerun = ["skip_finished=true", "jobs_per_gpu=2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    assert sweep_hash("seed=0,1") == sweep_hash("seed=0,1", *rerun)
    assert sweep_hash("seed=0,1") != sweep_hash("seed=0,1,2")
    assert sweep_hash("seed=0,1") != sweep_hash("seed=0,1", "--config-name=mine")


def test_sweep_keys_are_the_swept_keys():
    parsed = OverridesParser.create().parse_overrides(name_sweep(["-m", "seed=range(3)", "model=a,b"])[1:])
    values = {o.get_key_element(): o.value() for o in parsed if not o.is_sweep_override()}
    assert values["sweep.keys"] == ["seed", "model"]


def test_every_combination_runs_in_its_own_folder(dcgan_train):
    outcome = dcgan_train("-m", *TINY, *RUN, "model=transposed_conv,upsample_conv", "seed=0,1")
    assert outcome.code == 0, outcome.err
    sweep = single_sweep()
    assert folders(sweep) == sorted(
        f"model={model},seed={seed}" for model in ("transposed_conv", "upsample_conv") for seed in (0, 1)
    )
    assert f"tensorboard --logdir {sweep}" in outcome.out
    announced = [line for line in outcome.out.splitlines() if line.startswith("job ")]
    assert announced[1] == "job          2 of 4: model=transposed_conv,seed=1"
    assert len(announced) == 4
    for folder in folders(sweep):
        summary = json.loads((sweep / folder / "summary.json").read_text())
        assert f"model={summary['hyperparameters']['model']},seed={summary['hyperparameters']['seed']}" == folder
        assert list((sweep / folder).glob("events.out.tfevents.*"))


@pytest.mark.parametrize(
    ("sweeper", "overrides", "jobs"),
    [
        ({}, ["seed=range(5)", "model=a,b", "max_steps=3"], 10),
        ({"params": {"seed": "range(5)", "loss": "a,b"}}, ["seed=0,1,2"], 6),  # the command line wins
        ({"params": None}, ["max_steps=3"], 1),
        ({"n_trials": 16, "params": {"optimizer.lr": {"low": 1, "high": 2}}}, ["max_steps=3"], 16),
        ({}, ["model=glob(*)"], None),
    ],
)
def test_number_of_jobs(sweeper, overrides, jobs):
    assert count_jobs(OmegaConf.create({"hydra": {"sweeper": sweeper, "overrides": {"task": overrides}}})) == jobs


@pytest.mark.parametrize("digits", ["12e34567", "00123456"])
def test_hash_of_digits_is_read_as_a_string(dcgan_train, monkeypatch, digits):
    monkeypatch.setattr("dcgan.runs.sweeps.short_hash", lambda text: digits)
    outcome = dcgan_train("-m", *TINY, *RUN, "seed=0,1")
    assert outcome.code == 0, outcome.err
    assert single_sweep().name == digits
    assert json.loads((single_sweep() / "seed=0" / "summary.json").read_text())["config"]["sweep"]["hash"] == digits


def test_failed_job_is_reported_and_does_not_stop_the_others(dcgan_train):
    outcome = dcgan_train("-m", *TINY, *RUN, "optimizer.lr=-1,1e-3", "sweep.name=mine")
    assert outcome.code == 1
    sweep = Path("runs/sweeps/mine")
    assert (sweep / "optimizer.lr=0.001" / "summary.json").exists()
    assert not (sweep / "optimizer.lr=-1" / "summary.json").exists()
    assert "Invalid learning rate: -1" in (sweep / "optimizer.lr=-1" / "failure.txt").read_text()
    assert outcome.err.strip().splitlines()[-1].startswith("failed       optimizer.lr=-1: Invalid learning rate: -1")
    assert "Traceback" not in outcome.err
    # another sweep in the same folder reports only its own failures
    assert dcgan_train("-m", *TINY, *RUN, "optimizer.lr=2e-3,3e-3", "sweep.name=mine").code == 0


def test_sweep_without_swept_keys_is_one_job(dcgan_train):
    assert dcgan_train("-m", *TINY, *RUN, "optimizer.lr=-1", "sweep.name=mine").code == 1
    assert Path("runs/sweeps/mine/single/failure.txt").exists()


def test_skip_finished_runs_only_unfinished_jobs(dcgan_train):
    command = ["-m", *TINY, *RUN, "seed=0,1", "sweep.name=mine"]
    assert dcgan_train(*command).code == 0
    first, second = (Path("runs/sweeps/mine") / f"seed={seed}" for seed in (0, 1))
    before = (first / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    (second / "summary.json").unlink()  # as if it had been killed after its last checkpoint
    outcome = dcgan_train(*command)
    assert outcome.code == 1
    assert "skip_finished=true" in outcome.err
    outcome = dcgan_train(*command, "skip_finished=true")
    assert outcome.code == 0, outcome.err
    assert "finished     seed=0" in outcome.out
    assert "finished     seed=1" not in outcome.out
    assert (first / "checkpoints" / "last.ckpt").stat().st_mtime_ns == before
    assert (second / "summary.json").exists()


def test_job_with_other_settings_than_its_folder_is_rejected(dcgan_train):
    """A sweep.name from the user does not contain the settings."""
    command = ["-m", *TINY, *RUN, "seed=0,1", "sweep.name=mine", "skip_finished=true"]
    assert dcgan_train(*command).code == 0
    (Path("runs/sweeps/mine") / "seed=1" / "summary.json").unlink()
    outcome = dcgan_train(*command, "optimizer.generator.lr=1e-3", "log.every_n_steps=7")
    assert outcome.code == 1
    for seed in (0, 1):
        message = f"runs/sweeps/mine/seed={seed} was begun with optimizer.generator.lr=0.0002, but now "
        assert f"{message}optimizer.generator.lr=0.001: remove that folder" in outcome.err
    assert dcgan_train(*command, "log.every_n_steps=7").code == 0  # does not affect the results


HANG = """
import time
from dcgan import train
from dcgan.gan import GAN
step = GAN.training_step
def hang(self, batch, batch_idx):
    if self.seed == 1 and self.step == 15:
        open("hanging", "w").close()
        time.sleep(600)
    return step(self, batch, batch_idx)
GAN.training_step = hang
train.main()
"""


def test_rerun_of_a_killed_sweep_resumes_its_unfinished_job(tmp_path, mnist_root, dcgan_train):
    (tmp_path / "hang.py").write_text(HANG)
    settings = [*TINY, "trainer=cpu", "evaluator=none", "samples.steps=[0]", "checkpoints.every_n_steps=10"]
    command = ["-m", *settings, "max_steps=20", "seed=0,1,2", "sweep.name=mine", "skip_finished=true"]
    process = ForkedProcess(["hang.py", *command], tmp_path, DCGAN_DATA_DIR=str(mnist_root))
    first, second, third = (Path("runs/sweeps/mine") / f"seed={seed}" for seed in (0, 1, 2))
    try:
        end = time.monotonic() + 120
        while not Path("hanging").exists():
            assert time.monotonic() < end
            time.sleep(0.02)
    finally:
        process.kill_group()
    before = (first / "summary.json").read_bytes()
    assert not (second / "summary.json").exists()
    assert not third.exists()
    outcome = dcgan_train(*command)
    assert outcome.code == 0, outcome.err
    assert "finished     seed=0" in outcome.out
    (resume,) = [line for line in outcome.out.splitlines() if line.startswith("resume       ")]
    assert f"{second}/checkpoints/last.ckpt, step 10" in resume
    assert (first / "summary.json").read_bytes() == before
    assert json.loads((third / "summary.json").read_text())["step"] == 20
    dcgan_train(*settings, "max_steps=20", "seed=1", "hydra.run.dir=uninterrupted")
    assert different_tensors(weights("uninterrupted"), weights(second)) == []


def test_ctrl_c_at_the_end_of_a_job_stops_the_sweep(dcgan_train, monkeypatch):
    monkeypatch.setattr(
        "dcgan.training.callbacks.sample_grids.SampleGrids.on_train_end", lambda *_: signal.raise_signal(signal.SIGINT)
    )
    outcome = dcgan_train("-m", *TINY, *RUN, "seed=0,1", "sweep.name=mine")
    assert outcome.code == 130
    assert "interrupted at the end of the run: it is finished" in outcome.err
    assert Path("runs/sweeps/mine/seed=0/summary.json").exists()
    assert not Path("runs/sweeps/mine/seed=1").exists()


def test_sweep_of_distributed_jobs_is_rejected(dcgan_train):
    outcome = dcgan_train("-m", *TINY, "trainer=ddp_cpu", "max_steps=1", "seed=0,1")
    assert outcome.code == 1
    assert "a job of a sweep cannot run several processes" in outcome.err


# the real command, whose jobs need no imports
FORKED_JOBS = """
from joblib.externals.loky.backend.context import set_start_method
from dcgan import train

set_start_method("fork")
train.main()
"""


def test_joblib_launcher_runs_jobs_in_parallel(tmp_path, mnist_root):
    (tmp_path / "forked_jobs.py").write_text(FORKED_JOBS)
    command = ["forked_jobs.py", "-m", *TINY, *RUN, "seed=0,1,-1", "hydra/launcher=joblib"]
    done = run_forked(*command, "hydra.launcher.n_jobs=2", folder=tmp_path, DCGAN_DATA_DIR=str(mnist_root))
    (sweep,) = (tmp_path / "runs" / "sweeps").iterdir()
    assert folders(sweep) == ["seed=-1", "seed=0", "seed=1"]
    for seed in (0, 1):
        assert (sweep / f"seed={seed}" / "summary.json").exists(), done.stderr
    assert done.returncode == 1
    assert "failed       seed=-1: seed must be an integer >= 0, got -1" in done.stderr
    assert "Traceback" not in done.stderr


# the jobs that outlive a SIGKILL are new interpreters, as all jobs of joblib
@pytest.mark.parametrize(
    ("number", "script"),
    [(signal.SIGKILL, ["-m", "dcgan.train"]), (signal.SIGTERM, ["forked_jobs.py"])],
    ids=["SIGKILL", "SIGTERM"],
)
def test_jobs_of_a_parallel_sweep_end_with_it_and_are_resumed(
    tmp_path, mnist_root, dcgan_train, monkeypatch, number, script
):
    (tmp_path / "forked_jobs.py").write_text(FORKED_JOBS)
    settings = [*TINY, "trainer=cpu", "evaluator=none", "samples.steps=[0,40]", "sweep.name=mine", "skip_finished=true"]
    command = ["-m", *settings, "max_steps=100000"]
    parallel = ["seed=0,1,2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    process = ForkedProcess([*script, *command, *parallel], tmp_path, DCGAN_DATA_DIR=str(mnist_root))
    sweep = Path("runs/sweeps/mine")
    try:
        end = time.monotonic() + 120
        while len(list(sweep.glob("*/samples/step_000040.png"))) < 2:
            assert time.monotonic() < end
            time.sleep(0.05)
        process.send_signal(number)
        process.wait(10)
        resumed = []

        def train_two_steps(cfg, run_dir, choices, gpu, resume):
            resumed.append(resume.step)
            cfg.max_steps = resume.step + 2
            return run_training(cfg, run_dir, choices, gpu, resume)

        monkeypatch.setattr("dcgan.training.run.train", train_two_steps)
        outcome = dcgan_train(*command, "seed=0,1")
        assert outcome.code == 0, outcome.err
        assert outcome.out.count("resume       ") == 2
        assert min(resumed) >= 40  # each has saved its state at its end
        end = time.monotonic() + 30
        while members(process.pid):
            assert time.monotonic() < end, f"processes {members(process.pid)} are still running"
            time.sleep(0.05)
        assert not (sweep / "seed=2").exists()
    finally:
        process.kill_group()


def test_sweep_folders_are_below_runs_sweeps():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", overrides=["sweep.name=x"], return_hydra_config=True)
    assert config.hydra.sweep.dir == "runs/sweeps/x"
