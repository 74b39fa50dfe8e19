"""The base class of all data modules: images and labels as tensors, in memory, memory-mapped or on the GPU."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import lightning as L
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from dcgan.common.arg_checks import check_bool, check_image_size, check_instance, check_int
from dcgan.common.cache import digest
from dcgan.common.errors import UserError
from dcgan.data.batch_sampler import BatchSampler, ResumableLoader
from dcgan.data.pixel_range import PixelRange, resize_images

StoredImages = tuple[UInt8[Tensor, "n c h w"], Int64[Tensor, " n"] | None]  # and labels, if any
Batch = tuple[Float[Tensor, "b c h w"], Int64[Tensor, " b"] | None]
MAX_GPU_SHARE = 0.5  # of the free memory, for the training images


@dataclass(kw_only=True, eq=False)
class BaseDataModule(L.LightningDataModule):
    """A data module whose batches are (images, labels), or (images, None) if it is not `labelled`.

    A subclass implements `load`. The loader delivers stored images, or indices, of which Lightning's hook
    `on_after_batch_transfer` makes a batch on the device. A CUDA graph records this hook as a part of the step.

    Args:
        image_size: Height and width in pixels, >= 1.
        channels: 1 or 3.
        pixels: The networks' pixel range.
        batch_size: Images per D update and rank, >= 1.
        batches_per_step: D updates per step, >= 1. A training batch holds batch_size * batches_per_step images.
        limit: Number of training images to use, from the first one, >= 1; None: all.
        classes: Number of classes, >= 1; None: the images have no classes.
        labelled: Return labels; needs `classes`.
        mirrored: True if a mirror image is as likely as the original: true of objects and faces, false of digits and
            text. The default augmentation flips such images.
        seed: Seed of the order of the images, >= 0.

    Attributes:
        train_images: uint8, set by `setup`; on the CPU, maybe memory-mapped and read-only.
        train_labels: Their classes, counted from 0; None if they have none.
        broken_files: Files that were skipped, and the reasons.
        delivers_indices: Set by a CUDA graph: deliver indices, if the images are on the device. The recording then
            holds the selection of the images.

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
        check_image_size("data.image_size", self.image_size, 1)
        if self.channels not in (1, 3):
            raise ValueError(f"data.channels must be 1 or 3, got {self.channels!r}")
        check_instance("data.pixels", self.pixels, PixelRange)
        check_int("data.batch_size", self.batch_size, 1)
        check_int("data.batches_per_step", self.batches_per_step, 1)
        check_int("data.limit", self.limit, 1, optional=True)
        check_int("data.classes", self.classes, 1, optional=True)
        if not isinstance(self.labelled, bool) or (self.labelled and self.classes is None):
            raise ValueError(f"data.labelled must be false, or true with data.classes, got {self.labelled!r}")
        check_bool("data.mirrored", self.mirrored)
        check_int("seed", self.seed, 0)
        self.broken_files: dict[str, str] = {}
        self.delivers_indices = False

    # --- the images

    def load(self, train: bool) -> StoredImages:
        """Return all training or all test images in their stored size, and their classes, counted from 0, if any."""
        raise NotImplementedError

    def setup(self, stage: str) -> None:
        images, labels = self.load(train=True)
        self.train_images = self.resize(images[: self.limit])
        self.train_labels = None if labels is None else labels[: self.limit]
        if self.labelled:
            check_labels(self.train_labels, self.classes)

    def resize(self, images: UInt8[Tensor, "n k h w"]) -> UInt8[Tensor, "n c s s"]:
        """Convert images to `image_size` and `channels`."""
        return resize_images(images, self.image_size, self.channels)

    @property
    def n_images(self) -> int:
        """Number of training images, after `limit`."""
        return len(self.train_images)

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the training images and their labels, saved in checkpoints."""
        return digest([self.train_images, self.train_labels])

    def content_digest(self, stored: StoredImages) -> str:
        """Return a digest of all training images and their labels, which `load` has returned."""
        return digest(stored)

    def class_name(self, label: int) -> str:
        return str(label)

    def examples(self, indices: list[int]) -> tuple[UInt8[Tensor, "n c h w"], list[str] | None]:
        """Return training images and the names of their classes (None: they have no classes)."""
        labels = None if self.train_labels is None else self.train_labels[indices].tolist()
        return self.train_images[indices], None if labels is None else [self.class_name(label) for label in labels]

    def preview(self, n: int) -> UInt8[Tensor, "m c h w"]:
        """Return the first m = min(n, n_images) training images."""
        return self.train_images[:n].clone()

    def label_prior(self) -> Float[Tensor, " k"]:
        """Return each class's relative frequency in the training images, if they are labelled."""
        assert self.train_labels is not None
        return class_frequencies(self.train_labels, self.classes)

    @property
    def dataset_name(self) -> str:
        """Name of the data set, the same on every machine."""
        return type(self).__name__

    @property
    def judge_name(self) -> str:
        """Name of the data set whose judge classifies each of the `judged_channels`."""
        return self.dataset_name

    # --- the batches

    @property
    def device(self) -> torch.device:
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")

    @property
    def images_per_step(self) -> int:
        """Real images per step and rank."""
        return self.batch_size * self.batches_per_step

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

    def train_dataloader(self) -> ResumableLoader:
        on_device = fits_in_memory(self.train_images, self.device)
        location = self.device if on_device else torch.device("cpu")
        self.loader_images = self.train_images.to(location)
        labels = self.train_labels if self.labelled else None
        self.loader_labels = None if labels is None else labels.to(location)

        def fetch(sampler: BatchSampler) -> Iterator[StoredImages | Int64[Tensor, " b"]]:
            for index in sampler:
                if on_device:
                    yield index if self.delivers_indices else self.take(index)
                else:  # pinned memory is copied while the GPU computes
                    images, labels = self.take(index)
                    yield images.pin_memory(), None if labels is None else labels.pin_memory()

        return ResumableLoader(self.batch_sampler(self.n_images, location), fetch)

    def take(self, index: Int64[Tensor, " b"]) -> StoredImages:
        """Return the stored images at these indices, and their labels if `labelled`."""
        return self.loader_images[index], None if self.loader_labels is None else self.loader_labels[index]

    def on_after_batch_transfer(self, batch: StoredImages | Int64[Tensor, " b"], dataloader_idx: int) -> Batch:
        images, labels = self.take(batch) if isinstance(batch, Tensor) else batch
        return self.pixels.encode(images), labels


def fits_in_memory(images: UInt8[Tensor, "n c h w"], device: torch.device) -> bool:
    """Return True unless the images would take more than half of a GPU's free memory."""
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return images.nbytes <= MAX_GPU_SHARE * free


def check_labels(labels: Int64[Tensor, " n"] | None, classes: int | None) -> None:
    """Raise UserError unless there are labels, all in [0, classes)."""
    if labels is None:
        raise UserError("the images have no labels: choose conditional=none or another data=")
    if int(labels.min()) < 0:
        raise UserError("some images have no label: choose another split, conditional=none or another data=")
    if int(labels.max()) >= (classes or 0):
        raise UserError(f"data.classes must be > {int(labels.max())}, the highest label, got {classes}")


def class_frequencies(labels: Int64[Tensor, " n"], classes: int | None) -> Float[Tensor, " k"]:
    """Return the relative frequency of each class."""
    counts = labels.bincount(minlength=classes or 0)
    return counts / counts.sum()
