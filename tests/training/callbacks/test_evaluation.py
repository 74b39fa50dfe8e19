import csv
import json
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves

from dcgan.common.command import CONF
from dcgan.metrics.base import value_name
from dcgan.metrics.distances import FrechetDistance
from dcgan.training.callbacks import evaluation
from dcgan.training.callbacks.evaluation import default_interval
from tests.conftest import TINY, compose_config
from tests.metrics.building import random_features
from tests.run_files import RUN, different_tensors, events, weights

NAMES = {
    "frechet",
    "kid",
    "coverage",
    "class_kl",
    "cb2",
    "pv2",
    "pv4",
    "classes",
    "confident",
    "precision",
    "recall",
    "density",
}


def read_column(name: str, run: str = "run") -> dict[int, float]:
    """Return the values of a metric by step."""
    with Path(run, "metrics.csv").open(newline="") as file:
        return {int(row["step"]): float(row[name]) for row in csv.DictReader(file) if row.get(name)}


def test_metrics_are_logged_at_the_interval_and_at_the_end(dcgan_train):
    outcome = dcgan_train(*TINY, *RUN, "max_steps=7", "metrics.every_n_steps=3")
    assert outcome.code == 0, outcome.err
    assert set(read_column("test/frechet")) == {3, 6, 7}
    board = events()
    assert {f"test/{name}" for name in NAMES} <= set(board.Tags()["scalars"])
    # the checkerboard also before the first step
    assert [event.step for event in board.Scalars("test/cb2")] == [0, 3, 6, 7]
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["metrics"].keys() >= NAMES
    assert summary["metrics"]["frechet"] == pytest.approx(read_column("test/frechet")[7])
    assert summary["better"]["frechet"] == "lower"
    assert summary["judge"]["data"] == "MNIST"
    assert summary["metrics_seconds"] > 0
    assert "_hparams_/session_start_info" in board.summary_metadata


@pytest.mark.parametrize(
    ("steps", "evaluated"),
    [(1, [1]), (300, [300]), (1999, [1999]), (2001, [1001, 2001]), (9360, [1872, 3744, 5616, 7488, 9360])],
)
def test_default_is_one_evaluation_per_1000_steps_and_at_most_five(steps, evaluated):
    interval = default_interval(steps)
    assert [*range(interval, steps, interval), steps] == evaluated


def test_short_run_is_measured_at_its_end_only_with_all_samples(dcgan_train):
    dcgan_train(*TINY, *RUN, "max_epochs=2", "data.limit=40")
    assert list(read_column("test/frechet")) == [10]


def test_evaluation_does_not_change_the_weights(dcgan_train):
    for name, overrides in {
        "often": ["metrics.every_n_steps=1", "evaluator=full"],
        "never": ["evaluator=none", "health.patience=1"],
    }.items():
        dcgan_train(*TINY, *RUN, "max_steps=6", "discriminator.dropout=.2", f"hydra.run.dir={name}", *overrides)
    assert different_tensors(weights("often"), weights("never")) == []
    assert not Path("never/checkpoints/best.ckpt").exists()
    assert "frechet" not in json.loads(Path("never/summary.json").read_text())["metrics"]


def test_time_of_the_evaluation_is_excluded_from_the_training_time(dcgan_train, monkeypatch):
    def slow_measure(*_) -> dict[str, float]:
        time.sleep(1)
        return {}

    monkeypatch.setattr("dcgan.training.callbacks.evaluation.measure", slow_measure)
    dcgan_train(*TINY, *RUN, "max_steps=2", "metrics.every_n_steps=1")
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["metrics_seconds"] > 3
    assert summary["wall_seconds"] < 2


def set_distances(monkeypatch, *values: float) -> None:
    """Let the Frechet distance return these values, one after the other."""
    remaining = list(values)
    monkeypatch.setattr(FrechetDistance, "__call__", lambda self, samples, real: {"frechet": remaining.pop(0)})


def best_step(run: str = "run") -> int:
    return torch.load(f"{run}/checkpoints/best.ckpt", weights_only=True)["step"]


def test_best_ckpt_has_the_lowest_frechet_distance(dcgan_train, monkeypatch):
    set_distances(monkeypatch, 9.0, 4.0, 5.0, 4.5)
    dcgan_train(*TINY, *RUN, "max_steps=4", "metrics.every_n_steps=1")
    assert best_step() == 2
    assert json.loads(Path("run/summary.json").read_text())["best_step"] == 2
    assert torch.load("run/checkpoints/last.ckpt", weights_only=True)["step"] == 4


def test_resumed_run_remembers_the_best_distance(dcgan_train, monkeypatch):
    set_distances(monkeypatch, 9.0, 4.0, 5.0, 4.5, 3.0)
    run = [*TINY, *RUN, "metrics.every_n_steps=1"]
    dcgan_train(*run, "max_steps=2")
    dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=4")
    assert best_step() == 2
    dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=5")
    assert best_step() == 5


def test_run_resumed_in_another_folder_has_its_own_best_ckpt(dcgan_train, monkeypatch):
    set_distances(monkeypatch, 4.0, 5.0)
    dcgan_train(*TINY, *RUN, "max_steps=1", "metrics.every_n_steps=1")
    dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=2", "hydra.run.dir=elsewhere")
    assert best_step("elsewhere") == 2


def test_jobs_of_a_sweep_save_no_best_ckpt_unless_asked(dcgan_train):
    sweep = ["-m", *TINY, *RUN, "max_steps=1", "seed=0,1"]
    for name, more, files in (("default", [], 0), ("asked", ["checkpoints.best=true"], 2)):
        assert dcgan_train(*sweep, f"sweep.name={name}", *more).code == 0
        assert len([*Path(f"runs/sweeps/{name}").glob("*/checkpoints/best.ckpt")]) == files
        assert len([*Path(f"runs/sweeps/{name}").glob("*/checkpoints/last.ckpt")]) == 2


