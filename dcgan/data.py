"""Data modules whose images fit in memory. They serve training batches in the networks' range; test images never
enter training."""

import gzip
import hashlib
import math
import socket
import zlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning as L
import torch
from filelock import FileLock
from jaxtyping import Float, Int64, UInt8
from omegaconf import DictConfig
from torch import Tensor

from dcgan.batches import BatchIndices, ResumableLoader
from dcgan.cache import digest
from dcgan.checks import UserError, check_int, first_line
from dcgan.pixels import PixelRange, fit_images
from dcgan.trusted import rebuild


class MissingDataError(UserError):
    """A data set is neither here nor can it be downloaded."""


MACHINE = ("root", "workers")  # the keys of a data module that a checkpoint does not decide
Batch = tuple[Float[Tensor, "b c h w"], Int64[Tensor, " b"] | None]


class ImageData(L.LightningDataModule):
    """What every data module has: sizes, and batches whose order is a function of (seed, epoch): images and, if it is
    `labelled`, their classes, else None.

    image_size: in pixels; channels: 1 or 3; pixels: the networks' range.
    batch_size: images of one D update on one process; a training batch holds batches_per_step of them.
    limit: use only the first `limit` training images. classes: how many there are; None: the images have none.
    Raises ValueError for a count below 1, and for labelled without classes.
    """

    def __init__(
        self,
        image_size: int,
        channels: int,
        pixels: PixelRange,
        batch_size: int,
        batches_per_step: int = 1,
        limit: int | None = None,
        classes: int | None = None,
        labelled: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_int("data.image_size", image_size, 1)
        if channels not in (1, 3):
            raise ValueError(f"data.channels must be 1 or 3, got {channels!r}")
        check_int("data.batch_size", batch_size, 1)
        check_int("data.limit", limit, 1, optional=True)
        check_int("data.classes", classes, 1, optional=True)
        if not isinstance(labelled, bool) or (labelled and classes is None):
            raise ValueError(f"data.labelled must be false, or true with data.classes, got {labelled!r}")
        check_int("seed", seed, 0)
        self.image_size, self.channels, self.pixels = image_size, channels, pixels
        self.batch_size, self.batches_per_step = batch_size, batches_per_step
        self.limit, self.classes, self.labelled, self.seed = limit, classes, labelled, seed
        self.broken: dict[str, str] = {}  # files that this process has left out, and why

    @property
    def images_per_step(self) -> int:
        """Real images that one process sees in one step."""
        return self.batch_size * self.batches_per_step

    @property
    def device(self) -> torch.device:
        """Where the training wants its batches."""
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")

    def batch_indices(self, n: int, device: torch.device | None = None) -> BatchIndices:
        """Raises UserError where n images do not fill one batch on each process."""
        world_size = self.trainer.world_size if self.trainer else 1
        rank = self.trainer.global_rank if self.trainer else 0
        if n < self.images_per_step * world_size:
            raise UserError(
                f"one step needs {self.images_per_step * world_size} images (data.batch_size {self.batch_size} x "
                f"{self.batches_per_step} D updates x {world_size} processes), but there are only {n}: "
                f"lower data.batch_size or raise data.limit"
            )
        return BatchIndices(n, self.images_per_step, self.seed, rank, world_size, device)

    @property
    def n_images(self) -> int:
        """Images that are trained on."""
        raise NotImplementedError

    @property
    def fingerprint(self) -> dict[str, str]:
        """Digests of the images that are trained on, for a checkpoint. "content": another one is of other images;
        "modified", where there is one: of times, which a mere copy changes too."""
        raise NotImplementedError

    def examples(self, indices: list[int]) -> tuple[UInt8[Tensor, "n c h w"], list[str] | None]:
        """Those training images, and the names of their classes, where they have some."""
        raise NotImplementedError

    def preview(self, n: int) -> UInt8[Tensor, "m c h w"]:
        """The first m <= n training images."""
        return self.examples(list(range(min(n, self.n_images))))[0]

    def label_prior(self) -> Float[Tensor, " k"]:
        """Each class's share of the images that are trained on, where they are labelled."""
        raise NotImplementedError

    @property
    def dataset_name(self) -> str:
        """Of the data set, the same on every machine."""
        return type(self).__name__

    @property
    def judged_as(self) -> str:
        """The data set whose judge looks at each channel of the images that are `judged_channels` together."""
        return self.dataset_name

    judged_channels = 1


class InMemoryData(ImageData):
    """Held in memory as uint8; on a GPU, in the GPU's memory."""

    train_images: UInt8[Tensor, "n c h w"]
    train_labels: Int64[Tensor, " n"]

    def load(self, train: bool) -> tuple[UInt8[Tensor, "n k h w"], Int64[Tensor, " n"]]:
        """All training or all test images as they are stored, and their classes, counted from 0."""
        raise NotImplementedError

    def fit(self, images: UInt8[Tensor, "n k h w"]) -> UInt8[Tensor, "n c s s"]:
        """Stored images as the networks see them: in image_size and with that many channels."""
        return fit_images(images, self.image_size, self.channels)

    def setup(self, stage: str) -> None:
        images, labels = self.load(train=True)
        self.train_images, self.train_labels = self.fit(images[: self.limit]), labels[: self.limit]
        if self.labelled:
            check_labels(self.train_labels, self.classes)

    def train_dataloader(self) -> ResumableLoader:
        images = self.train_images.to(self.device)
        labels = self.train_labels.to(self.device) if self.labelled else None

        def fetch(indices: BatchIndices) -> Iterator[Batch]:
            for index in indices:
                yield self.pixels.encode(images[index]), None if labels is None else labels[index]

        return ResumableLoader(self.batch_indices(len(images), self.device), fetch)

    @property
    def n_images(self) -> int:
        return len(self.train_images)

    @cached_property
    def fingerprint(self) -> dict[str, str]:
        return {"content": digest([self.train_images, self.train_labels])}

    def examples(self, indices: list[int]) -> tuple[UInt8[Tensor, "n c h w"], list[str] | None]:
        return self.train_images[indices], [str(label) for label in self.train_labels[indices].tolist()]

    def label_prior(self) -> Float[Tensor, " k"]:
        return class_shares(self.train_labels, self.classes)


def check_labels(labels: Int64[Tensor, " n"], classes: int | None) -> None:
    """Raise UserError unless all labels are in [0, classes)."""
    if int(labels.max()) >= (classes or 0):
        raise UserError(
            f"there are labels up to {int(labels.max())}: set data.classes to more than the {classes} given"
        )


def class_shares(labels: Int64[Tensor, " n"], classes: int | None) -> Float[Tensor, " k"]:
    counts = labels.bincount(minlength=classes or 0)
    return counts / counts.sum()


class TorchvisionData(InMemoryData):
    """MNIST and the sets that come in its format, downloaded and verified by torchvision.

    dataset: a subclass of torchvision.datasets.MNIST; root: the folder that holds its folder.
    Other arguments as `ImageData`'s. UserError where the files are damaged, MissingDataError where they cannot be had.
    """

    def __init__(
        self,
        dataset: Any,
        root: str,
        image_size: int,
        channels: int,
        pixels: PixelRange,
        batch_size: int,
        batches_per_step: int = 1,
        limit: int | None = None,
        classes: int | None = None,
        labelled: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(image_size, channels, pixels, batch_size, batches_per_step, limit, classes, labelled, seed)
        from torchvision.datasets import MNIST  # takes a second that the other data sets do not need

        if not (isinstance(dataset, type) and issubclass(dataset, MNIST)):
            raise ValueError(f"data.dataset must be a subclass of torchvision.datasets.MNIST, got {dataset!r}")
        self.root = Path(root)
        self.dataset: Any = dataset  # whose list of files only these classes have

    def prepare_data(self) -> None:
        raw = self.root / self.dataset.__name__ / "raw"
        archives = {raw / name: md5 for name, md5 in self.dataset.resources}
        if all(archive.with_suffix("").exists() for archive in archives):
            return
        timeout = socket.getdefaulttimeout()
        try:
            raw.mkdir(parents=True, exist_ok=True)
            socket.setdefaulttimeout(30)  # torchvision would wait for ever
            with FileLock(raw / ".lock"):  # the jobs of a parallel sweep unpack once, not over each other
                for archive, md5 in archives.items():
                    if archive.exists() and hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest() != md5:
                        raise UserError(
                            f"{archive} is damaged (its MD5 is not {md5}): delete it to have it downloaded anew"
                        )
                self.dataset(str(self.root), train=True, download=True)
        except (RuntimeError, OSError, gzip.BadGzipFile, EOFError) as error:
            reason = first_line(error).rstrip(":")
            names = ", ".join(archive.name for archive in archives)
            raise MissingDataError(
                f"{self.dataset.__name__} is not in {raw} and could not be put there ({reason}): copy "
                f"{names} there, set data.root or DCGAN_DATA_DIR to a folder that has them, or use data=digits, "
                "which needs no download"
            ) from error
        finally:
            socket.setdefaulttimeout(timeout)

    @property
    def dataset_name(self) -> str:
        return self.dataset.__name__

    def load(self, train: bool) -> tuple[UInt8[Tensor, "n k h w"], Int64[Tensor, " n"]]:
        raw = self.root / self.dataset.__name__ / "raw"
        for name, _ in self.dataset.resources:
            check_idx_file(raw / name)
        stored = self.dataset(str(self.root), train=train)
        images, labels = stored.data[:, None], stored.targets
        if len(images) != len(labels):
            raise UserError(
                f"{raw} has {len(images)} images and {len(labels)} labels: delete the files and their archives"
            )
        if self.classes is not None:
            check_labels(labels, self.classes)
        return images, labels


def check_idx_file(archive: Path) -> None:
    """Raise UserError unless the unpacked file is as long as its IDX header says (LeCun et al., the MNIST format), with
    a dimension for labels and three for images, and what the archive beside it holds, where that is still there: no
    header tells that a label is another one."""
    path, dimensions = archive.with_suffix(""), 3 if "images" in archive.name else 1
    data = path.read_bytes()
    mend = "delete it to have it unpacked or downloaded anew"
    if data[:4] != bytes((0, 0, 8, dimensions)) or len(data) < 4 + 4 * dimensions:
        raise UserError(f"{path} is damaged (no IDX header of bytes in {dimensions} dimensions): {mend}")
    sizes = [int.from_bytes(data[i : i + 4], "big") for i in range(4, 4 + 4 * dimensions, 4)]
    expected = 4 + 4 * dimensions + math.prod(sizes)
    if len(data) != expected:
        raise UserError(f"{path} is damaged ({len(data):,} bytes, its header says {expected:,}): {mend}")
    if archive.exists():
        with archive.open("rb") as file:
            file.seek(max(0, archive.stat().st_size - 8))
            checksum = file.read(4)  # of the content: RFC 1952, section 2.3.1
        if zlib.crc32(data) != int.from_bytes(checksum, "little"):
            raise UserError(f"{path} is damaged (it is not what {archive.name} beside it holds): {mend}")


class Digits(InMemoryData):
    """scikit-learn's 1,797 handwritten digits (8 x 8, 16 greys; Alpaydin and Kaynak 1998): they need no download.

    The first 1,437 are the training images, the last 360 the test images. Arguments as `ImageData`'s.
    """

    def load(self, train: bool) -> tuple[UInt8[Tensor, "n k h w"], Int64[Tensor, " n"]]:
        from sklearn.datasets import load_digits  # half a second that only this set should cost

        digits = load_digits()
        images = (torch.from_numpy(digits.images) * (255 / 16)).round().to(torch.uint8)
        labels = torch.from_numpy(digits.target).to(torch.int64)
        part = slice(None, 1437) if train else slice(1437, None)
        return images[part, None], labels[part]


def on_this_machine(data: dict[str, Any], cfg: DictConfig) -> dict[str, Any]:
    """Return the config of a data module that comes from a checkpoint with the folder and the number of processes of
    this command: a file must choose neither."""
    given = {key: cfg.data[key] for key in MACHINE if key in data and key in cfg.data}
    return {key: value for key, value in data.items() if key not in MACHINE} | given


def data_of(path: Path, checkpoint: dict[str, Any], cfg: DictConfig, overrides: list[str]) -> ImageData:
    """The data module that a checkpoint was trained with.

    cfg, overrides: of the command, which says where this machine has the data and nothing else of it.
    """
    choice, config = checkpoint["choices"]["data"], checkpoint["config"]
    for override in overrides:
        key, _, value = override.partition("=")
        if key == "data" and value != choice:
            raise UserError(f"{path} was trained on data={choice}, not on {value}: leave data= out")
        if key.startswith("data.") and key != "data.root":
            raise UserError(f"{key} is the checkpoint's: leave it out")
    return rebuild({"data": on_this_machine(config["data"], cfg)}, "data")
