"""Grids of images, captions and PNG files."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from dcgan.common.atomic_files import atomic_path

DISPLAY_WIDTH = 512  # pixels; small images are enlarged to about this width
PADDING = 2  # pixels
GREY = 64
FONT_SIZE = 13
CAPTION_HEIGHT = 18  # pixels


def to_rgb(images: UInt8[Tensor, "n c h w"]) -> UInt8[Tensor, "n 3 h w"]:
    return images.expand(-1, 3, -1, -1)


def image_grid(images: UInt8[Tensor, "n c h w"], columns: int | None = None) -> UInt8[Tensor, "3 gh gw"]:
    """Arrange images in a grid with a border of 2 pixels. columns=None: a grid that is about square."""
    return mosaic(list(to_rgb(images.cpu())), columns or max(1, round(len(images) ** 0.5)))


def mosaic(images: list[UInt8[Tensor, "3 h w"]], columns: int) -> UInt8[Tensor, "3 gh gw"]:
    """Arrange images of one size in rows of `columns` images, with a border of 2 pixels."""
    columns = min(columns, len(images))
    missing = -len(images) % columns
    cells = torch.stack([F.pad(image, (0, PADDING, 0, PADDING), value=GREY) for image in images])
    cells = F.pad(cells, (0, 0, 0, 0, 0, 0, 0, missing), value=GREY)
    rows = cells.unflatten(0, (-1, columns)).permute(2, 0, 3, 1, 4)
    return F.pad(rows.flatten(3, 4).flatten(1, 2), (PADDING, 0, PADDING, 0), value=GREY)


def hstack(images: list[UInt8[Tensor, "3 _ _"]]) -> UInt8[Tensor, "3 _ _"]:
    """Concatenate images from left to right, aligned at the top."""
    height = max(image.shape[1] for image in images)
    return torch.cat([F.pad(image, (0, 0, 0, height - image.shape[1]), value=GREY) for image in images], dim=2)


def vstack(images: list[UInt8[Tensor, "3 _ _"]]) -> UInt8[Tensor, "3 _ _"]:
    """Concatenate images from top to bottom, aligned at the left."""
    return torch.cat(pad_to_same_width(images), dim=1)


def pad_to_same_width(images: list[UInt8[Tensor, "3 _ _"]]) -> list[UInt8[Tensor, "3 _ _"]]:
    width = max(image.shape[2] for image in images)
    return [F.pad(image, (0, width - image.shape[2]), value=GREY) for image in images]


def enlarge(image: UInt8[Tensor, "3 h w"], factor: int) -> UInt8[Tensor, "3 gh gw"]:
    """Upsample an image by an integer factor (nearest neighbor)."""
    return image.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)


def display_scale(image: UInt8[Tensor, "3 h w"]) -> int:
    """Return the factor that enlarges an image to a width of about 512 pixels."""
    return max(1, round(DISPLAY_WIDTH / image.shape[-1]))


def add_caption(image: UInt8[Tensor, "3 h w"], text: str) -> UInt8[Tensor, "3 gh gw"]:
    """Add a line of text above an image, which is padded on the right if the text is wider."""
    font = ImageFont.load_default(FONT_SIZE)
    width = max(image.shape[2], 2 * PADDING + round(font.getlength(text)))
    line = Image.new("RGB", (width, CAPTION_HEIGHT), (GREY,) * 3)
    ImageDraw.Draw(line).text((PADDING, 1), text, "white", font)
    return vstack([torch.from_numpy(np.array(line)).permute(2, 0, 1), image])


def to_pil(image: UInt8[Tensor, "3 h w"]) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())


def save_png(path: Path, image: UInt8[Tensor, "3 h w"], scale: int | None = None) -> None:
    """Write an image, enlarged by `scale` (None: to a width of about 512 pixels)."""
    with atomic_path(path) as temporary:
        to_pil(enlarge(image, scale or display_scale(image))).save(temporary, format="PNG")
