"""Convolutions by hand, and that every mode does what its name says."""

import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from torch import nn

from dcgan.upsampling import PixelShuffleConv, TransposedConv, UnpoolConv, UpsampleConv
from tests.conftest import compose_config, options

MODES = [mode for mode in options("model") if mode != "keras_mnist"]


def test_transposed_convolution_by_hand():
    x = torch.tensor([[0.0, 1], [2, 3]])[None, None]
    kernel = torch.tensor([[4.0, 1], [2, 3]])[None, None]
    expected = torch.tensor([[0.0, 4, 1], [8, 16, 6], [4, 12, 9]])
    assert torch.equal(F.conv_transpose2d(x, kernel)[0, 0], expected)


def test_transposed_convolution_is_a_convolution_of_the_padded_image():
    ones = torch.ones(1, 1, 2, 2)
    expected = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])
    k, p = 2, 0
    assert torch.equal(F.conv2d(F.pad(ones, [k - p - 1] * 4), ones)[0, 0], expected)
    assert torch.equal(F.conv_transpose2d(ones, ones)[0, 0], expected)


def scattered(x: torch.Tensor, layer: nn.ConvTranspose2d) -> torch.Tensor:
    """The definition: every input pixel adds its multiple of the kernel, `stride` apart; then the padding goes."""
    (_, channels, h, w), k = x.shape, layer.kernel_size[0]
    full = torch.zeros(layer.out_channels, 2 * h + k, 2 * w + k)
    for i in range(h):
        for j in range(w):
            for c in range(channels):
                full[:, 2 * i : 2 * i + k, 2 * j : 2 * j + k] += x[0, c, i, j] * layer.weight[c]
    p = layer.padding[0]
    return full[:, p : p + 2 * h, p : p + 2 * w] + layer.bias[:, None, None]


@pytest.mark.parametrize("kernel_size", [2, 3, 4, 5])
def test_our_transposed_convolution_scatters_its_kernel(kernel_size):
    layer = TransposedConv(2, 3, kernel_size=kernel_size)
    x = torch.randn(1, 2, 4, 5)
    torch.testing.assert_close(layer(x)[0], scattered(x, layer))


def test_only_the_even_kernel_covers_all_pixels_equally():
    def visits(kernel_size):
        layer = TransposedConv(1, 1, bias=False, kernel_size=kernel_size)
        nn.init.ones_(layer.weight)
        return layer(torch.ones(1, 1, 8, 8))[0, 0, 4:12, 4:12].unique().tolist()

    assert visits(4) == [4]
    assert visits(3) == [1, 2, 4]
    assert visits(5) == [4, 6, 9]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_doubles_height_and_width(mode):
    layer = instantiate(compose_config(f"model={mode}").model.upsampling)(3, 5, bias=True)
    assert layer(torch.randn(2, 3, 7, 4)).shape == (2, 5, 14, 8)
    without = instantiate(compose_config(f"model={mode}").model.upsampling)(3, 5, bias=False)
    assert not any(name.endswith("bias") for name, _ in without.named_parameters())


@pytest.mark.parametrize("mode", ["strided_conv", "max_pool", "avg_pool"])
def test_every_downsampling_halves_height_and_width(mode):
    layer = instantiate(compose_config(f"discriminator={mode}").discriminator.downsampling)(3, 5, bias=True)
    assert layer(torch.randn(2, 3, 14, 8)).shape == (2, 5, 7, 4)


def test_icnr_starts_as_nearest_upsampling():
    layer = PixelShuffleConv(3, 2)
    nn.init.normal_(layer.conv.weight)
    nn.init.zeros_(layer.conv.bias)
    x = torch.randn(1, 3, 4, 4)
    assert not torch.allclose(layer(x)[..., ::2, ::2], layer(x)[..., 1::2, ::2])
    layer.icnr()
    y = layer(x)
    for cell in (y[..., 1::2, ::2], y[..., ::2, 1::2], y[..., 1::2, 1::2]):
        assert torch.equal(y[..., ::2, ::2], cell)
    assert not torch.allclose(y[:, 0], y[:, 1])  # each output channel has a kernel of its own


def test_unpooling_puts_each_value_into_the_corner_of_its_cell():
    layer = UnpoolConv(1, 1, bias=False)
    identity = torch.zeros(1, 1, 3, 3)
    identity[0, 0, 1, 1] = 1
    layer.conv.weight.data.copy_(identity)
    y = layer(torch.tensor([[[[1.0, 2], [3, 4]]]]))[0, 0]
    assert torch.equal(y, torch.tensor([[1.0, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]]))


def test_unpooling_is_a_transposed_convolution_with_its_kernel_turned():
    unpool, transposed = UnpoolConv(3, 4), TransposedConv(3, 4, kernel_size=3)
    with torch.no_grad():
        transposed.weight.copy_(unpool.conv.weight.rot90(2, (2, 3)).transpose(0, 1))
        transposed.bias.copy_(unpool.conv.bias)
    x = torch.randn(2, 3, 5, 7)
    torch.testing.assert_close(unpool(x), transposed(x))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_upsampling_interpolates_then_convolves(interpolation):
    layer = UpsampleConv(2, 3, interpolation=interpolation)
    x = torch.randn(1, 2, 5, 5)
    up = F.interpolate(x, scale_factor=2, mode=interpolation)
    expected = F.conv2d(up, layer[1].weight, layer[1].bias, padding=1)
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer.with_constant_weights()(x), expected)


@pytest.mark.parametrize("bias", [True, False])
def test_nearest_upsampling_in_one_convolution_has_the_gradients_of_both_steps(bias):
    layer = UpsampleConv(2, 3, bias).double()
    x = torch.randn(2, 2, 5, 7, dtype=torch.double).to(memory_format=torch.channels_last).requires_grad_()
    inputs, g = (x, *layer.parameters()), torch.randn(2, 3, 10, 14, dtype=torch.double)
    one = torch.autograd.grad(layer(x), inputs, g)
    two = torch.autograd.grad(nn.Sequential.forward(layer, x), inputs, g)
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="interpolation must be nearest or bilinear, got 'cubic'"):
        UpsampleConv(1, 1, interpolation="cubic")
    with pytest.raises(ValueError, match="kernel_size must be an integer >= 2, got 1"):
        TransposedConv(1, 1, kernel_size=1)
