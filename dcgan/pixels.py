"""Between stored pixels (uint8) and what the networks see."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from dcgan.checks import check_number


class PixelRange:
    """The affine map of 0..255 onto [low, 1]: low = -1 for a tanh output, 0 for a sigmoid.

    Raises ValueError unless -1 <= low < 1.
    """

    def __init__(self, low: float) -> None:
        check_number("low", low, -1, 1, brackets="[)")
        self.low = float(low)
        self.units_per_float = 255 / (1 - self.low)

    def encode(self, u8: UInt8[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """0 -> low, 255 -> 1, both exactly: x = u8 / 127.5 - 1 where low is -1."""
        return u8.to(torch.float32).div_(self.units_per_float).add_(self.low)

    def decode(self, x: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
        """The nearest stored pixel; values outside [low, 1] are clamped."""
        return ((x.float() - self.low) * self.units_per_float).round_().clamp_(0, 255).to(torch.uint8)


def fit_images(images: UInt8[Tensor, "n k h w"], image_size: int, channels: int) -> UInt8[Tensor, "n c s s"]:
    """Images with so many channels, of which grey ones have the same in each; resized (bilinear, antialiased) where
    they have another size. ValueError for images with more channels than are asked for."""
    if images.shape[1] not in (1, channels):
        raise ValueError(f"images of {images.shape[1]} channels cannot have {channels}")
    fitted = images
    if fitted.shape[-2:] != (image_size, image_size):
        size = (image_size, image_size)
        parts = [F.interpolate(part.float(), size, mode="bilinear", antialias=True) for part in fitted.split(4096)]
        fitted = torch.cat([part.round_().clamp_(0, 255).to(torch.uint8) for part in parts])
    return fitted.expand(-1, channels, -1, -1)
