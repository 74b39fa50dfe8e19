"""Symptoms of failing runs are reported, and healthy runs are not."""

import csv
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from dcgan.losses.adversarial import Hinge, LeastSquares, Minimax, NonSaturating, Wasserstein
from dcgan.metrics.classes import ClassBalance
from dcgan.models.generator import Generator
from dcgan.training.callbacks import health
from tests.conftest import TINY, compose_config
from tests.metrics.building import fake_cuda
from tests.run_files import RUN, events

# small, but its samples differ from each other after 30 steps
DIGITS = ["data=digits", "data.batch_size=32", "model.base_channels=8", "model.latent_dim=16", "model.hidden_width=64"]
LEARNS = [*DIGITS, "samples.n=32", "trainer=cpu", "hydra.run.dir=run", "samples.steps=[]"]
CHECKS = ["log.every_n_steps=2", "log.activity_every_n_steps=1000", "evaluator=none", "health.patience=20"]
QUICK = [*LEARNS, *CHECKS, "max_steps=60"]
HEALTHY_LR = "optimizer.lr=2e-3"
UNTRAINED_D = ["optimizer.discriminator.lr=1e-30", "optimizer.generator.lr=.01"]


def reported_symptoms(out: str) -> list[str]:
    """Return the names of the symptoms that were printed."""
    lines = [line for line in out.splitlines() if line.startswith("health")]
    return [name for name, sentence in health.SYMPTOMS.items() if any(sentence in line for line in lines)]


def to_config(cfg: DictConfig) -> dict[str, Any]:
    return OmegaConf.to_container(cfg, resolve=True)


def read_curve(name: str) -> list[float]:
    with Path("run/metrics.csv").open(newline="") as file:
        return [float(row[f"health/{name}"]) for row in csv.DictReader(file) if row.get(f"health/{name}")]


def test_healthy_run_has_no_symptoms(dcgan_train):
    outcome = dcgan_train(*QUICK, HEALTHY_LR)
    assert outcome.code == 0, outcome.err
    assert reported_symptoms(outcome.out) == []
    for name in health.SYMPTOMS:
        assert len(read_curve(name)) == 6


def test_collapse_is_reported_on_the_console_and_in_tensorboard(dcgan_train, monkeypatch):
    forward = Generator.forward
    monkeypatch.setattr(
        Generator, "forward", lambda self, z, label=None: forward(self, z)[:1].expand(len(z), -1, -1, -1)
    )
    outcome = dcgan_train(*QUICK, HEALTHY_LR)
    assert "collapse" in reported_symptoms(outcome.out)
    assert "all samples look alike since step 10: try" in outcome.out
    board = events()
    text = board.Tensors("health/text_summary")
    assert any(b"all samples look alike" in event.tensor_proto.string_val[0] for event in text)
    assert board.Scalars("health/collapse")[-1].value == 1


def test_frozen_generator_is_reported(dcgan_train):
    outcome = dcgan_train(
        *QUICK, "optimizer.generator.lr=1e-30", "normalization=none", "optimizer.discriminator.lr=.01"
    )
    assert {"frozen_generator", "saturated_discriminator"} <= set(reported_symptoms(outcome.out))


def test_untrained_discriminator_starves_the_generator_which_is_reported_once(dcgan_train):
    """A resumed run does not repeat it."""
    first = dcgan_train(*QUICK, *UNTRAINED_D)
    assert "starved_generator" in reported_symptoms(first.out)
    assert "saturated_discriminator" not in reported_symptoms(first.out)
    sentence = health.SYMPTOMS["starved_generator"]
    assert first.out.count(sentence) == 1
    again = dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=80")
    assert again.code == 0, again.err
    assert sentence not in again.out


def test_learning_rate_that_is_100_times_too_high_is_reported(dcgan_train):
    outcome = dcgan_train(*QUICK, "optimizer.lr=.2", "normalization=none")
    assert set(reported_symptoms(outcome.out)) & {"collapse", "saturated_discriminator", "starved_generator"}


def test_missing_classes_are_reported_if_most_samples_are_confident(dcgan_train, monkeypatch):
    def run(classes: int, confident: float) -> list[str]:
        values = {"classes": classes, "class_kl": 1.0, "confident": confident}
        monkeypatch.setattr(ClassBalance, "__call__", lambda self, samples, real: values)
        overrides = ["max_steps=12", "metrics.every_n_steps=4", "health.patience=6", "samples.steps=[]"]
        folder = f"hydra.run.dir=run_{classes}_{confident}"
        return reported_symptoms(dcgan_train(*TINY, *RUN, *overrides, folder).out)

    assert "missing_classes" in run(3, 0.9)
    assert "missing_classes" not in run(3, 0.3)
    assert "missing_classes" not in run(10, 0.9)


