import pytest
import torch
from hydra.utils import instantiate
from torch import nn

from dcgan.losses.gradient_penalties import R1, R1R2, Judged, WassersteinGP
from tests.conftest import TINY, compose_config

REAL, FAKE = torch.rand(4, 1, 6, 6), torch.rand(4, 1, 6, 6)


class LinearCritic(nn.Module):
    """A discriminator with the gradient w at every input."""

    def __init__(self, w: torch.Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(w)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * self.w).sum(dim=(1, 2, 3))


def apply(penalty, critic, real=REAL, fake=FAKE):
    """Return the penalty as the discriminator's update computes it."""
    real, fake = real.clone().requires_grad_(penalty.of_real), fake.clone().requires_grad_(penalty.of_fake)
    return penalty(critic, Judged(real, critic(real)), Judged(fake, critic(fake)))


def test_penalties_of_linear_critic_match_formulas():
    critic = LinearCritic(torch.full((1, 6, 6), 0.5))  # |w| = 3
    assert apply(WassersteinGP(10), critic).item() == pytest.approx(10 * (3 - 1) ** 2)
    assert apply(R1(10), critic).item() == pytest.approx(10 / 2 * 9)
    assert apply(R1R2(10), critic).item() == pytest.approx(10 / 2 * (9 + 9))


def test_r1_and_r2_are_of_the_real_and_the_fake_images():
    class SquareCritic(nn.Module):
        def forward(self, x):
            return x.square().sum(dim=(1, 2, 3)) / 2  # with the gradient x

    real, fake = torch.full((4, 1, 2, 2), 1.0), torch.full((4, 1, 2, 2), 3.0)  # |x|^2 = 4 and 36
    assert apply(R1(1), SquareCritic(), real, fake).item() == 4 / 2
    assert apply(R1R2(1), SquareCritic(), real, fake).item() == (4 + 36) / 2


def test_lazy_penalty_has_the_same_average():
    critic = LinearCritic(torch.full((1, 6, 6), 0.5))
    lazy = R1(10, every=4)
    assert [lazy.is_due(step) for step in range(6)] == [True, False, False, False, True, False]
    assert apply(lazy, critic).item() == pytest.approx(4 * apply(R1(10), critic).item())


@pytest.mark.parametrize("penalty", [WassersteinGP(10), R1(10), R1R2(10)])
def test_penalty_has_gradient_with_respect_to_weights(penalty):
    critic = LinearCritic(torch.full((1, 6, 6), 0.5))
    apply(penalty, critic).backward()
    assert (critic.w.grad > 0).all()


def test_wasserstein_penalty_of_constant_critic_is_finite():
    critic = LinearCritic(torch.zeros(1, 6, 6))
    penalty = apply(WassersteinGP(10), critic)
    penalty.backward()
    assert penalty.item() == pytest.approx(10, rel=1e-5)
    assert critic.w.grad.isfinite().all()


def test_wasserstein_penalty_interpolates_between_real_and_fake():
    inputs = []

    class SquareCritic(nn.Module):
        def forward(self, x):
            inputs.append(x.detach())
            return x.square().sum(dim=(1, 2, 3))

    apply(WassersteinGP(1), SquareCritic(), torch.ones(64, 1, 2, 2), torch.zeros(64, 1, 2, 2))
    epsilon = inputs[-1][:, 0, 0, 0]
    assert torch.equal(inputs[-1], epsilon[:, None, None, None].expand(64, 1, 2, 2))  # one epsilon per image
    assert 0 <= epsilon.min() < 0.2
    assert 0.8 < epsilon.max() <= 1


@pytest.mark.parametrize("weight", [0, -1, float("nan"), "x"])
@pytest.mark.parametrize("penalty", [WassersteinGP, R1])
def test_weight_out_of_range_is_rejected(penalty, weight):
    with pytest.raises(ValueError, match=r"weight must be a number in \(0, inf\)"):
        penalty(weight)


@pytest.mark.parametrize("every", [0, 1.5, "x"])
def test_interval_out_of_range_is_rejected(every):
    with pytest.raises(ValueError, match=r"penalty\.every must be an integer >= 1"):
        R1(1, every)


def test_wasserstein_gp_config_sets_penalty_and_layer_norm():
    config = compose_config("loss=wasserstein_gp", *TINY)
    assert instantiate(config.penalty).weight == 10
    norms = [type(m) for m in instantiate(config.discriminator).modules() if "Norm" in type(m).__name__]
    assert set(norms) == {nn.GroupNorm, nn.LayerNorm}
    assert any(isinstance(m, nn.BatchNorm2d) for m in instantiate(config.model).modules())
