"""Upsampling modes: a module made from (in_channels, out_channels, bias) that doubles height and width."""

from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dcgan.checks import check_int


class TransposedConv(nn.ConvTranspose2d):
    """Transposed convolution of stride 2, the DCGAN paper's "fractionally-strided convolution".

    kernel_size: 4 covers every output pixel equally often, 3 and 5 do not (Odena et al. 2016, "Deconvolution and
    checkerboard artifacts"); all begin with a checkerboard (experiments/upsampling). Raises ValueError below 2.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True, *, kernel_size: int = 4) -> None:
        check_int("kernel_size", kernel_size, 2)
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride=2,
            padding=(kernel_size - 1) // 2,
            output_padding=kernel_size % 2,
            bias=bias,
        )


class UpsampleConv(nn.Sequential):
    """Nearest or bilinear interpolation, then a 3x3 convolution (Odena et al. 2016).

    Nearest interpolation shows each value to the convolution four times over. One transposed convolution whose weights
    are the sums of those that meet the same value is the same map, with 16 multiplications a value instead of 36
    (measured on a CPU in experiments/hot_path).

    interpolation: "nearest" or "bilinear"; ValueError for anything else.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True, *, interpolation: str = "nearest"):
        if interpolation not in ("nearest", "bilinear"):
            raise ValueError(f"interpolation must be nearest or bilinear, got {interpolation!r}")
        super().__init__(
            nn.Upsample(scale_factor=2, mode=interpolation),
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=bias),
        )

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d 2*h 2*w"]:
        upsample, conv = cast(nn.Upsample, self[0]), cast(nn.Conv2d, self[1])
        if upsample.mode == "bilinear":
            return super().forward(x)
        return F.conv_transpose2d(x, summed(conv.weight), conv.bias, stride=2, padding=1)

    def with_constant_weights(self) -> nn.Module:
        """The same map as a layer whose weights need no sums, for a file that others compute with."""
        upsample, conv = cast(nn.Upsample, self[0]), cast(nn.Conv2d, self[1])
        if upsample.mode == "bilinear":
            return self
        layer = TransposedConv(conv.in_channels, conv.out_channels, conv.bias is not None, kernel_size=4)
        layer.weight, layer.bias = nn.Parameter(summed(conv.weight.detach())), conv.bias
        return layer


def summed(weight: Float[Tensor, "d c 3 3"]) -> Float[Tensor, "c d 4 4"]:
    """Of the transposed convolution that does the work of nearest interpolation and a convolution with `weight`."""
    # a mean over 2 x 2 cells is a quarter of their sum; a transposed convolution turns its kernel round
    return 4 * F.avg_pool2d(weight.flip(2, 3).transpose(0, 1), 2, stride=1, padding=1)


class PixelShuffleConv(nn.Module):
    """Sub-pixel convolution: a 3x3 convolution to 4 times the channels, rearranged (Shi et al. 2016)."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 4 * out_channels, 3, padding=1, bias=bias)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d 2*h 2*w"]:
        return F.pixel_shuffle(self.conv(x), 2)

    def icnr(self) -> None:
        """ICNR: start as nearest upsampling, so with no checkerboard (Aitken et al. 2017, section 2.2).

        PixelShuffle takes the four pixels of output channel c from the input channels 4c to 4c + 3: those four
        share one kernel.
        """
        with torch.no_grad():
            weight = self.conv.weight
            weight.copy_(weight[::4].repeat_interleave(4, dim=0))


class UnpoolConv(nn.Module):
    """Each value at the upper left of a 2x2 cell, zeros elsewhere, then a 3x3 convolution.

    This is max-unpooling without an encoder that remembers where the maxima were (Dosovitskiy et al. 2015). Written out
    it is `TransposedConv` with kernel_size=3, its kernel turned by half a turn: another way to compute the same maps.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=bias)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d 2*h 2*w"]:
        n, c, h, w = x.shape
        cells = F.pad(x[:, :, :, None, :, None], (0, 1, 0, 0, 0, 1))
        return self.conv(cells.reshape(n, c, 2 * h, 2 * w))
