import math

import pytest
import torch
from hydra.utils import instantiate

from dcgan.losses.adversarial import (
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    Relativistic,
    RelativisticAverage,
    Wasserstein,
)
from tests.conftest import compose_config, options

REAL, FAKE = torch.tensor([2.0, -1.0]), torch.tensor([0.5, -3.0])


def log_sigmoid(x):
    return math.log(1 / (1 + math.exp(-x)))


CROSS_ENTROPY = -(log_sigmoid(2) + log_sigmoid(-1)) / 2 - (log_sigmoid(-0.5) + log_sigmoid(3)) / 2
HAND_COMPUTED = [
    (NonSaturating(), CROSS_ENTROPY, -(log_sigmoid(0.5) + log_sigmoid(-3)) / 2),
    (Minimax(), CROSS_ENTROPY, (log_sigmoid(-0.5) + log_sigmoid(3)) / 2),
    (Hinge(), (0 + 2) / 2 + (1.5 + 0) / 2, -(0.5 - 3) / 2),
    (LeastSquares(), (1 + 4) / 4 + (0.25 + 9) / 4, (0.25 + 16) / 4),
    (Wasserstein(), (0.5 - 3) / 2 - (2 - 1) / 2, -(0.5 - 3) / 2),
    (Relativistic(), -(log_sigmoid(1.5) + log_sigmoid(2)) / 2, -(log_sigmoid(-1.5) + log_sigmoid(-2)) / 2),
    (  # the average logits are 0.5 and -1.25
        RelativisticAverage(),
        -(log_sigmoid(3.25) + log_sigmoid(0.25) + log_sigmoid(0) + log_sigmoid(3.5)) / 2,
        -(log_sigmoid(-3.25) + log_sigmoid(-0.25) + log_sigmoid(0) + log_sigmoid(-3.5)) / 2,
    ),
]


def generator_loss(loss, fake_logits, real_logits):
    return loss.generator(*((fake_logits, real_logits) if loss.generator_needs_real else (fake_logits,)))


@pytest.mark.parametrize(("loss", "loss_d", "loss_g"), HAND_COMPUTED, ids=lambda x: type(x).__name__)
def test_losses_match_hand_computed_values(loss, loss_d, loss_g):
    assert loss.discriminator(REAL, FAKE).item() == pytest.approx(loss_d, rel=1e-6)
    assert generator_loss(loss, FAKE, REAL).item() == pytest.approx(loss_g, rel=1e-6)


@pytest.mark.parametrize("name", options("loss"))
def test_losses_and_gradients_are_finite_at_extreme_logits(name):
    loss = instantiate(compose_config(f"loss={name}").loss)
    for real, fake in [(100.0, -100.0), (-100.0, 100.0), (100.0, 100.0)]:
        real_logits = torch.full((4,), real, requires_grad=True)
        fake_logits = torch.full((4,), fake, requires_grad=True)
        total = loss.discriminator(real_logits, fake_logits) + generator_loss(loss, fake_logits, real_logits)
        total.backward()
        assert total.isfinite()
        assert real_logits.grad.isfinite().all()
        assert fake_logits.grad.isfinite().all()


def test_minimax_gradient_of_generator_vanishes_and_non_saturating_does_not():
    def gradient(loss):
        logits = torch.full((1,), -20.0, requires_grad=True)  # D is confident that this image is fake
        loss.generator(logits).backward()
        return logits.grad.item()

    assert gradient(NonSaturating()) == pytest.approx(-1)
    assert gradient(Minimax()) == pytest.approx(0, abs=1e-8)


def test_one_sided_label_smoothing_changes_only_real_labels():
    smoothed = NonSaturating(label_smoothing=0.1).discriminator(REAL, FAKE).item()
    real = [-0.9 * log_sigmoid(x) - 0.1 * log_sigmoid(-x) for x in (2, -1)]
    fake = [-log_sigmoid(-x) for x in (0.5, -3)]
    assert smoothed == pytest.approx(sum(real) / 2 + sum(fake) / 2, rel=1e-6)


@pytest.mark.parametrize("loss", [Relativistic, RelativisticAverage])
def test_smoothed_relativistic_loss_is_lowest_at_a_finite_margin(loss):
    """At log(0.9 / 0.1) for pairs. The average loss has the second, unsmoothed term, which prefers a larger one."""
    margins = torch.linspace(0, 20, 2001)
    values = torch.stack([loss(0.1).discriminator(margin.expand(4), torch.zeros(4)) for margin in margins])
    margin = margins[values.argmin()].item()
    assert margin == pytest.approx(math.log(9) if loss is Relativistic else math.log(19), abs=0.01)
    assert values.min() >= loss(0.1).discriminator_minimum - 1e-6


@pytest.mark.parametrize("label_smoothing", [-0.1, 1.0, "a lot"])
@pytest.mark.parametrize("loss", [NonSaturating, Relativistic])
def test_label_smoothing_out_of_range_is_rejected(loss, label_smoothing):
    with pytest.raises(ValueError, match=r"label_smoothing must be a number in \[0, 1\), got"):
        loss(label_smoothing)


def test_output_is_probability_for_cross_entropy_and_logit_for_other_losses():
    assert NonSaturating().output(torch.zeros(3)).tolist() == [0.5] * 3
    assert Hinge().output(REAL).tolist() == REAL.tolist()
