"""The user's own pictures, read from disk by worker processes: for what does not fit in memory."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dcgan.batches import ResumableLoader
from dcgan.checks import UserError, check_int
from dcgan.data import Batch, ImageData, class_shares
from dcgan.pixels import PixelRange

SUFFIXES = {".jpg", ".jpeg", ".png"}


class Pictures(Dataset):
    """JPEG and PNG files as (c, size, size) uint8: the shorter side scaled to `size`, the middle cropped.

    labels: their classes; None: they have none. A file that cannot be read becomes a string that says so: an exception
    would reach the main process as a worker's traceback.
    """

    def __init__(self, paths: list[Path], labels: list[int] | None, image_size: int, channels: int) -> None:
        self.paths, self.labels, self.image_size, self.channels = paths, labels, image_size, channels

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[UInt8[Tensor, "c h w"], int | None] | str:
        path = self.paths[index]
        try:
            with Image.open(path) as picture:
                upright = ImageOps.exif_transpose(picture).convert("L" if self.channels == 1 else "RGB")
                fitted = ImageOps.fit(upright, (self.image_size, self.image_size), Image.Resampling.BICUBIC)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what Pillow raises
            return f"the picture {path} cannot be read ({error}): mend or remove it"
        image = torch.from_numpy(np.array(fitted)).reshape(self.image_size, self.image_size, -1).permute(2, 0, 1)
        return image, None if self.labels is None else self.labels[index]


def collate(pictures: list[tuple[Tensor, int | None] | str]) -> tuple[Tensor, Tensor | None] | str:
    """The stacked batch, or the message of its first broken picture."""
    for picture in pictures:
        if isinstance(picture, str):
            return picture
    images, labels = zip(*cast(list[tuple[Tensor, int | None]], pictures), strict=True)
    return torch.stack(images), None if labels[0] is None else torch.tensor(labels)


class ImageFolder(ImageData):
    """All pictures below a folder.

    root: the folder; workers: processes that read. Other arguments as `dcgan.data.ImageData`'s; labelled: the class of
    a picture is the folder below root that it is in, the classes in alphabetical order.
    UserError where there is no picture, one that cannot be read (it is named), or not that many classes.
    """

    def __init__(
        self,
        root: str,
        image_size: int,
        channels: int,
        pixels: PixelRange,
        batch_size: int,
        workers: int = 2,
        batches_per_step: int = 1,
        limit: int | None = None,
        classes: int | None = None,
        labelled: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(image_size, channels, pixels, batch_size, batches_per_step, limit, classes, labelled, seed)
        check_int("data.workers", workers, 0)
        self.root, self.workers = Path(root), workers

    def setup(self, stage: str) -> None:
        if not self.root.is_dir():
            raise UserError(f"there is no folder {self.root}: set data.root to the folder of your pictures")
        paths = sorted(path for path in self.root.rglob("*") if path.suffix.lower() in SUFFIXES)
        if not paths:
            raise UserError(f"no .jpg, .jpeg or .png file below {self.root}: set data.root to the folder of them")
        labels = self.labels_of(paths) if self.labelled else None
        self.pictures = Pictures(paths[: self.limit], labels, self.image_size, self.channels)

    def labels_of(self, paths: list[Path]) -> list[int]:
        names = [path.relative_to(self.root).parts[0] if path.parent != self.root else "" for path in paths]
        found = sorted(set(names))
        if "" in found or len(found) != self.classes:
            raise UserError(
                f"{self.root} must hold {self.classes} folders of pictures, one for each class, and no picture beside "
                f"them; there are {len(found) - ('' in found)} folders: set data.classes"
            )
        return [found.index(name) for name in names]

    def train_dataloader(self) -> ResumableLoader:
        indices = self.batch_indices(len(self.pictures))
        loader: DataLoader = DataLoader(
            self.pictures,
            batch_sampler=cast(Any, indices),
            num_workers=self.workers,
            collate_fn=collate,
            persistent_workers=self.workers > 0,
            pin_memory=self.device.type == "cuda",
        )
        return ResumableLoader(indices, lambda _: loader)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if isinstance(batch, str):
            raise UserError(batch)
        return batch

    def on_after_batch_transfer(
        self, batch: tuple[UInt8[Tensor, "b c h w"], Int64[Tensor, " b"] | None], dataloader_idx: int
    ) -> Batch:
        images, labels = batch
        return self.pixels.encode(images), labels

    @property
    def n_images(self) -> int:
        return len(self.pictures)

    def examples(self, indices: list[int]) -> tuple[UInt8[Tensor, "n c h w"], list[str] | None]:
        pictures = collate([self.pictures[i] for i in indices])
        if isinstance(pictures, str):
            raise UserError(pictures)
        names = [self.pictures.paths[i].relative_to(self.root).parts[0] for i in indices]
        return pictures[0], names if self.labelled else None

    def label_prior(self) -> Float[Tensor, " k"]:
        return class_shares(torch.tensor(self.pictures.labels), self.classes)
