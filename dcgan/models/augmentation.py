"""Augmentation of images in the training step: of the real images, or of all inputs of D.

All transformations run on the images' device and take their random numbers from its default generator.
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from dcgan.common.arg_checks import check_bool, check_number

Images = Float[Tensor, "n c h w"]

BRIGHTNESS = 0.5  # largest change, of pixels in [-1, 1]
SATURATION = (0, 2)  # range of the factor of a pixel's distance to the mean of its channels
CONTRAST = (0.5, 1.5)  # range of the factor of a pixel's distance to the mean of its image


class Augmentation:
    """Random transformations of images in a training step. This base class transforms nothing.

    Both methods must not synchronize host and device.
    """

    @property
    def description(self) -> str:
        """The transformations, for the summary at the start of a run; "" if there are none."""
        return "" if type(self) is Augmentation else type(self).__name__

    def real(self, x: Images) -> Images:
        """Transform the real images of a step. G learns the distribution of the transformed images."""
        return x

    def inputs(self, x: Images) -> Images:
        """Transform inputs of D, real or generated. Must be differentiable: G learns through it.

        Called for each pass through D, with single images, not with packs.
        """
        return x


class Flip(Augmentation):
    """Mirrors each real image with probability 1/2, which doubles the data if mirror images are as likely.

    Args:
        enabled: False: transform nothing.

    Raises:
        ValueError: `enabled` is not a boolean.
    """

    def __init__(self, enabled: bool = True) -> None:
        check_bool("augmentation.enabled", enabled)
        self.enabled = enabled

    @property
    def description(self) -> str:
        return "flip" if self.enabled else ""

    def real(self, x: Images) -> Images:
        return mirror(x) if self.enabled else x


class DiffAugment(Flip):
    """Differentiable augmentation (Zhao et al. 2020, section 3), which keeps D from memorizing few training images.

    Real and generated images are transformed alike, so G still learns the distribution of the original images. Each
    pass through D has new transformations. As in the paper, translation and cutout fill with mid-gray, which is 0 if
    pixels are in [-1, 1].

    Args:
        low: Value of black, in [-1, 1): pixels are in [low, 1].
        color: Change brightness by up to a quarter of the pixels' range, saturation by a factor in [0, 2], which leaves
            gray images as they are, and contrast by a factor in [0.5, 1.5].
        translation: Translate by up to 1/8 of the image's size in both directions.
        cutout: Fill a square of half the image's size. A part of it may be outside of the image.
        flip: Mirror each real image with probability 1/2, as `Flip` does.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self, low: float = -1.0, color: bool = True, translation: bool = True, cutout: bool = True, flip: bool = False
    ) -> None:
        check_number("augmentation.low", low, -1, 1, brackets="[)")
        for name, value in (("color", color), ("translation", translation), ("cutout", cutout), ("flip", flip)):
            check_bool(f"augmentation.{name}", value)
        super().__init__(flip)
        self.gray, self.brightness = (low + 1) / 2, BRIGHTNESS * (1 - low) / 2
        self.color, self.translation, self.cutout = color, translation, cutout

    @property
    def description(self) -> str:
        switches = {"color": self.color, "translation": self.translation, "cutout": self.cutout, "flip": self.enabled}
        return ", ".join(name for name, is_on in switches.items() if is_on)

    def inputs(self, x: Images) -> Images:
        x = x.float()  # generated images may be bf16
        if self.color:
            x = change_contrast(change_saturation(change_brightness(x, self.brightness)))
        if self.translation:
            x = translate(x, self.gray)
        if self.cutout:
            x = cut_out(x, self.gray)
        return x


def uniform(x: Images, low: float, high: float) -> Float[Tensor, "n 1 1 1"]:
    """Return a random number in [low, high) for each image."""
    return torch.rand(len(x), 1, 1, 1, device=x.device) * (high - low) + low


def mirror(x: Images) -> Images:
    """Mirror each image left to right with probability 1/2."""
    return torch.where(uniform(x, 0, 1) < 0.5, x.flip(3), x)


def change_brightness(x: Images, limit: float) -> Images:
    """Add a random number in [-limit, limit) to each image."""
    return x + uniform(x, -limit, limit)


def change_saturation(x: Images) -> Images:
    """Scale each pixel's distance to the mean of its channels by a factor in [0, 2)."""
    return torch.lerp(x.mean(dim=1, keepdim=True), x, uniform(x, *SATURATION))


def change_contrast(x: Images) -> Images:
    """Scale each pixel's distance to the mean of its image by a factor in [0.5, 1.5)."""
    return torch.lerp(x.mean(dim=(1, 2, 3), keepdim=True), x, uniform(x, *CONTRAST))


def translate(x: Images, fill: float) -> Images:
    """Translate each image by up to 1/8 of its size in both directions. Pixels without a source are set to `fill`."""
    n, c, h, w = x.shape
    rows, columns = (source_positions(n, size, x.device) for size in (h, w))
    index = rows.clamp(0, h - 1)[:, :, None] * w + columns.clamp(0, w - 1)[:, None]
    moved = x.flatten(2).gather(2, index.flatten(1)[:, None].expand(-1, c, -1)).unflatten(2, (h, w))
    outside_y, outside_x = (rows < 0) | (rows >= h), (columns < 0) | (columns >= w)
    return moved.masked_fill(outside_y[:, None, :, None] | outside_x[:, None, None], fill)


def source_positions(n: int, size: int, device: torch.device) -> Int64[Tensor, "n size"]:
    """Return the rows (or columns) that n randomly translated images are taken from, of which some do not exist."""
    limit = size // 8
    return torch.arange(size, device=device) - torch.randint(-limit, limit + 1, (n, 1), device=device)


def cut_out(x: Images, fill: float) -> Images:
    """Set a square of half the size of each image to `fill`. A part of it may be outside."""
    n, _, h, w = x.shape
    rows, columns = (cutout_range(n, size, x.device) for size in (h, w))
    return x.masked_fill(rows[:, None, :, None] & columns[:, None, None], fill)


def cutout_range(n: int, size: int, device: torch.device) -> Bool[Tensor, "n size"]:
    """Return True for the rows (or columns) of the square, for each of n images."""
    side = size // 2
    center = torch.randint(size + 1 - side % 2, (n, 1), device=device)
    position = torch.arange(size, device=device) - (center - side // 2)
    return (position >= 0) & (position < side)