def test_stop_saves_the_state_and_ends_the_run(dcgan_train):
    outcome = dcgan_train(*QUICK, *UNTRAINED_D, "health.action=stop")
    assert outcome.code == 1
    match = re.search(r"error: stopped at step (\d+), because .* holds its state", outcome.err)
    assert match
    assert "Traceback" not in outcome.err
    assert torch.load("run/checkpoints/last.ckpt", weights_only=True)["step"] == int(match[1]) < 60
    assert not Path("run/summary.json").exists()


def test_short_symptom_is_not_reported(dcgan_train, monkeypatch):
    values = iter([1.0, *[0.0, 0.0, 1.0] * 100])  # the real images' first
    monkeypatch.setattr(health, "diversity", lambda images: next(values))
    assert reported_symptoms(dcgan_train(*QUICK, HEALTHY_LR).out) == []
    assert read_curve("collapse")[:6] == [1, 1, 0, 1, 1, 0]


def test_nan_is_reported_in_tensorboard(dcgan_train):
    outcome = dcgan_train(*QUICK, "optimizer.lr=1e30", "normalization=none")
    assert outcome.code == 1
    text = events().Tensors("health/text_summary")
    assert b"training stopped: at step" in text[-1].tensor_proto.string_val[0]


def test_pixel_hash_depends_on_all_pixels_and_their_positions():
    images = torch.randint(0, 256, (16, 3, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    hashed = health.pixel_hash(images)
    assert hashed == health.pixel_hash(images.clone().contiguous(memory_format=torch.channels_last))
    changed = [images.clone() for _ in range(3)]
    changed[0][0, 0, 0, 0] += 1
    changed[1][-1, -1, -1, -1] += 1
    # the sum of the pixels is the same
    changed[2][5, 0, 3, :2] += torch.tensor([1, -1]).to(torch.uint8)
    others = [*changed, images.flip(0), images.flip(3), images[:15]]
    assert len({hashed, *(health.pixel_hash(other) for other in others)}) == 1 + len(others)


def test_samples_are_checked_on_their_device():
    with fake_cuda() as check:
        images = torch.zeros(16, 1, 28, 28, dtype=torch.uint8, device="cuda")
        health.pixel_hash(images)
        health.diversity(images)
    assert check.reads == ["cuda", "cuda"]


@pytest.mark.parametrize(
    ("loss", "minimum", "undecided"),
    [
        (NonSaturating(), 0, 2 * math.log(2)),
        (Minimax(label_smoothing=0.1), -0.1 * math.log(0.1) - 0.9 * math.log(0.9), 2 * math.log(2)),
        (Hinge(), 0, 2),
        (LeastSquares(), 0, 0.5),
    ],
    ids=lambda value: type(value).__name__,
)
def test_discriminator_near_its_minimum_is_found(loss, minimum, undecided):
    near, far = minimum + 0.04 * (undecided - minimum), minimum + 0.06 * (undecided - minimum)
    assert (health.is_near_minimum(loss, near), health.is_near_minimum(loss, far)) == (True, False)


def test_loss_without_a_minimum_is_never_near_it():
    assert not health.is_near_minimum(Wasserstein(), -1e9)


@pytest.mark.parametrize(
    ("loss", "has_label_smoothing"), [("hinge", False), ("wasserstein_gp", False), ("non_saturating", True)]
)
def test_advice_names_only_keys_that_the_config_has(loss, has_label_smoothing):
    norm = ["discriminator_normalization=layer"] if loss == "wasserstein_gp" else []
    config = to_config(compose_config(f"loss={loss}", *norm))
    advice = health.advice("saturated_discriminator", config)
    assert "a lower optimizer.discriminator.lr" in advice
    assert ("loss.label_smoothing" in advice) == has_label_smoothing


def test_every_advised_override_works():
    for symptom in health.SYMPTOMS:
        for override in re.findall(r"[\w.]+=[\d.]+", health.advice(symptom, to_config(compose_config()))):
            assert compose_config(override)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("health.action=pray", "health.action must be one of warn, stop"),
        ("health.patience=0", "health.patience must be"),
    ],
)
def test_bad_settings_are_rejected(dcgan_train, override, message):
    outcome = dcgan_train(*TINY, *RUN, "max_steps=1", override)
    assert outcome.code == 1
    assert message in outcome.err
