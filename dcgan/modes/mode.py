"""What every mode of `python -m dcgan.sample` is given and what it returns."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from dcgan import cli
from dcgan.checks import UserError, check_int
from dcgan.grids import as_wide_as_the_widest, captioned, enlarge, fitting_factor, image_grid, mosaic
from dcgan.run_folder import folder_of
from dcgan.trained import TrainedGenerator, load_generator

if TYPE_CHECKING:
    from dcgan.data import ImageData
    from dcgan.metrics.judge import Judge


MOST = 10_000_000  # images that are held in memory: 8 GB of MNIST's size


@dataclass(frozen=True, eq=False)
class Source:
    """What there is to draw from; each part is loaded when it is first asked for.

    checkpoint: a checkpoint's or an export's path, None: there is none; device: "auto", "cpu" or "cuda".
    real: makes the data module of the training images.
    """

    checkpoint: Path | None
    device: str
    batch_size: int
    real: "Callable[[], ImageData]"

    @property
    def path(self) -> Path:
        if self.checkpoint is None:
            raise UserError("give checkpoint=RUN/checkpoints/last.ckpt: this mode draws from a trained generator")
        return self.checkpoint

    @property
    def run_dir(self) -> Path:
        return self.path if self.path.is_dir() else folder_of(self.path) or self.path.parent

    @cached_property
    def generator(self) -> TrainedGenerator:
        return load_generator(self.path, self.device)

    @cached_property
    def judge(self) -> "Judge":
        """The judge of the data set that the generator was trained on."""
        from dcgan.metrics.judge import judge_of

        return judge_of(self.generator)

    def draw(
        self, z: Float[Tensor, "n latent_dim"], label: Int64[Tensor, " n"] | None = None
    ) -> UInt8[Tensor, "n c h w"]:
        """The images of z, with a progress bar."""
        parts = []
        with cli.bar() as progress:
            task = progress.add_task(f"drawing {len(z):,} images", total=len(z))
            for part in self.generator.draw(z, label, self.batch_size):
                parts.append(part)
                progress.update(task, advance=len(part))
        return torch.cat(parts)


Picture = UInt8[Tensor, "3 _ _"]


@dataclass(frozen=True, eq=False)
class Still:
    """Images and how they stand in a picture: so many columns, a caption above each where there are captions, or as
    `compose` puts them, which is given the factor to enlarge them by (None: a fitting one).

    labels: what a conditional model was told to draw. notes: what there is to say about them.
    """

    images: UInt8[Tensor, "n c h w"]
    columns: int
    captions: list[str] | None = None
    labels: Int64[Tensor, " n"] | None = None
    compose: Callable[[int | None], Picture] | None = None
    notes: tuple[str, ...] = ()

    def picture(self, scale: int | None) -> Picture:
        if self.compose is not None:
            return self.compose(scale)
        grid = image_grid(self.images, self.columns)
        factor = scale or fitting_factor(grid)
        if self.captions is None:
            return enlarge(grid, factor)
        cells = [
            captioned(enlarge(image_grid(image[None], 1), factor), text)
            for image, text in zip(self.images, self.captions, strict=True)
        ]
        return mosaic(as_wide_as_the_widest(cells), self.columns)


@dataclass(frozen=True, eq=False)
class Film:
    """Pictures that are shown one after the other, over and over, with a caption each where there are captions."""

    frames: list[Picture]
    captions: list[str] | None = None
    notes: tuple[str, ...] = ()

    def pictures(self, scale: int | None) -> list[Picture]:
        factor = scale or fitting_factor(self.frames[0])
        enlarged = [enlarge(frame, factor) for frame in self.frames]
        if self.captions is None:
            return enlarged
        pictures = [captioned(picture, text) for picture, text in zip(enlarged, self.captions, strict=True)]
        return as_wide_as_the_widest(pictures)


class Mode:
    """A way to draw. n: images of a still, or frames of a film; None: what looks well. seed: of the latent vectors.

    Raises ValueError for n below 1 and a negative seed.
    """

    def __init__(self, n: int | None, seed: int) -> None:
        check_int("n", n, 1, MOST, optional=True)
        check_int("seed", seed, 0)
        self.n, self.seed = n, seed

    def still(self, source: Source) -> Still:
        raise NotImplementedError

    def film(self, source: Source) -> Film:
        """The still's images, one after the other."""
        still = self.still(source)
        return Film([image_grid(image[None], 1) for image in still.images], still.captions, still.notes)
