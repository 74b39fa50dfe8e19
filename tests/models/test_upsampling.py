"""Upsampling layers against hand-computed examples and independent implementations."""

import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from torch import nn

from dcgan.models.upsampling import PixelShuffleConv, TransposedConv, UnpoolConv, UpsampleConv
from tests.conftest import compose_config, options_with

MODES = options_with("model", "upsampling")


def test_transposed_convolution_matches_hand_computed_example():
    x = torch.tensor([[0.0, 1], [2, 3]])[None, None]
    kernel = torch.tensor([[4.0, 1], [2, 3]])[None, None]
    expected = torch.tensor([[0.0, 4, 1], [8, 16, 6], [4, 12, 9]])
    assert torch.equal(F.conv_transpose2d(x, kernel)[0, 0], expected)


def test_transposed_convolution_equals_convolution_of_padded_image():
    ones = torch.ones(1, 1, 2, 2)
    expected = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])
    k, p = 2, 0
    assert torch.equal(F.conv2d(F.pad(ones, [k - p - 1] * 4), ones)[0, 0], expected)
    assert torch.equal(F.conv_transpose2d(ones, ones)[0, 0], expected)


def scatter_kernels(x: torch.Tensor, layer: nn.ConvTranspose2d) -> torch.Tensor:
    """Compute a transposed convolution of stride 2 by its definition, for a batch of one.

    Each input pixel adds its multiple of the kernel at twice its position. Then the padding is cut off.
    """
    (_, channels, h, w), k = x.shape, layer.kernel_size[0]
    full = torch.zeros(layer.out_channels, 2 * h + k, 2 * w + k)
    for i in range(h):
        for j in range(w):
            for c in range(channels):
                full[:, 2 * i : 2 * i + k, 2 * j : 2 * j + k] += x[0, c, i, j] * layer.weight[c]
    p = layer.padding[0]
    return full[:, p : p + 2 * h, p : p + 2 * w] + layer.bias[:, None, None]


@pytest.mark.parametrize("kernel_size", [2, 3, 4, 5])
def test_transposed_conv_matches_definition(kernel_size):
    layer = TransposedConv(2, 3, kernel_size=kernel_size)
    x = torch.randn(1, 2, 4, 5)
    torch.testing.assert_close(layer(x)[0], scatter_kernels(x, layer))


def test_even_kernel_covers_all_pixels_equally_often():
    def coverage(kernel_size):
        layer = TransposedConv(1, 1, bias=False, kernel_size=kernel_size)
        nn.init.ones_(layer.weight)
        return layer(torch.ones(1, 1, 8, 8))[0, 0, 4:12, 4:12].unique().tolist()

    assert coverage(4) == [4]
    assert coverage(3) == [1, 2, 4]
    assert coverage(5) == [4, 6, 9]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_doubles_height_and_width(mode):
    upsampling = instantiate(compose_config(f"model={mode}").model.upsampling)
    assert upsampling(3, 5, bias=True)(torch.randn(2, 3, 7, 4)).shape == (2, 5, 14, 8)
    assert not any(name.endswith("bias") for name, _ in upsampling(3, 5, bias=False).named_parameters())


def test_icnr_initializes_as_nearest_upsampling():
    layer = PixelShuffleConv(3, 2)
    nn.init.normal_(layer.conv.weight)
    nn.init.zeros_(layer.conv.bias)
    x = torch.randn(1, 3, 4, 4)
    assert not torch.allclose(layer(x)[..., ::2, ::2], layer(x)[..., 1::2, ::2])
    layer.init_weights()
    y = layer(x)
    for phase in (y[..., 1::2, ::2], y[..., ::2, 1::2], y[..., 1::2, 1::2]):
        assert torch.equal(y[..., ::2, ::2], phase)
    assert not torch.allclose(y[:, 0], y[:, 1])  # output channels have different kernels


def test_unpooling_places_values_at_upper_left_of_cells():
    layer = UnpoolConv(1, 1, bias=False)
    identity = torch.zeros(1, 1, 3, 3)
    identity[0, 0, 1, 1] = 1
    layer.conv.weight.data.copy_(identity)
    y = layer(torch.tensor([[[[1.0, 2], [3, 4]]]]))[0, 0]
    assert torch.equal(y, torch.tensor([[1.0, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]]))


def test_unpooling_equals_transposed_convolution_with_rotated_kernel():
    unpool, transposed = UnpoolConv(3, 4), TransposedConv(3, 4, kernel_size=3)
    with torch.no_grad():
        transposed.weight.copy_(unpool.conv.weight.rot90(2, (2, 3)).transpose(0, 1))
        transposed.bias.copy_(unpool.conv.bias)
    x = torch.randn(2, 3, 5, 7)
    torch.testing.assert_close(unpool(x), transposed(x))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_upsample_conv_interpolates_then_convolves(interpolation):
    layer = UpsampleConv(2, 3, interpolation=interpolation)
    x = torch.randn(1, 2, 5, 5)
    upsampled = F.interpolate(x, scale_factor=2, mode=interpolation)
    torch.testing.assert_close(layer(x), F.conv2d(upsampled, layer[1].weight, layer[1].bias, padding=1))


def test_invalid_arguments_are_rejected():
    with pytest.raises(ValueError, match="interpolation must be nearest or bilinear, got 'cubic'"):
        UpsampleConv(1, 1, interpolation="cubic")
    with pytest.raises(ValueError, match="kernel_size must be an integer >= 2, got 1"):
        TransposedConv(1, 1, kernel_size=1)
