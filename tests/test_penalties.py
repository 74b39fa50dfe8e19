import pytest
import torch
from hydra.utils import instantiate
from torch import nn

from dcgan.penalties import R1, WassersteinGP
from tests.conftest import TINY, compose_config

REAL, FAKE = torch.rand(4, 1, 6, 6), torch.rand(4, 1, 6, 6)


class Linear(nn.Module):
    """A discriminator whose gradient is w everywhere."""

    def __init__(self, w: torch.Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(w)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * self.w).sum(dim=(1, 2, 3))


def test_penalties_of_a_linear_discriminator_are_known():
    discriminator = Linear(torch.full((1, 6, 6), 0.5))  # |w| = 3
    assert WassersteinGP(10).penalty(discriminator, REAL, FAKE).item() == pytest.approx(10 * (3 - 1) ** 2)
    assert R1(10).penalty(discriminator, REAL, FAKE).item() == pytest.approx(10 / 2 * 9)


@pytest.mark.parametrize("penalty", [WassersteinGP(10), R1(10)])
def test_a_penalty_pulls_on_the_weights(penalty):
    discriminator = Linear(torch.full((1, 6, 6), 0.5))
    penalty.penalty(discriminator, REAL, FAKE).backward()
    assert (discriminator.w.grad > 0).all()


def test_the_wasserstein_penalty_is_finite_where_the_discriminator_is_flat():
    discriminator = Linear(torch.zeros(1, 6, 6))
    penalty = WassersteinGP(10).penalty(discriminator, REAL, FAKE)
    penalty.backward()
    assert penalty.item() == pytest.approx(10, rel=1e-5)
    assert discriminator.w.grad.isfinite().all()


def test_the_wasserstein_penalty_looks_between_real_and_fake():
    seen = []

    class Square(nn.Module):
        def forward(self, x):
            seen.append(x.detach())
            return x.square().sum(dim=(1, 2, 3))

    WassersteinGP(1).penalty(Square(), torch.ones(64, 1, 2, 2), torch.zeros(64, 1, 2, 2))
    share = seen[0][:, 0, 0, 0]
    assert torch.equal(seen[0], share[:, None, None, None].expand(64, 1, 2, 2))  # one epsilon an image
    assert 0 <= share.min() < 0.2
    assert 0.8 < share.max() <= 1


@pytest.mark.parametrize("weight", [0, -1, float("nan"), "x"])
@pytest.mark.parametrize("penalty", [WassersteinGP, R1])
def test_a_bad_weight_is_refused(penalty, weight):
    with pytest.raises(ValueError, match=r"weight must be a number in \(0, inf\)"):
        penalty(weight)


def test_wasserstein_gp_brings_its_penalty_and_a_norm_that_allows_it():
    config = compose_config("loss=wasserstein_gp", *TINY)
    assert instantiate(config.penalty).weight == 10
    norms = [type(m) for m in instantiate(config.discriminator).modules() if "Norm" in type(m).__name__]
    assert set(norms) == {nn.GroupNorm, nn.LayerNorm}
    assert any(isinstance(m, nn.BatchNorm2d) for m in instantiate(config.model).modules())
