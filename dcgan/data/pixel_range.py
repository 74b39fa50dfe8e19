"""Conversions between stored images (uint8) and the networks' pixel range."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from dcgan.common.arg_checks import check_number

LUMINANCE_WEIGHTS = (0.299, 0.587, 0.114)  # of red, green and blue


class PixelRange:
    """An affine map of 0..255 onto [low, 1].

    Args:
        low: Image of 0, in [-1, 1): -1 for a tanh output, 0 for a sigmoid output.

    Raises:
        ValueError: `low` is out of range.
    """

    def __init__(self, low: float) -> None:
        check_number("low", low, -1, 1, brackets="[)")
        self.low = float(low)
        self.scale = 255 / (1 - self.low)

    def encode(self, u8: UInt8[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Map 0 to low and 255 to 1, both exactly. For low = -1 this is u8 / 127.5 - 1."""
        return u8.to(torch.float32).div_(self.scale).add_(self.low)

    def decode(self, x: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
        """Round to the nearest stored value, after clamping to [low, 1]."""
        return ((x.float() - self.low) * self.scale).round_().clamp_(0, 255).to(torch.uint8)

    @property
    def decode_formula(self) -> str:
        """The map of `decode` as a formula."""
        return f"clip(round((x + {0 - self.low:g}) * {self.scale:g}), 0, 255)"


def resize_images(images: UInt8[Tensor, "n k h w"], image_size: int, channels: int) -> UInt8[Tensor, "n c s s"]:
    """Resize images (bilinear, antialiased), repeat a single channel, and convert three channels to their luminance.

    Raises:
        ValueError: The images have neither one nor three nor `channels` channels.
    """
    k = images.shape[1]
    if k not in (1, channels) and (k, channels) != (3, 1):
        raise ValueError(f"images with {k} channels cannot be converted to {channels}")
    size = (image_size, image_size)
    if images.shape[-2:] == size and k in (1, channels):
        return images.expand(-1, channels, -1, -1)
    parts = []
    for part in images.split(4096):
        x = luminance(part) if k > channels else part.float()
        if x.shape[-2:] != size:
            x = F.interpolate(x, size, mode="bilinear", antialias=True)
        parts.append(x.round_().clamp_(0, 255).to(torch.uint8))
    return torch.cat(parts).expand(-1, channels, -1, -1)


def luminance(images: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1 h w"]:
    """Return the luminance of RGB images (ITU-R BT.601)."""
    weights = torch.tensor(LUMINANCE_WEIGHTS, device=images.device)
    return (images * weights[:, None, None]).sum(dim=1, keepdim=True)
