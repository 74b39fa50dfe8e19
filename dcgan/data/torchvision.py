"""MNIST and data sets in its format, from torchvision."""

import gzip
import hashlib
import math
import socket
import zlib
from pathlib import Path
from typing import Any

from filelock import FileLock
from jaxtyping import Int64, UInt8
from torch import Tensor

from dcgan.common.errors import UserError, first_line
from dcgan.data.datamodule import InMemoryDataModule, check_labels
from dcgan.data.pixel_range import PixelRange


class MissingDataError(UserError):
    """A data set is missing and cannot be downloaded."""


class TorchvisionDataModule(InMemoryDataModule):
    """MNIST and the data sets in its format, downloaded and verified by torchvision.

    Args:
        dataset: A subclass of torchvision.datasets.MNIST.
        root: The folder that contains the data set's folder.

    For the other arguments see `BaseDataModule`.

    Raises:
        UserError: The files are damaged (raised by `prepare_data` and `load`).
        MissingDataError: The files are missing and cannot be downloaded (raised by `prepare_data`).
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
        from torchvision.datasets import MNIST  # imported here, as it takes a second

        if not (isinstance(dataset, type) and issubclass(dataset, MNIST)):
            raise ValueError(f"data.dataset must be a subclass of torchvision.datasets.MNIST, got {dataset!r}")
        self.root = Path(root)
        self.dataset: Any = dataset
        self.raw = self.root / dataset.__name__ / "raw"

    def prepare_data(self) -> None:
        archives = {self.raw / name: md5 for name, md5 in self.dataset.resources}
        if all(archive.with_suffix("").exists() for archive in archives):
            return
        timeout = socket.getdefaulttimeout()
        try:
            self.raw.mkdir(parents=True, exist_ok=True)
            socket.setdefaulttimeout(30)  # torchvision sets no timeout
            with FileLock(self.raw / ".lock"):  # only one job of a parallel sweep unpacks
                for archive, md5 in archives.items():
                    if archive.exists() and hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest() != md5:
                        raise UserError(
                            f"{archive} is damaged (its MD5 is not {md5}): delete it, and it is downloaded again"
                        )
                self.dataset(str(self.root), train=True, download=True)
        except (RuntimeError, OSError, gzip.BadGzipFile, EOFError) as error:
            names = ", ".join(archive.name for archive in archives)
            raise MissingDataError(
                f"{self.dataset.__name__} is not in {self.raw} and cannot be downloaded "
                f"({first_line(error).rstrip(':')}): copy {names} there, set data.root or DCGAN_DATA_DIR to a folder "
                "that has them, or use data=digits, which needs no download"
            ) from error
        finally:
            socket.setdefaulttimeout(timeout)

    @property
    def dataset_name(self) -> str:
        return self.dataset.__name__

    def load(self, train: bool) -> tuple[UInt8[Tensor, "n k h w"], Int64[Tensor, " n"]]:
        for name, _ in self.dataset.resources:
            check_idx_file(self.raw / name)
        stored = self.dataset(str(self.root), train=train)
        images, labels = stored.data[:, None], stored.targets
        if len(images) != len(labels):
            raise UserError(
                f"{self.raw} has {len(images)} images and {len(labels)} labels: delete the files and their archives"
            )
        if self.classes is not None:
            check_labels(labels, self.classes)
        return images, labels


def check_idx_file(archive: Path) -> None:
    """Raise UserError if an unpacked IDX file (LeCun et al., the MNIST format) is damaged.

    Its header must fit the kind of file and its length. Its content must have the archive's CRC-32, if the archive is
    still there: no other check detects a wrong label.

    Args:
        archive: The file's archive, FILE.gz; it need not exist.
    """
    path, dimensions = archive.with_suffix(""), 3 if "images" in archive.name else 1
    data = path.read_bytes()
    fix = "delete it, and it is unpacked or downloaded again"
    if data[:4] != bytes((0, 0, 8, dimensions)) or len(data) < 4 + 4 * dimensions:
        raise UserError(f"{path} is damaged (it has no IDX header for bytes in {dimensions} dimensions): {fix}")
    sizes = [int.from_bytes(data[i : i + 4], "big") for i in range(4, 4 + 4 * dimensions, 4)]
    expected = 4 + 4 * dimensions + math.prod(sizes)
    if len(data) != expected:
        raise UserError(f"{path} is damaged ({len(data):,} bytes instead of the {expected:,} of its header): {fix}")
    if archive.exists():
        with archive.open("rb") as file:
            file.seek(max(0, archive.stat().st_size - 8))
            checksum = file.read(4)  # CRC-32 of the content: RFC 1952, section 2.3.1
        if zlib.crc32(data) != int.from_bytes(checksum, "little"):
            raise UserError(f"{path} is damaged (its checksum is not that of {archive.name}): {fix}")
