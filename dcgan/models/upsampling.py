"""Upsampling layers: (in_channels, out_channels, bias) -> a module that doubles height and width."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dcgan.common.arg_checks import check_int


class TransposedConv(nn.ConvTranspose2d):
    """A transposed convolution of stride 2, the DCGAN paper's "fractionally-strided convolution".

    Args:
        kernel_size: Height and width of the kernel, >= 2. Even kernels cover every output pixel equally often, odd ones
            do not (Odena et al. 2016). At initialization, both leave a checkerboard (experiments/upsampling).
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True, *, kernel_size: int = 4) -> None:
        check_int("kernel_size", kernel_size, 2)
        padding, output_padding = (kernel_size - 1) // 2, kernel_size % 2
        super().__init__(
            in_channels, out_channels, kernel_size, 2, padding=padding, output_padding=output_padding, bias=bias
        )


class UpsampleConv(nn.Sequential):
    """Nearest or bilinear upsampling, then a 3x3 convolution (Odena et al. 2016).

    Args:
        interpolation: "nearest" or "bilinear".
    """

    def __init__(
        self, in_channels: int, out_channels: int, bias: bool = True, *, interpolation: str = "nearest"
    ) -> None:
        if interpolation not in ("nearest", "bilinear"):
            raise ValueError(f"interpolation must be nearest or bilinear, got {interpolation!r}")
        conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=bias)
        super().__init__(nn.Upsample(scale_factor=2, mode=interpolation), conv)


class PixelShuffleConv(nn.Module):
    """Sub-pixel convolution: a 3x3 convolution to 4 * out_channels, then a pixel shuffle (Shi et al. 2016)."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 4 * out_channels, 3, padding=1, bias=bias)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d 2*h 2*w"]:
        return F.pixel_shuffle(self.conv(x), 2)

    @torch.no_grad()
    def init_weights(self) -> None:
        """Apply ICNR: start as nearest upsampling, without a checkerboard (Aitken et al. 2017, section 2.2).

        The pixel shuffle builds output channel c from the convolution's channels 4c to 4c + 3, so these share a kernel.
        """
        self.conv.weight.copy_(self.conv.weight[::4].repeat_interleave(4, dim=0))


class UnpoolConv(nn.Module):
    """Unpooling to the upper left of 2x2 cells, zeros elsewhere, then a 3x3 convolution (Dosovitskiy et al. 2015).

    This is max unpooling without the positions of the maxima, which only an encoder knows. It computes the same as
    `TransposedConv` with kernel_size=3 and the kernel rotated by 180 degrees.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=bias)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d 2*h 2*w"]:
        n, c, h, w = x.shape
        cells = F.pad(x[:, :, :, None, :, None], (0, 1, 0, 0, 0, 1))
        return self.conv(cells.reshape(n, c, 2 * h, 2 * w))
