"""Images side by side in one picture."""

from pathlib import Path

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from dcgan.files import atomic_path

PNG_PIXELS = 512  # grids are enlarged by whole factors to about this width, so that a person can see each image


def image_grid(images: UInt8[Tensor, "n c h w"], columns: int | None = None) -> UInt8[Tensor, "3 gh gw"]:
    """A grid with a border of 2 pixels, with so many columns or as square as n allows."""
    return make_grid(images.cpu(), nrow=columns or max(1, round(len(images) ** 0.5)), padding=2, pad_value=64)


def save_png(path: Path, grid: UInt8[Tensor, "3 gh gw"]) -> None:
    """Write the grid, enlarged by a whole factor, every image pixel a crisp square."""
    factor = max(1, PNG_PIXELS // grid.shape[-1])
    enlarged = grid.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)
    with atomic_path(path) as temporary:
        Image.fromarray(enlarged.permute(1, 2, 0).contiguous().to(torch.uint8).numpy()).save(temporary, format="PNG")
