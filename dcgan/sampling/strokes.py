"""Thickness and slant of a digit's strokes, from the moments of its image."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor


def thickness(images: UInt8[Tensor, "n 1 h w"]) -> Float[Tensor, " n"]:
    """Return ink divided by extent, which is proportional to the stroke width for images of one shape.

    Ink is length times width, and extent is proportional to length. The unit is pixels, up to a factor of the shape.
    """
    ink, xx, yy, _ = central_moments(images)
    return (ink / (xx + yy).sqrt().clamp_min(1e-6)).float()


def slant(images: UInt8[Tensor, "n 1 h w"]) -> Float[Tensor, " n"]:
    """Return the shear of each image: the pixels to the right per pixel upwards."""
    _, _, yy, xy = central_moments(images)
    return (-xy / yy.clamp_min(1e-6)).float()


def central_moments(images: UInt8[Tensor, "n 1 h w"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the sum of the ink, its variances in x and in y, and its covariance, in pixels, per image."""
    ink = images[:, 0].double() / 255
    total = ink.sum(dim=(1, 2)).clamp_min(1e-6)
    y = torch.arange(ink.shape[1], dtype=ink.dtype)[:, None]
    x = torch.arange(ink.shape[2], dtype=ink.dtype)[None, :]

    def mean(values: Tensor) -> Tensor:
        return (ink * values).sum(dim=(1, 2), keepdim=True) / total[:, None, None]

    dx, dy = x - mean(x.expand_as(ink)), y - mean(y.expand_as(ink))
    return total, mean(dx**2).flatten(), mean(dy**2).flatten(), mean(dx * dy).flatten()
