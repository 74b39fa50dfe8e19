"""A folder of the user's own images, decoded by worker processes during the training."""

import os
import signal
import sys
import threading
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dcgan.common.arg_checks import check_int
from dcgan.common.cache import digest
from dcgan.common.errors import UserError, first_line
from dcgan.data.batch_sampler import ResumableLoader
from dcgan.data.datamodule import BaseDataModule, Batch, class_frequencies

SUFFIXES = {".jpg", ".jpeg", ".png"}
FORMATS = ("JPEG", "PNG")  # whatever the suffix: Pillow would start Ghostscript for PostScript
ON_BROKEN = ("raise", "skip")
MAX_TRIES = 100  # consecutive broken files before an error
MAX_NOTES = 10  # broken files that are reported on stderr


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """The result of reading an image."""

    image: Tensor | None  # (c, size, size) uint8; None if no file could be read
    label: int | None
    broken_files: dict[str, str]  # files that could not be read -> reason


class ImageDataset(Dataset):
    """JPEG and PNG files. The shorter side is scaled to `image_size`, the center is cropped.

    Never raises: an exception would reach the main process as a worker's traceback.

    Args:
        paths: The files.
        labels: Their classes; None: they have no classes.
        image_size: Height and width in pixels.
        channels: 1 or 3.
        skip: Replace a broken file by the next valid one, which keeps all batches equally large.
    """

    def __init__(
        self, paths: list[Path], labels: list[int] | None, image_size: int, channels: int, skip: bool = False
    ) -> None:
        self.paths, self.labels, self.image_size, self.channels = paths, labels, image_size, channels
        self.tries = min(len(paths), MAX_TRIES) if skip else 1

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> LoadedImage:
        broken_files = {}
        for i in range(index, index + self.tries):
            path = self.paths[i % len(self)]
            try:
                image = self.read(path)
            except Exception as error:  # Pillow raises a dozen types
                broken_files[str(path)] = first_line(error)
            else:
                return LoadedImage(image, None if self.labels is None else self.labels[i % len(self)], broken_files)
        return LoadedImage(None, None, broken_files)

    def read(self, path: Path) -> UInt8[Tensor, "c h w"]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata and large images
            with Image.open(path, formats=FORMATS) as file:
                upright = ImageOps.exif_transpose(file).convert("L" if self.channels == 1 else "RGB")
                resized = ImageOps.fit(upright, (self.image_size, self.image_size), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(resized)).reshape(self.image_size, self.image_size, -1).permute(2, 0, 1)


CollatedBatch = tuple[Tensor, Tensor | None, dict[str, str]]  # images, labels, broken files


def collate(loaded: list[LoadedImage]) -> CollatedBatch | str:
    """Return the images, the labels and the broken files of a batch, or an error message."""
    for item in loaded:
        if item.image is None:
            path, reason = next(iter(item.broken_files.items()))
            if len(item.broken_files) > 1:
                n = len(item.broken_files)
                return f"{n} images in a row, from {path} on, cannot be read ({reason}): check data.root"
            return f"the image {path} cannot be read ({reason}): fix or remove it, or set data.on_broken=skip"
    images, labels = [cast(Tensor, item.image) for item in loaded], [item.label for item in loaded]
    broken_files = {path: reason for item in loaded for path, reason in item.broken_files.items()}
    return torch.stack(images), None if labels[0] is None else torch.tensor(labels), broken_files


