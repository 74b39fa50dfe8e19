import pytest
import torch
from hydra.utils import instantiate

from tests.conftest import compose_config


@pytest.mark.parametrize("mode", ["strided_conv", "max_pool", "avg_pool"])
def test_every_mode_halves_height_and_width(mode):
    layer = instantiate(compose_config(f"discriminator={mode}").discriminator.downsampling)(3, 5, bias=True)
    assert layer(torch.randn(2, 3, 14, 8)).shape == (2, 5, 7, 4)
