"""The user's own pictures, read from disk by worker processes: for what does not fit in memory."""

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

from dcgan.batches import ResumableLoader
from dcgan.cache import digest
from dcgan.checks import UserError, check_int, first_line
from dcgan.data import Batch, ImageData, class_shares
from dcgan.pixels import PixelRange

SUFFIXES = {".jpg", ".jpeg", ".png"}
FORMATS = ("JPEG", "PNG")  # whatever a file is called: Pillow would start Ghostscript for PostScript
ON_BROKEN = ("raise", "skip")
TRIES = 100  # pictures in a row, then it is no picture folder
TOLD = 10  # on the terminal


@dataclass(frozen=True, eq=False)
class Picture:
    """image: (c, size, size) uint8, None where it cannot be read; label: its class, if any; broken: the files that
    were tried before, and why they cannot be read."""

    image: Tensor | None
    label: int | None
    broken: dict[str, str]


class Pictures(Dataset):
    """JPEG and PNG files: the shorter side scaled to `image_size`, the middle cropped.

    labels: their classes; None: they have none. skip: the next whole picture takes the place of a broken one, so that
    no batch is shorter than the others. Nothing is raised here: an exception would reach the main process as a
    worker's traceback.
    """

    def __init__(
        self, paths: list[Path], labels: list[int] | None, image_size: int, channels: int, skip: bool = False
    ) -> None:
        self.paths, self.labels, self.image_size, self.channels = paths, labels, image_size, channels
        self.tries = min(len(paths), TRIES) if skip else 1

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Picture:
        broken = {}
        for at in range(index, index + self.tries):
            path = self.paths[at % len(self)]
            try:
                image = self.read(path)
            except Exception as error:  # Pillow raises a dozen kinds
                broken[str(path)] = first_line(error)
            else:
                return Picture(image, None if self.labels is None else self.labels[at % len(self)], broken)
        return Picture(None, None, broken)

    def read(self, path: Path) -> UInt8[Tensor, "c h w"]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, and of sizes that are no reason to stop
            with Image.open(path, formats=FORMATS) as picture:
                upright = ImageOps.exif_transpose(picture).convert("L" if self.channels == 1 else "RGB")
                fitted = ImageOps.fit(upright, (self.image_size, self.image_size), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(fitted)).reshape(self.image_size, self.image_size, -1).permute(2, 0, 1)


Stack = tuple[Tensor, Tensor | None, dict[str, str]]


def collate(pictures: list[Picture]) -> Stack | str:
    """The stacked images and labels and the files that were left out, or why there is no such batch."""
    for picture in pictures:
        if picture.image is None:
            path, reason = next(iter(picture.broken.items()))
            if len(picture.broken) > 1:
                return (
                    f"none of {len(picture.broken)} pictures from {path} on can be read ({reason}): look at data.root"
                )
            return f"the picture {path} cannot be read ({reason}): mend or remove it, or set data.on_broken=skip"
    images, labels = [cast(Tensor, picture.image) for picture in pictures], [picture.label for picture in pictures]
    broken = {path: reason for picture in pictures for path, reason in picture.broken.items()}
    return torch.stack(images), None if labels[0] is None else torch.tensor(labels), broken


