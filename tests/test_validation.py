import csv
import json
import time
from pathlib import Path

import pytest
import torch

from dcgan.metrics.distances import FrechetDistance
from tests.conftest import TINY, compose_config
from tests.runs import RUN, differing, events, weights

NAMES = {
    "frechet",
    "kid",
    "coverage",
    "class_kl",
    "cb2",
    "pv2",
    "pv4",
    "classes",
    "sure",
    "precision",
    "recall",
    "density",
}


def rows(column: str, run: str = "run") -> dict[int, float]:
    with Path(run, "metrics.csv").open(newline="") as file:
        return {int(row["step"]): float(row[column]) for row in csv.DictReader(file) if row.get(column)}


def test_the_figures_appear_at_their_steps_and_at_the_end_everywhere(dcgan_train):
    outcome = dcgan_train(*TINY, *RUN, "max_steps=7", "metrics.every_n_steps=3")
    assert outcome.code == 0, outcome.err
    assert set(rows("val/frechet")) == {3, 6, 7}
    board = events()
    assert {f"val/{name}" for name in NAMES} <= set(board.Tags()["scalars"])
    assert [event.step for event in board.Scalars("val/cb2")] == [
        0,
        3,
        6,
        7,
    ]  # the checkerboard is there from the start
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["metrics"].keys() >= NAMES
    assert summary["metrics"]["frechet"] == pytest.approx(rows("val/frechet")[7])
    assert summary["better"]["frechet"] == "lower"
    assert summary["judge"]["data"] == "MNIST"
    assert summary["metrics_seconds"] > 0
    hparams = board.summary_metadata["_hparams_/experiment"].plugin_data.content
    assert b"val/frechet" in hparams


def test_a_run_is_measured_five_times_where_nothing_else_is_said(dcgan_train):
    dcgan_train(*TINY, *RUN, "max_steps=10")
    assert list(rows("val/frechet")) == [2, 4, 6, 8, 10]
    dcgan_train(*TINY, *RUN, "max_epochs=2", "hydra.run.dir=epochs", "data.limit=40")
    assert list(rows("val/frechet", "epochs")) == [2, 4, 6, 8, 10]


def test_measuring_does_not_change_the_weights(dcgan_train):
    for name, options in {
        "often": ["metrics.every_n_steps=1", "evaluator=full"],
        "never": ["evaluator=none", "health.patience=1"],
    }.items():
        dcgan_train(*TINY, *RUN, "max_steps=6", "discriminator.dropout=.2", f"hydra.run.dir={name}", *options)
    assert differing(weights("often"), weights("never")) == []
    assert not Path("never/checkpoints/best.ckpt").exists()
    assert "frechet" not in json.loads(Path("never/summary.json").read_text())["metrics"]


def test_the_clock_of_the_training_stands_still_meanwhile(dcgan_train, monkeypatch):
    def slowly(*_) -> dict[str, float]:
        time.sleep(2)
        return {}

    monkeypatch.setattr("dcgan.validation.measure", slowly)
    dcgan_train(*TINY, *RUN, "max_steps=2", "metrics.every_n_steps=1")
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["metrics_seconds"] > 6
    assert summary["wall_seconds"] < 2


def planned(monkeypatch, *values: float) -> None:
    """Let the Frechet distance take these values, one after the other."""
    left = list(values)
    monkeypatch.setattr(FrechetDistance, "__call__", lambda self, samples, real: {"frechet": left.pop(0)})


def best() -> int:
    return torch.load("run/checkpoints/best.ckpt", weights_only=True)["step"]


def test_best_ckpt_holds_the_state_with_the_lowest_frechet_distance(dcgan_train, monkeypatch):
    planned(monkeypatch, 9.0, 4.0, 5.0, 4.5)
    dcgan_train(*TINY, *RUN, "max_steps=4", "metrics.every_n_steps=1")
    assert best() == 2
    assert torch.load("run/checkpoints/last.ckpt", weights_only=True)["step"] == 4


def test_the_best_figure_is_remembered_by_a_resumed_run(dcgan_train, monkeypatch):
    planned(monkeypatch, 9.0, 4.0, 5.0, 4.5, 3.0)
    run = [*TINY, *RUN, "metrics.every_n_steps=1"]
    dcgan_train(*run, "max_steps=2")
    dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=4")
    assert best() == 2
    dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=5")
    assert best() == 5


def test_a_run_that_goes_on_elsewhere_keeps_a_best_of_its_own(dcgan_train, monkeypatch):
    planned(monkeypatch, 4.0, 5.0)
    dcgan_train(*TINY, *RUN, "max_steps=1", "metrics.every_n_steps=1")
    dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=2", "hydra.run.dir=elsewhere")
    assert torch.load("elsewhere/checkpoints/best.ckpt", weights_only=True)["step"] == 2


def test_an_undefined_distance_is_never_the_best(dcgan_train, monkeypatch):
    planned(monkeypatch, float("nan"), float("nan"))
    assert dcgan_train(*TINY, *RUN, "max_steps=2", "metrics.every_n_steps=1").code == 0
    assert not Path("run/checkpoints/best.ckpt").exists()
    assert json.loads(Path("run/summary.json").read_text())["metrics"]["frechet"] is None


def test_without_a_judge_one_line_says_so_and_the_checkerboard_is_still_measured(dcgan_train):
    outcome = dcgan_train(*TINY, *RUN, "max_steps=1", "data=digits")
    assert outcome.code == 0, outcome.err
    (line,) = [line for line in outcome.out.splitlines() if line.startswith("metrics")]
    assert "there is no judge for Digits yet (python -m dcgan.metrics.classifier data=digits trains one)" in line
    assert "checkerboard will be measured, no best.ckpt kept" in line
    metrics = json.loads(Path("run/summary.json").read_text())["metrics"]
    assert "cb2" in metrics
    assert "frechet" not in metrics
    assert not Path("run/checkpoints/best.ckpt").exists()


def test_colour_pictures_train_without_a_judge(dcgan_train):
    outcome = dcgan_train(*TINY, *RUN, "max_steps=1", "data.channels=3")
    assert outcome.code == 0, outcome.err
    assert "judges see grey images" in outcome.out
    assert "cb2" in json.loads(Path("run/summary.json").read_text())["metrics"]


@pytest.mark.parametrize(
    ("override", "sentence"),
    [("metrics.every_n_steps=0", "metrics.every_n_steps must be"), ("metrics.n=-1", "metrics.n must be")],
)
def test_bad_intervals_are_refused(dcgan_train, override, sentence):
    outcome = dcgan_train(*TINY, *RUN, "max_steps=1", override)
    assert outcome.code == 1
    assert sentence in outcome.err


def test_training_measures_a_part_of_what_an_evaluation_does():
    from hydra import compose, initialize_config_dir

    from dcgan import cli

    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        full = compose("evaluate").evaluator
    light = compose_config().evaluator
    assert light.items() < full.items()