def ignore_signals(worker: int) -> None:
    """Make a worker ignore signals, except a SIGTERM from the main process.

    A signal to the process group reaches the workers, too, and the main process needs their images to finish its step.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=exit_on_sigterm_from_parent, daemon=True).start()


def exit_on_sigterm_from_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


@dataclass(kw_only=True, eq=False)
class ImageFolder(BaseDataModule):
    """All JPEG and PNG files in a folder and its subfolders.

    If `labelled`, the class of an image is the subfolder of `root` that contains it, in alphabetical order.

    Args:
        root: The folder.
        workers: Number of worker processes, >= 0; 0: read in the main process.
        on_broken: If an image cannot be read: "raise" an error, or "skip" (report it and use the next one).

    For the other arguments see `BaseDataModule`.

    Raises:
        UserError: There are no images, or not `classes` subfolders (raised by `setup`), or an image cannot be read.
    """

    root: Path
    workers: int = 2
    on_broken: str = "raise"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("data.workers", self.workers, 0)
        if self.on_broken not in ON_BROKEN:
            raise ValueError(f"data.on_broken must be one of {', '.join(ON_BROKEN)}, got {self.on_broken!r}")
        self.root = Path(self.root)

    def setup(self, stage: str) -> None:
        if not self.root.is_dir():
            raise UserError(f"there is no folder {self.root}: set data.root to the folder of your images")
        candidates = (path for path in self.root.rglob("*") if path.suffix.lower() in SUFFIXES)
        # reading a pipe, or a link to one, would block; a dangling link counts as a broken image
        paths = sorted(path for path in candidates if path.is_file() or not path.exists())
        if not paths:
            raise UserError(f"there is no .jpg, .jpeg or .png file in {self.root}: set data.root to their folder")
        labels = self.read_labels(paths) if self.labelled else None
        if self.limit is not None and self.limit < len(paths):  # evenly from all subfolders
            index = [i * len(paths) // self.limit for i in range(self.limit)]
            paths, labels = [paths[i] for i in index], None if labels is None else [labels[i] for i in index]
        self.dataset = ImageDataset(paths, labels, self.image_size, self.channels, self.on_broken == "skip")

    def read_labels(self, paths: list[Path]) -> list[int]:
        """Return the class of each path, and set `class_names`."""
        names = [path.relative_to(self.root).parts[0] if path.parent != self.root else "" for path in paths]
        class_names = sorted(set(names))
        if "" in class_names or len(class_names) != self.classes:
            raise UserError(
                f"{self.root} must contain data.classes={self.classes} folders of images, one for each class, and no "
                f"other images, got {len(class_names) - ('' in class_names)} folders"
            )
        self.class_names = class_names
        return [class_names.index(name) for name in names]

    def train_dataloader(self) -> ResumableLoader:
        sampler = self.batch_sampler(len(self.dataset))
        loader: DataLoader = DataLoader(
            self.dataset,
            batch_sampler=cast(Any, sampler),
            num_workers=self.workers,
            collate_fn=collate,
            persistent_workers=self.workers > 0,
            worker_init_fn=ignore_signals,
            pin_memory=self.device.type == "cuda",
        )
        return ResumableLoader(sampler, lambda _: loader)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return self.report_broken_files(batch)

    def report_broken_files(self, batch: CollatedBatch | str) -> tuple[Tensor, Tensor | None]:
        """Record and report skipped files, and return images and labels.

        Raises:
            UserError: The batch is an error message.
        """
        if isinstance(batch, str):
            raise UserError(batch)
        images, labels, broken_files = batch
        for path, reason in broken_files.items():
            if path not in self.broken_files:
                self.broken_files[path] = reason
                if len(self.broken_files) <= MAX_NOTES:
                    print(f"note: skipped {path}, which cannot be read ({reason})", file=sys.stderr)
                elif len(self.broken_files) == MAX_NOTES + 1:
                    print("note: more images are skipped, summary.json will list all of them", file=sys.stderr)
        return images, labels

    def state_dict(self) -> dict[str, Any]:
        return {"left_out": self.broken_files}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.broken_files = dict(state_dict["left_out"])

    def on_after_batch_transfer(
        self, batch: tuple[UInt8[Tensor, "b c h w"], Int64[Tensor, " b"] | None], dataloader_idx: int
    ) -> Batch:
        images, labels = batch
        return self.pixels.encode(images), labels

    @property
    def n_images(self) -> int:
        return len(self.dataset)

    @cached_property
    def fingerprint(self) -> dict[str, str]:
        names, stats = [], []
        for path in self.dataset.paths:
            names.append(path.relative_to(self.root).as_posix())
            stats.append(path.stat() if path.exists() else path.lstat())  # a dangling link has its own times
        return {
            "content": digest([names, [stat.st_size for stat in stats]]),
            "modified": digest([[stat.st_mtime_ns for stat in stats]]),
        }

    def examples(self, indices: list[int]) -> tuple[UInt8[Tensor, "n c h w"], list[str] | None]:
        images, labels = self.report_broken_files(collate([self.dataset[i] for i in indices]))
        return images, None if labels is None else [self.class_names[label] for label in labels.tolist()]

    def label_prior(self) -> Float[Tensor, " k"]:
        return class_frequencies(torch.tensor(self.dataset.labels), self.classes)