def test_resumed_job_without_best_ckpt_remembers_the_best_distance(dcgan_train, monkeypatch):
    set_distances(monkeypatch, 4.0, 5.0)
    dcgan_train(*TINY, *RUN, "max_steps=1", "checkpoints.best=false")
    dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=2", "checkpoints.best=false")
    assert json.loads(Path("run/summary.json").read_text())["best_step"] == 1


def test_undefined_distance_is_never_the_best(dcgan_train, monkeypatch):
    set_distances(monkeypatch, float("nan"), float("nan"))
    assert dcgan_train(*TINY, *RUN, "max_steps=2", "metrics.every_n_steps=1").code == 0
    assert not Path("run/checkpoints/best.ckpt").exists()
    assert json.loads(Path("run/summary.json").read_text())["metrics"]["frechet"] is None


def test_distances_are_measured_without_a_judge(dcgan_train):
    outcome = dcgan_train(*TINY, *RUN, "max_steps=1", "data=digits")
    assert outcome.code == 0, outcome.err
    (line,) = [line for line in outcome.out.splitlines() if line.startswith("metrics")]
    assert (
        "no judge for Digits (python -m dcgan.metrics.train_judge data=digits and the same data.* keys trains one)"
        in line
    )
    assert "distances are measured in random_conv" in line
    summary = json.loads(Path("run/summary.json").read_text())
    assert {"cb2", "frechet_random_conv", "coverage_random_conv"} <= summary["metrics"].keys()
    assert not {"frechet", "classes"} & summary["metrics"].keys()
    assert summary["better"]["coverage_random_conv"] == "higher"
    assert summary["features"]["random_conv"]["version"] == 1
    assert summary["judge"] is None
    assert best_step() == 1


def test_judge_that_was_chosen_and_is_missing_is_reported(dcgan_train):
    outcome = dcgan_train(*TINY, *RUN, "max_steps=1", "data=digits", "features=judge")
    assert outcome.code == 0, outcome.err
    assert "there is no judge for Digits yet" in outcome.out
    assert "nothing is measured, no best.ckpt saved" in outcome.out
    assert "cb2" not in json.loads(Path("run/summary.json").read_text())["metrics"]


def test_best_ckpt_is_selected_in_the_first_features(dcgan_train, monkeypatch):
    remaining = [{"judge": 3.0, "random_conv": 1.0}, {"judge": 1.0, "random_conv": 2.0}]

    def measure(self, samples, real):
        distances = remaining.pop(0)
        return {value_name("frechet", space): distances[space] for space in real.spaces}

    monkeypatch.setattr(FrechetDistance, "__call__", measure)
    features = "features=[random_conv,judge]"
    outcome = dcgan_train(*TINY, *RUN, "max_steps=2", "metrics.every_n_steps=1", features)
    assert outcome.code == 0, outcome.err
    assert best_step() == 1


def test_best_distance_in_other_features_is_forgotten(dcgan_train, monkeypatch):
    distances = {"judge": 1.0, "random_conv": 5.0}
    monkeypatch.setattr(
        FrechetDistance,
        "__call__",
        lambda self, samples, real: {value_name("frechet", space): distances[space] for space in real.spaces},
    )
    assert dcgan_train(*TINY, *RUN, "max_steps=1").code == 0
    resumed = dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=2", "features=random_conv")
    assert resumed.code == 0, resumed.err
    assert best_step() == 2


def test_images_with_three_equal_channels_have_the_judge_of_grey_ones(dcgan_train):
    outcome = dcgan_train(*TINY, *RUN, "max_steps=1", "data.channels=3")
    assert outcome.code == 0, outcome.err
    assert {"cb2", "frechet", "classes"} <= json.loads(Path("run/summary.json").read_text())["metrics"].keys()


@pytest.mark.parametrize(
    ("override", "message"),
    [("metrics.every_n_steps=0", "metrics.every_n_steps must be"), ("metrics.n=-1", "metrics.n must be")],
)
def test_bad_settings_are_rejected(dcgan_train, override, message):
    outcome = dcgan_train(*TINY, *RUN, "max_steps=1", override)
    assert outcome.code == 1
    assert message in outcome.err


def test_images_are_generated_on_the_networks_device():
    gan = SimpleNamespace(device=torch.device("meta"), sample=lambda z, label: z)
    assert evaluation.generate_images(gan, torch.zeros(1200, 2), torch.arange(1200)).device.type == "meta"


def test_ranks_send_cpu_tensors_and_rank_0_moves_them_to_its_device(monkeypatch):
    sent = []
    monkeypatch.setattr(evaluation, "all_gather", lambda trainer, value: [sent.append(value) or value] * 2)
    ranks = [SimpleNamespace(world_size=2, is_global_zero=is_zero) for is_zero in (True, False)]
    with FakeTensorMode(allow_non_fake_inputs=True):
        own = replace(random_features(5, 0), labels=torch.arange(5)).to(torch.device("cuda"))
        joined, nothing = (evaluation.gather_features(rank, own) for rank in ranks)
        alone = evaluation.gather_features(SimpleNamespace(world_size=1), own)
    assert nothing is None
    assert alone is own
    assert len(joined) == len(joined.labels) == 10
    assert {tensor.device.type for tensor in tree_leaves(vars(joined))} == {"cuda"}
    assert {tensor.device.type for value in sent for tensor in tree_leaves(vars(value))} == {"cpu"}


def test_training_metrics_are_a_subset_of_the_evaluation_metrics():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        full = compose("evaluate").evaluator
    assert compose_config().evaluator.items() < full.items()
