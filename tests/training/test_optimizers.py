import math

import pytest
import torch
from torch import nn

from dcgan.training.optimizers import Adam
from tests.building import build_gan
from tests.conftest import TINY


def test_update_is_adams():
    """The first step has the length lr, whatever the gradient (Kingma and Ba 2015, section 2.1)."""
    parameter = nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = Adam(lr=0.1, betas=[0.5, 0.999])([parameter])
    parameter.grad = torch.tensor([3.0, -0.01])
    optimizer.step()
    torch.testing.assert_close(parameter.detach(), torch.tensor([0.9, -1.9]))
    assert optimizer.defaults["fused"]


def test_integers_are_accepted_for_floats():
    """WGAN-GP's betas are 0 and 0.9."""
    for optimizer in build_gan(*TINY, "optimizer.betas=[0,0.9]", "optimizer.lr=1").configure_optimizers():
        assert optimizer.defaults["betas"] == (0, 0.9)


@pytest.mark.parametrize(
    ("lr", "betas", "message"),
    [
        (0, (0.5, 0.9), r"lr must be a number in \(0, inf\), got 0"),
        (math.nan, (0.5, 0.9), "lr must be a number"),
        (1e-3, 0.5, r"betas must be two numbers in \[0, 1\), got 0.5"),
        (1e-3, (0.5, 1), r"betas must be a number in \[0, 1\), got 1"),
    ],
)
def test_bad_settings_are_rejected(lr, betas, message):
    with pytest.raises(ValueError, match=message):
        Adam(lr, betas)
