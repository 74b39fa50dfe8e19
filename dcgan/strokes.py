"""What the strokes of a drawn digit are like, from the moments of its image."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor


def central_moments(images: UInt8[Tensor, "n 1 h w"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The ink (its sum) and its variances in x and y and their covariance, in pixels, of each image."""
    ink = images[:, 0].double() / 255
    mass = ink.sum(dim=(1, 2)).clamp_min(1e-6)
    y = torch.arange(ink.shape[1], dtype=ink.dtype)[:, None]
    x = torch.arange(ink.shape[2], dtype=ink.dtype)[None, :]

    def mean(of: Tensor) -> Tensor:
        return (ink * of).sum(dim=(1, 2), keepdim=True) / mass[:, None, None]

    dx, dy = x - mean(x.expand_as(ink)), y - mean(y.expand_as(ink))
    return mass, mean(dx**2).flatten(), mean(dy**2).flatten(), mean(dx * dy).flatten()


def thickness(images: UInt8[Tensor, "n 1 h w"]) -> Float[Tensor, " n"]:
    """Ink over extent: a stroke's ink is its length times its width, and its extent grows as its length does, so among
    images of one shape this is proportional to the width. In pixels, up to a factor of the shape."""
    mass, xx, yy, _ = central_moments(images)
    return (mass / (xx + yy).sqrt().clamp_min(1e-6)).float()


def slant(images: UInt8[Tensor, "n 1 h w"]) -> Float[Tensor, " n"]:
    """How far the ink leans to the right for each pixel upwards: the shear that setting it upright would undo."""
    _, _, yy, xy = central_moments(images)
    return (-xy / yy.clamp_min(1e-6)).float()
