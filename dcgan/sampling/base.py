"""The inputs and outputs of the modes of `python -m dcgan.sample`."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from dcgan.common.arg_checks import check_int
from dcgan.common.errors import UserError
from dcgan.common.image_grid import add_caption, display_scale, enlarge, image_grid, mosaic, pad_to_same_width
from dcgan.common.progress import progress_bar
from dcgan.metrics.judge import Judge, MissingJudgeError, load_judge
from dcgan.sampling.trained_generator import TrainedGenerator, load_generator

if TYPE_CHECKING:
    from dcgan.data.datamodule import BaseDataModule

MAX_IMAGES = 10_000_000  # in memory: 8 GB at 28 x 28 pixels

Picture = UInt8[Tensor, "3 _ _"]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class SampleSource:
    """A trained generator, its judge and its training images, each loaded on first use.

    Args:
        checkpoint: Path of a checkpoint or an export; None for a mode that needs no generator.
        device: "auto", "cpu" or "cuda".
        batch_size: Images per batch, >= 1.
        load_datamodule: Returns the data module of the training images; None for a mode that needs none.
        truncation: Threshold of the components of z, > 0; None: no truncation.
    """

    checkpoint: Path | None
    device: str
    batch_size: int
    load_datamodule: "Callable[[], BaseDataModule] | None" = None
    truncation: float | None = None

    @property
    def path(self) -> Path:
        if self.checkpoint is None:
            raise UserError(
                "this mode needs a trained generator: give checkpoint=RUN/checkpoints/last.ckpt, or checkpoint=mnist"
            )
        return self.checkpoint

    @cached_property
    def generator(self) -> TrainedGenerator:
        return load_generator(self.path, self.device)

    @cached_property
    def judge(self) -> Judge:
        return load_matching_judge(self.generator)

    @cached_property
    def training_data(self) -> "BaseDataModule":
        """The data module of the training images, which are prepared and loaded."""
        if self.load_datamodule is None:
            raise UserError("this mode needs training images, but this source has no data module")
        data = self.load_datamodule()
        data.prepare_data()
        data.setup("fit")
        return data

    def z(self, n: int, seed: int) -> Float[Tensor, "n latent_dim"]:
        """Return n latent vectors on the CPU; vector i depends only on (seed, i) and on `truncation`."""
        return self.generator.z(n, seed, self.truncation)

    def generate(
        self, z: Float[Tensor, "n latent_dim"], label: Int64[Tensor, " n"] | None = None
    ) -> UInt8[Tensor, "n c h w"]:
        """Generate the images of z, with a progress bar."""
        batches = self.generator.generate(z, label, self.batch_size)
        with progress_bar() as progress:
            n_batches, description = math.ceil(len(z) / self.batch_size), f"generating {len(z):,} images"
            return torch.cat(list(progress.track(batches, n_batches, description=description)))


def load_matching_judge(generator: TrainedGenerator) -> Judge:
    """Return the judge of the generator's data set, on the generator's device. UserError if there is none."""
    if generator.facts.get("judge") is None:
        raise UserError(f"images of {generator.facts['dataset']} have no judge: they have no classes, or several each")
    try:
        return load_judge(generator.facts["judge"], generator.device)
    except MissingJudgeError as error:
        raise UserError(f"{error}: train one with python -m dcgan.metrics.train_judge data=...") from error


def add_captions(pictures: list[Picture], captions: list[str] | None) -> list[Picture]:
    """Return the pictures with a caption above each, padded to the same width; unchanged without captions."""
    if captions is None:
        return pictures
    return pad_to_same_width([add_caption(*pair) for pair in zip(pictures, captions, strict=True)])


@dataclass(frozen=True, eq=False)
class ImageSheet:
    """Images and their layout in one picture.

    Args:
        images: The images.
        columns: Images per row.
        captions: A caption per image, if any.
        labels: The label per image that a conditional model was given, if any.
        latents: Latent vectors that are written next to the file, if any.
        compose: Returns the picture for the `scale` of `picture`; None: the images in rows.
        notes: Lines to print.
    """

    images: UInt8[Tensor, "n c h w"]
    columns: int
    captions: list[str] | None = None
    labels: Int64[Tensor, " n"] | None = None
    latents: Float[Tensor, "m latent_dim"] | None = None
    compose: Callable[[int | None], Picture] | None = None
    notes: tuple[str, ...] = ()

    def picture(self, scale: int | None) -> Picture:
        """Return the picture, enlarged by `scale`, or to about 512 pixels for None."""
        if self.compose is not None:
            return self.compose(scale)
        grid = image_grid(self.images, self.columns)
        factor = scale or display_scale(grid)
        if self.captions is None:
            return enlarge(grid, factor)
        cells = [enlarge(image_grid(image[None], 1), factor) for image in self.images]
        return mosaic(add_captions(cells, self.captions), self.columns)


@dataclass(frozen=True, eq=False)
class Animation:
    """Frames of a looping .gif, with a caption per frame, if any, and lines to print."""

    frames: list[Picture]
    captions: list[str] | None = None
    notes: tuple[str, ...] = ()

    def pictures(self, scale: int | None) -> list[Picture]:
        """Return the frames, enlarged by `scale`, or to about 512 pixels for None."""
        factor = scale or display_scale(self.frames[0])
        return add_captions([enlarge(frame, factor) for frame in self.frames], self.captions)


@dataclass
class SamplingMode:
    """A kind of picture that `python -m dcgan.sample` makes. A subclass defines `image_sheet`.

    Args:
        n: Images of a sheet, or frames of an animation, 1 to 10,000,000; None: the mode's default.
        seed: Seed of the latent vectors, >= 0.
        nrow: Images per row, >= 1; None: the mode's default.
        label: Class of all images; None: the mode's default.

    Raises:
        ValueError: An argument is out of range.
    """

    n: int | None
    seed: int
    nrow: int | None = None
    label: int | None = None

    def __post_init__(self) -> None:
        check_int("n", self.n, 1, MAX_IMAGES, optional=True)
        check_int("seed", self.seed, 0)
        check_int("nrow", self.nrow, 1, optional=True)

    def image_sheet(self, source: SampleSource) -> ImageSheet:
        raise NotImplementedError

    def animation(self, source: SampleSource) -> Animation:
        """Return an animation with one image of the sheet per frame."""
        sheet = self.image_sheet(source)
        return Animation([image_grid(image[None], 1) for image in sheet.images], sheet.captions, sheet.notes)


def choose(name: str, options: dict[str, T], value: str) -> T:
    """Return `options[value]`. ValueError, with the argument's name, if there is no such option."""
    if value not in options:
        raise ValueError(f"{name} must be one of {', '.join(options)}, got {value!r}")
    return options[value]
