"""MNIST and data sets in its format, from torchvision."""

import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from dcgan.common.errors import UserError, first_line
from dcgan.data.datamodule import BaseDataModule, StoredImages, check_labels
from dcgan.data.torchvision import MissingDataError, download_timeout


@dataclass(kw_only=True, eq=False)
class MNISTDataModule(BaseDataModule):
    """MNIST and the data sets in its format, downloaded and verified by torchvision.

    Args:
        dataset: A subclass of torchvision.datasets.MNIST.
        root: The folder that contains the data set's folder.

    For the other arguments see `BaseDataModule`.

    Raises:
        UserError: The files are damaged (raised by `prepare_data` and `load`).
        MissingDataError: The files are missing and cannot be downloaded (raised by `prepare_data`).
    """

    dataset: Any
    root: str

    def __post_init__(self) -> None:
        super().__post_init__()
        from torchvision.datasets import MNIST  # imported here, as it takes a second

        if not (isinstance(self.dataset, type) and issubclass(self.dataset, MNIST)):
            raise ValueError(f"data.dataset must be a subclass of torchvision.datasets.MNIST, got {self.dataset!r}")
        self.raw = Path(self.root) / self.dataset.__name__ / "raw"

    def prepare_data(self) -> None:
        from torchvision.datasets.utils import check_integrity

        archives = {self.raw / name: md5 for name, md5 in self.dataset.resources}
        if all(archive.with_suffix("").exists() for archive in archives):
            return
        try:
            self.raw.mkdir(parents=True, exist_ok=True)
            with download_timeout(), FileLock(self.raw / ".lock"):  # only one job of a parallel sweep unpacks
                for archive, md5 in archives.items():
                    if archive.exists() and not check_integrity(str(archive), md5):
                        reason = f"its MD5 is not {md5}"
                        raise UserError(f"{archive} is damaged ({reason}): delete it, and it is downloaded again")
                self.dataset(self.root, train=True, download=True)
        except (RuntimeError, OSError, EOFError) as error:
            names = ", ".join(archive.name for archive in archives)
            raise MissingDataError(
                f"{self.dataset.__name__} is not in {self.raw} and cannot be downloaded "
                f"({first_line(error).rstrip(':')}): copy {names} there, set data.root or DCGAN_DATA_DIR to a folder "
                "that has them, or use data=digits, which needs no download"
            ) from error

    @property
    def dataset_name(self) -> str:
        return self.dataset.__name__

    def load(self, train: bool) -> StoredImages:
        for name, _ in self.dataset.resources:
            check_idx_file(self.raw / name)
        stored = self.dataset(self.root, train=train)
        images, labels = stored.data[:, None], stored.targets
        if len(images) != len(labels):
            raise UserError(
                f"{self.raw} has {len(images)} images and {len(labels)} labels: delete the files and their archives"
            )
        if self.classes is not None:
            check_labels(labels, self.classes)
        return images, labels


def stored_crc(archive: Path) -> int:
    """Return the CRC-32 of a .gz archive's content, without reading the archive: RFC 1952, section 2.3.1."""
    with archive.open("rb") as file:
        file.seek(max(0, archive.stat().st_size - 8))
        return int.from_bytes(file.read(4), "little")


def check_idx_file(archive: Path) -> None:
    """Raise UserError if an unpacked IDX file (LeCun et al., the MNIST format) is damaged.

    Its header must match the kind of file and the file's length. If the archive is still there, the content must have
    the archive's CRC-32: no other check detects a wrong label.

    Args:
        archive: The file's archive, FILE.gz; it need not exist.
    """
    path, dimensions = archive.with_suffix(""), 3 if "images" in archive.name else 1
    data, header_size = path.read_bytes(), 4 + 4 * dimensions
    sizes = [int.from_bytes(data[i : i + 4], "big") for i in range(4, header_size, 4)]
    expected = header_size + math.prod(sizes)
    if data[:4] != bytes((0, 0, 8, dimensions)) or len(data) < header_size:
        reason = f"it has no IDX header for bytes in {dimensions} dimensions"
    elif len(data) != expected:
        reason = f"{len(data):,} bytes instead of the {expected:,} of its header"
    elif archive.exists() and zlib.crc32(data) != stored_crc(archive):
        reason = f"its checksum is not that of {archive.name}"
    else:
        return
    raise UserError(f"{path} is damaged ({reason}): delete it, and it is unpacked or downloaded again")
