"""The interface of all data modules, and a base class for data sets that fit in memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import lightning as L
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from dcgan.common.arg_checks import check_int
from dcgan.common.cache import digest
from dcgan.common.errors import UserError
from dcgan.data.batch_sampler import BatchSampler, ResumableLoader
from dcgan.data.pixel_range import PixelRange, resize_images

Batch = tuple[Float[Tensor, "b c h w"], Int64[Tensor, " b"] | None]


@dataclass(kw_only=True, eq=False)
class BaseDataModule(L.LightningDataModule):
    """A data module whose batches are (images, labels), or (images, None) if it is not `labelled`.

    The loader may deliver something else, of which Lightning's hook `on_after_batch_transfer` makes a batch on the
    device. A CUDA graph records this hook as a part of the step.

    Args:
        image_size: Height and width in pixels, >= 1.
        channels: 1 or 3.
        pixels: The networks' pixel range.
        batch_size: Images per D update and rank, >= 1.
        batches_per_step: D updates per step, >= 1. A training batch holds batch_size * batches_per_step images.
        limit: Number of training images to use, >= 1; None: all.
        classes: Number of classes, >= 1; None: the images have no classes.
        labelled: Return labels; needs `classes`.
        mirrored: True if a mirror image is as likely as the original: true of objects and faces, false of digits and
            text. The default augmentation flips such images.
        seed: Seed of the order of the images, >= 0.

    Raises:
        ValueError: An argument is out of range.
    """

    judged_channels: ClassVar[int] = 1  # channels of an image, each of which the judge classifies

    image_size: int
    channels: int
    pixels: PixelRange
    batch_size: int
    batches_per_step: int = 1
    limit: int | None = None
    classes: int | None = None
    labelled: bool = False
    mirrored: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        super().__init__()
        check_int("data.image_size", self.image_size, 1)
        if self.channels not in (1, 3):
            raise ValueError(f"data.channels must be 1 or 3, got {self.channels!r}")
        check_int("data.batch_size", self.batch_size, 1)
        check_int("data.limit", self.limit, 1, optional=True)
        check_int("data.classes", self.classes, 1, optional=True)
        if not isinstance(self.labelled, bool) or (self.labelled and self.classes is None):
            raise ValueError(f"data.labelled must be false, or true with data.classes, got {self.labelled!r}")
        check_int("seed", self.seed, 0)
        self.broken_files: dict[str, str] = {}  # files that this rank has skipped -> reason

    @property
    def images_per_step(self) -> int:
        """Real images per step and rank."""
        return self.batch_size * self.batches_per_step

    @property
    def device(self) -> torch.device:
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")

    def batch_sampler(self, n: int, device: torch.device | str = "cpu") -> BatchSampler:
        """Return this rank's sampler of n images.

        Raises:
            UserError: The images do not fill one batch on each rank.
        """
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        if n < self.images_per_step * world_size:
            raise UserError(
                f"one step needs {self.images_per_step * world_size} images (data.batch_size {self.batch_size} x "
                f"{self.batches_per_step} D updates x {world_size} processes), but there are only {n}: "
                f"lower data.batch_size or raise data.limit"
            )
        return BatchSampler(n, self.images_per_step, self.seed, rank, world_size, device)

    @property
    def n_images(self) -> int:
        """Number of training images, after `limit`."""
        raise NotImplementedError

    @property
    def fingerprint(self) -> dict[str, str]:
        """Digests of the training images, saved in checkpoints.

        "content" identifies the images. "modified" (optional) covers the files' times, which copying changes, too.
        """
        raise NotImplementedError

    def examples(self, indices: list[int]) -> tuple[UInt8[Tensor, "n c h w"], list[str] | None]:
        """Return training images and the names of their classes (None: they have no classes)."""
        raise NotImplementedError

    def preview(self, n: int) -> UInt8[Tensor, "m c h w"]:
        """Return the first m = min(n, n_images) training images."""
        return self.examples(list(range(min(n, self.n_images))))[0]

    def label_prior(self) -> Float[Tensor, " k"]:
        """Return each class's relative frequency in the training images, if they are labelled."""
        raise NotImplementedError

    @property
    def dataset_name(self) -> str:
        """Name of the data set, the same on every machine."""
        return type(self).__name__

    @property
    def judge_name(self) -> str:
        """Name of the data set whose judge classifies each of the `judged_channels`."""
        return self.dataset_name


class InMemoryDataModule(BaseDataModule):
    """A data module that holds its images as uint8 in memory, or in GPU memory during a training on a GPU."""

    train_images: UInt8[Tensor, "n c h w"]
    train_labels: Int64[Tensor, " n"]
    # True: the loader delivers indices, and a CUDA graph records `on_after_batch_transfer`, which takes the images
    delivers_indices = False

    def load(self, train: bool) -> tuple[UInt8[Tensor, "n k h w"], Int64[Tensor, " n"]]:
        """Return all training or all test images in their original size, and their classes, counted from 0."""
        raise NotImplementedError

    def resize(self, images: UInt8[Tensor, "n k h w"]) -> UInt8[Tensor, "n c s s"]:
        """Convert images to `image_size` and `channels`."""
        return resize_images(images, self.image_size, self.channels)

    def setup(self, stage: str) -> None:
        images, labels = self.load(train=True)
        self.train_images, self.train_labels = self.resize(images[: self.limit]), labels[: self.limit]
        if self.labelled:
            check_labels(self.train_labels, self.classes)

    def train_dataloader(self) -> ResumableLoader:
        self.device_images = self.train_images.to(self.device)
        self.device_labels = self.train_labels.to(self.device) if self.labelled else None

        def fetch(sampler: BatchSampler) -> Iterator[Batch | Int64[Tensor, " b"]]:
            for index in sampler:
                yield index if self.delivers_indices else self.take(index)

        return ResumableLoader(self.batch_sampler(self.n_images, self.device), fetch)

    def take(self, index: Int64[Tensor, " b"]) -> Batch:
        """Return the images at these indices and their labels, on the device."""
        labels = None if self.device_labels is None else self.device_labels[index]
        return self.pixels.encode(self.device_images[index]), labels

    def on_after_batch_transfer(self, batch: Batch | Int64[Tensor, " b"], dataloader_idx: int) -> Batch:
        return self.take(batch) if isinstance(batch, Tensor) else batch

    @property
    def n_images(self) -> int:
        return len(self.train_images)

    @cached_property
    def fingerprint(self) -> dict[str, str]:
        return {"content": digest([self.train_images, self.train_labels])}

    def examples(self, indices: list[int]) -> tuple[UInt8[Tensor, "n c h w"], list[str] | None]:
        return self.train_images[indices], [str(label) for label in self.train_labels[indices].tolist()]

    def label_prior(self) -> Float[Tensor, " k"]:
        return class_frequencies(self.train_labels, self.classes)


def check_labels(labels: Int64[Tensor, " n"], classes: int | None) -> None:
    """Raise UserError unless all labels are in [0, classes)."""
    if int(labels.max()) >= (classes or 0):
        raise UserError(f"data.classes must be > {int(labels.max())}, the highest label, got {classes}")


def class_frequencies(labels: Int64[Tensor, " n"], classes: int | None) -> Float[Tensor, " k"]:
    """Return the relative frequency of each class."""
    counts = labels.bincount(minlength=classes or 0)
    return counts / counts.sum()
