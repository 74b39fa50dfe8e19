"""Between stored pixels (uint8) and what the networks see."""

import torch
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