def leave_signals_to_the_main_process(worker: int) -> None:
    """One that goes to all processes reaches the readers too, and the step that is to be finished needs their pictures:
    only a SIGTERM of the main process's own ends one of them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=end_when_told_by_the_main_process, daemon=True).start()


def end_when_told_by_the_main_process() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


class ImageFolder(ImageData):
    """All pictures below a folder.

    root: the folder; workers: processes that read. on_broken: what to do with a picture that cannot be read: "raise"
    names it and stops, "skip" names and counts it and takes the next one. Other arguments as
    `dcgan.data.ImageData`'s; labelled: the class of a picture is the folder below root that it is in, the classes in
    alphabetical order.
    UserError where there is no picture, one that cannot be read, or not that many classes.
    """

    def __init__(
        self,
        root: str,
        image_size: int,
        channels: int,
        pixels: PixelRange,
        batch_size: int,
        workers: int = 2,
        on_broken: str = "raise",
        batches_per_step: int = 1,
        limit: int | None = None,
        classes: int | None = None,
        labelled: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(image_size, channels, pixels, batch_size, batches_per_step, limit, classes, labelled, seed)
        check_int("data.workers", workers, 0)
        if on_broken not in ON_BROKEN:
            raise ValueError(f"data.on_broken must be one of {', '.join(ON_BROKEN)}, got {on_broken!r}")
        self.root, self.workers, self.on_broken = Path(root), workers, on_broken

    def setup(self, stage: str) -> None:
        if not self.root.is_dir():
            raise UserError(f"there is no folder {self.root}: set data.root to the folder of your pictures")
        found = (path for path in self.root.rglob("*") if path.suffix.lower() in SUFFIXES)
        # a pipe, or a link to one, would never end; a link to nothing is a broken picture
        paths = sorted(path for path in found if path.is_file() or not path.exists())
        if not paths:
            raise UserError(f"no .jpg, .jpeg or .png file below {self.root}: set data.root to the folder of them")
        labels = self.labels_of(paths) if self.labelled else None
        if self.limit is not None and self.limit < len(paths):  # from all folders alike
            kept = [i * len(paths) // self.limit for i in range(self.limit)]
            paths, labels = [paths[i] for i in kept], None if labels is None else [labels[i] for i in kept]
        self.pictures = Pictures(paths, labels, self.image_size, self.channels, self.on_broken == "skip")

    def labels_of(self, paths: list[Path]) -> list[int]:
        names = [path.relative_to(self.root).parts[0] if path.parent != self.root else "" for path in paths]
        found = sorted(set(names))
        if "" in found or len(found) != self.classes:
            raise UserError(
                f"{self.root} must hold {self.classes} folders of pictures, one for each class, and no picture beside "
                f"them; there are {len(found) - ('' in found)} folders: set data.classes"
            )
        self.class_names = found
        return [found.index(name) for name in names]

    def train_dataloader(self) -> ResumableLoader:
        indices = self.batch_indices(len(self.pictures))
        loader: DataLoader = DataLoader(
            self.pictures,
            batch_sampler=cast(Any, indices),
            num_workers=self.workers,
            collate_fn=collate,
            persistent_workers=self.workers > 0,
            worker_init_fn=leave_signals_to_the_main_process,
            pin_memory=self.device.type == "cuda",
        )
        return ResumableLoader(indices, lambda _: loader)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return self.whole(batch)

    def whole(self, stack: Stack | str) -> tuple[Tensor, Tensor | None]:
        """Images and labels, once the files that were left out have been told."""
        if isinstance(stack, str):
            raise UserError(stack)
        images, labels, broken = stack
        for path, reason in broken.items():
            if path not in self.broken:
                self.broken[path] = reason
                if len(self.broken) <= TOLD:
                    print(f"note: left out {path}, which cannot be read ({reason})", file=sys.stderr)
                elif len(self.broken) == TOLD + 1:
                    print("note: there are more such pictures: summary.json will name them all", file=sys.stderr)
        return images, labels

    def state_dict(self) -> dict[str, Any]:
        return {"left_out": self.broken}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.broken = dict(state_dict["left_out"])

    def on_after_batch_transfer(
        self, batch: tuple[UInt8[Tensor, "b c h w"], Int64[Tensor, " b"] | None], dataloader_idx: int
    ) -> Batch:
        images, labels = batch
        return self.pixels.encode(images), labels

    @property
    def n_images(self) -> int:
        return len(self.pictures)

    @cached_property
    def fingerprint(self) -> dict[str, str]:
        names, stats = [], []
        for path in self.pictures.paths:
            names.append(path.relative_to(self.root).as_posix())
            stats.append(path.stat() if path.exists() else path.lstat())  # a link to nothing has a time of its own
        return {
            "content": digest([names, [stat.st_size for stat in stats]]),
            "modified": digest([[stat.st_mtime_ns for stat in stats]]),
        }

    def examples(self, indices: list[int]) -> tuple[UInt8[Tensor, "n c h w"], list[str] | None]:
        images, labels = self.whole(collate([self.pictures[i] for i in indices]))
        return images, None if labels is None else [self.class_names[label] for label in labels.tolist()]

    def label_prior(self) -> Float[Tensor, " k"]:
        return class_shares(torch.tensor(self.pictures.labels), self.classes)
