"""Images side by side in one picture."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from dcgan.files import atomic_path

PNG_PIXELS = 512  # pictures are enlarged by whole factors to about this width, so that a person can see each image
PADDING = 2
GREY = 64
FONT_SIZE = 13
LINE = 18  # pixels of a line of text


def rgb(images: UInt8[Tensor, "n c h w"]) -> UInt8[Tensor, "n 3 h w"]:
    return images.expand(-1, 3, -1, -1)


def image_grid(images: UInt8[Tensor, "n c h w"], columns: int | None = None) -> UInt8[Tensor, "3 gh gw"]:
    """A grid with a border of 2 pixels, with so many columns or as square as n allows."""
    return mosaic(list(rgb(images.cpu())), columns or max(1, round(len(images) ** 0.5)))


def mosaic(pictures: list[UInt8[Tensor, "3 h w"]], columns: int) -> UInt8[Tensor, "3 gh gw"]:
    """Pictures of one size in rows of so many, with a border of 2 pixels."""
    columns = min(columns, len(pictures))
    missing = -len(pictures) % columns
    cells = torch.stack([F.pad(picture, (0, PADDING, 0, PADDING), value=GREY) for picture in pictures])
    cells = F.pad(cells, (0, 0, 0, 0, 0, 0, 0, missing), value=GREY)
    rows = cells.unflatten(0, (-1, columns)).permute(2, 0, 3, 1, 4)
    return F.pad(rows.flatten(3, 4).flatten(1, 2), (PADDING, 0, PADDING, 0), value=GREY)


def beside(pictures: list[UInt8[Tensor, "3 _ _"]]) -> UInt8[Tensor, "3 _ _"]:
    """Pictures of any sizes in one row, at the top."""
    height = max(picture.shape[1] for picture in pictures)
    return torch.cat([F.pad(p, (0, 0, 0, height - p.shape[1]), value=GREY) for p in pictures], dim=2)


def above(upper: UInt8[Tensor, "3 _ _"], lower: UInt8[Tensor, "3 _ _"]) -> UInt8[Tensor, "3 _ _"]:
    """One picture on top of another, at the left."""
    return torch.cat(as_wide_as_the_widest([upper, lower]), dim=1)


def as_wide_as_the_widest(pictures: list[UInt8[Tensor, "3 _ _"]]) -> list[UInt8[Tensor, "3 _ _"]]:
    width = max(picture.shape[2] for picture in pictures)
    return [F.pad(picture, (0, width - picture.shape[2]), value=GREY) for picture in pictures]


def enlarge(picture: UInt8[Tensor, "3 h w"], factor: int) -> UInt8[Tensor, "3 gh gw"]:
    """Every pixel a crisp square."""
    return picture.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)


def fitting_factor(picture: UInt8[Tensor, "3 h w"]) -> int:
    """What to enlarge a picture by for it to be about 512 pixels wide."""
    return max(1, round(PNG_PIXELS / picture.shape[-1]))


@lru_cache(maxsize=1)
def font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(FONT_SIZE)


def captioned(picture: UInt8[Tensor, "3 h w"], text: str) -> UInt8[Tensor, "3 gh gw"]:
    """The picture under a line of text; it grows to the right where the text is longer."""
    width = max(picture.shape[2], 2 * PADDING + round(font().getlength(text)))
    line = Image.new("RGB", (width, LINE), (GREY,) * 3)
    ImageDraw.Draw(line).text((PADDING, 1), text, "white", font())
    return above(torch.from_numpy(np.array(line)).permute(2, 0, 1), picture)


def as_image(picture: UInt8[Tensor, "3 h w"]) -> Image.Image:
    return Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy())


def write_png(path: Path, picture: UInt8[Tensor, "3 h w"]) -> None:
    with atomic_path(path) as temporary:
        as_image(picture).save(temporary, format="PNG")


def save_png(path: Path, grid: UInt8[Tensor, "3 gh gw"]) -> None:
    """Write the grid, enlarged by a whole factor."""
    write_png(path, enlarge(grid, fitting_factor(grid)))
