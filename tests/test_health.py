"""Runs broken on purpose must be told; healthy ones must be left in peace."""

import csv
import math
import re
from pathlib import Path

import pytest
import torch

from dcgan import health
from dcgan.losses import Hinge, LeastSquares, Minimax, NonSaturating, Wasserstein
from dcgan.networks import Generator
from tests.conftest import TINY
from tests.runs import RUN, events

# small, but enough to draw ink that differs from image to image after 30 steps
DIGITS = ["data=digits", "data.batch_size=32", "model.base_channels=8", "model.latent_dim=16", "model.hidden_width=64"]
LEARNS = [*DIGITS, "optimizer.lr=2e-3", "samples.n=32", "trainer=cpu", "hydra.run.dir=run", "samples.steps=[0]"]
LOOKS = ["log.every_n_steps=2", "log.activity_every_n_steps=1000", "evaluator=none", "health.patience=20"]
QUICK = [*LEARNS, *LOOKS, "max_steps=60"]


def told(out: str) -> list[str]:
    """The symptoms that the console was told of, by name."""
    lines = [line for line in out.splitlines() if line.startswith("health")]
    return [name for name, sentence in health.SYMPTOMS.items() if any(sentence in line for line in lines)]


def curve(name: str) -> list[float]:
    with Path("run/metrics.csv").open(newline="") as file:
        return [float(row[f"health/{name}"]) for row in csv.DictReader(file) if row.get(f"health/{name}")]


def test_a_healthy_run_is_left_in_peace(dcgan_train):
    outcome = dcgan_train(*QUICK)
    assert outcome.code == 0, outcome.err
    assert told(outcome.out) == []
    for name in health.SYMPTOMS:
        assert len(curve(name)) == 30


def test_a_generator_that_draws_one_image_is_told_and_shown(dcgan_train, monkeypatch):
    draw = Generator.forward
    monkeypatch.setattr(Generator, "forward", lambda self, z, label=None: draw(self, z)[:1].expand(len(z), -1, -1, -1))
    outcome = dcgan_train(*QUICK)
    assert "collapse" in told(outcome.out)
    assert "all samples look alike since step 2: try" in outcome.out
    board = events()
    text = board.Tensors("health/text_summary")
    assert any(b"all samples look alike" in event.tensor_proto.string_val[0] for event in text)
    assert board.Scalars("health/collapse")[-1].value == 1


def test_a_frozen_generator_is_told(dcgan_train):
    outcome = dcgan_train(
        *QUICK, "optimizer.generator.lr=1e-30", "normalization=none", "optimizer.discriminator.lr=.01"
    )
    assert {"frozen_generator", "saturated_discriminator"} <= set(told(outcome.out))


def test_a_discriminator_that_is_never_updated_starves_the_generator(dcgan_train):
    outcome = dcgan_train(*QUICK, "optimizer.discriminator.lr=1e-30", "optimizer.generator.lr=.01")
    assert "starved_generator" in told(outcome.out)
    assert "saturated_discriminator" not in told(outcome.out)


def test_a_learning_rate_a_hundred_times_too_high_is_told(dcgan_train):
    outcome = dcgan_train(*QUICK, "optimizer.lr=.2", "normalization=none")
    assert set(told(outcome.out)) & {"collapse", "saturated_discriminator", "starved_generator"}


def test_missing_classes_are_told_where_the_judge_is_sure_of_the_samples(dcgan_train, monkeypatch):
    from dcgan.metrics.classes import ClassBalance

    def run(classes: int, sure: float) -> list[str]:
        figures = {"classes": classes, "class_kl": 1.0, "sure": sure}
        monkeypatch.setattr(ClassBalance, "__call__", lambda self, samples, real: figures)
        options = ["max_steps=20", "metrics.every_n_steps=4", "health.patience=6", f"hydra.run.dir=run{classes}{sure}"]
        return told(dcgan_train(*TINY, *RUN, *options).out)

    assert "missing_classes" in run(3, 0.9)
    assert "missing_classes" not in run(3, 0.3)
    assert "missing_classes" not in run(10, 0.9)


def test_stop_ends_the_run_with_its_state_saved(dcgan_train):
    broken = ["optimizer.discriminator.lr=1e-30", "optimizer.generator.lr=.01", "health.action=stop"]
    outcome = dcgan_train(*QUICK, *broken)
    assert outcome.code == 1
    found = re.search(r"error: stopped at step (\d+), because .* holds its state", outcome.err)
    assert found
    assert "Traceback" not in outcome.err
    assert torch.load("run/checkpoints/last.ckpt", weights_only=True)["step"] == int(found[1]) < 60
    assert not Path("run/summary.json").exists()


def test_a_symptom_is_said_once_also_by_a_resumed_run(dcgan_train):
    broken = ["optimizer.discriminator.lr=1e-30", "optimizer.generator.lr=.01"]
    first = dcgan_train(*QUICK, *broken)
    sentence = health.SYMPTOMS["starved_generator"]
    assert first.out.count(sentence) == 1
    again = dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=80")
    assert again.code == 0, again.err
    assert sentence not in again.out


def test_a_symptom_that_passes_soon_is_not_said(dcgan_train, monkeypatch):
    values = iter([1.0, *[0.0, 0.0, 1.0] * 100])  # of the real images first
    monkeypatch.setattr(health, "diversity", lambda images: next(values))
    assert told(dcgan_train(*QUICK).out) == []
    assert curve("collapse")[:6] == [1, 1, 0, 1, 1, 0]


def test_nan_is_noted_in_tensorboard(dcgan_train):
    outcome = dcgan_train(*QUICK, "optimizer.lr=1e30", "normalization=none")
    assert outcome.code == 1
    text = events().Tensors("health/text_summary")
    assert b"training stopped: at step" in text[-1].tensor_proto.string_val[0]


@pytest.mark.parametrize(
    ("loss", "least", "undecided"),
    [
        (NonSaturating(), 0, 2 * math.log(2)),
        (Minimax(label_smoothing=0.1), -0.1 * math.log(0.1) - 0.9 * math.log(0.9), 2 * math.log(2)),
        (Hinge(), 0, 2),
        (LeastSquares(), 0, None),
        (Wasserstein(), -math.inf, 0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_discriminator_that_knows_all_has_the_least_loss(loss, least, undecided):
    found = health.range_of_loss(loss)
    assert found[0] == pytest.approx(least, abs=1e-3)
    assert undecided is None or found[1] == pytest.approx(undecided)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("health.action=pray", "health.action must be one of warn, stop"),
        ("health.patience=0", "health.patience must be"),
    ],
)
def test_bad_settings_are_refused(dcgan_train, override, sentence):
    outcome = dcgan_train(*TINY, *RUN, "max_steps=1", override)
    assert outcome.code == 1
    assert sentence in outcome.err
