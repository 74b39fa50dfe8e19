"""The image sets of torchvision."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path, PurePath
from typing import Any

from PIL import Image

from dcgan.common.errors import UserError, first_line
from dcgan.data.prepared_datamodule import PreparedDataModule
from dcgan.data.prepared_images import SPLITS, PictureSource, hash_order, hash_split

DOWNLOAD_TIMEOUT = 30  # seconds without data; torchvision sets none
OWN_ARGUMENTS = ("root", "download", "transform", "target_transform", "transforms", "loader")


class MissingDataError(UserError):
    """A data set is missing and cannot be downloaded."""


@dataclass(kw_only=True, eq=False)
class TorchvisionDataModule(PreparedDataModule):
    """An image set of torchvision, prepared like a folder of pictures, and downloaded if its class can do that.

    Args:
        dataset: A class of torchvision.datasets whose items are (picture, class), such as CIFAR10.
        root: The folder that contains the data set's files.
        files: Glob pattern of these files below `root`: if one changes, the images are prepared again. None: changes
            are not noticed.
        train: Arguments of `dataset` that choose the training split, such as {"train": True}: strings, numbers and
            booleans.
        test: The same for the test split; None: `test_fraction` of the training split is the test split.

    For the other arguments see `PreparedDataModule`.

    Raises:
        ValueError: An argument is out of range, or may not be set.
        MissingDataError: The files are missing and cannot be downloaded (raised by `prepare_data`, `setup` and `load`).
    """

    dataset: Any
    root: str
    files: str | None = None
    train: dict[str, Any] = field(default_factory=dict)
    test: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        from torchvision.datasets import VisionDataset  # imported here, as it takes a second

        if not (isinstance(self.dataset, type) and issubclass(self.dataset, VisionDataset)):
            raise ValueError(f"data.dataset must be an image set of torchvision.datasets, got {self.dataset!r}")
        if self.files is not None and (PurePath(self.files).is_absolute() or ".." in PurePath(self.files).parts):
            raise ValueError(f"data.files must be a pattern of files below data.root, got {self.files!r}")
        self.train, self.test = dict(self.train), None if self.test is None else dict(self.test)
        for key, arguments in (("data.train", self.train), ("data.test", self.test or {})):
            check_split(key, arguments)
            try:
                signature(self.dataset).bind(self.root, **arguments)
            except TypeError as error:
                raise ValueError(f"{key} does not fit the arguments of {self.dataset_name} ({error})") from error

    def cache_key(self) -> list[Any]:
        paths = sorted(Path(self.root).glob(self.files)) if self.files is not None else []
        stats = [(path.relative_to(self.root).as_posix(), path.stat()) for path in paths]
        files = [(name, status.st_size, status.st_mtime_ns) for name, status in stats]
        split = self.test_fraction if self.test is None else self.test
        return [self.dataset_name, self.train, split, files or str(Path(self.root).resolve())]

    def sources(self) -> dict[str, PictureSource]:
        datasets = {"train": self.build_dataset(self.train)}
        if self.test is not None:
            datasets["test"] = self.build_dataset(self.test)
        self.dataset_classes = getattr(datasets["train"], "classes", None)
        names = {split: hash_order([str(i) for i in range(len(dataset))]) for split, dataset in datasets.items()}
        if self.test is None:
            names = hash_split(names["train"], self.test_fraction)
        labelled = self.classes is not None
        # not in processes: they would copy the images of sets that are in memory
        return {
            split: PictureSource(DatasetReader(datasets.get(split, datasets["train"]), labelled), names[split])
            for split in SPLITS
        }

    def build_dataset(self, split: dict[str, Any]) -> Any:
        """Return a split of the data set, downloaded if necessary.

        Raises:
            MissingDataError: The files are missing and cannot be downloaded.
        """
        try:
            return self.dataset(self.root, **split)
        except (RuntimeError, OSError) as error:  # torchvision's for missing files and for damaged ones
            if "download" not in signature(self.dataset).parameters:
                raise self.missing(first_line(error)) from error
        try:
            with download_timeout():
                Path(self.root).mkdir(parents=True, exist_ok=True)
                return self.dataset(self.root, **split, download=True)
        except (RuntimeError, OSError, EOFError) as error:
            raise self.missing(f"cannot be downloaded: {first_line(error).rstrip(':')}") from error

    def missing(self, reason: str) -> MissingDataError:
        return MissingDataError(
            f"{self.dataset_name} is not in {self.root} ({reason}): copy its files there, set data.root or "
            "DCGAN_DATA_DIR to a folder that has them, or use data=digits, which needs no download"
        )

    def class_names(self) -> list[str] | None:
        names = self.dataset_classes
        if self.classes is None or not isinstance(names, list) or len(names) != self.classes:
            return None
        return [str(name) for name in names]

    def picture_name(self, name: str) -> str:
        return f"{self.dataset_name} {name}"

    @property
    def location(self) -> str:
        return self.root

    @property
    def dataset_name(self) -> str:
        return self.dataset.__name__


@dataclass(frozen=True)
class DatasetReader:
    """Returns the picture with an index and, if `labelled`, its class."""

    dataset: Any
    labelled: bool

    def __call__(self, name: str) -> tuple[Image.Image, int | None]:
        picture, label = self.dataset[int(name)]
        return picture, label if self.labelled else None


def check_split(key: str, arguments: dict[str, Any]) -> None:
    """Raise ValueError unless the arguments only choose a split: they may come from another person's checkpoint."""
    for name, value in arguments.items():
        if name in OWN_ARGUMENTS:
            raise ValueError(f"{key}.{name} must not be set")
        if not isinstance(value, bool | int | str) or (isinstance(value, str) and {"/", "\\"} & set(value)):
            raise ValueError(f"{key}.{name} must be a number, a boolean or a string without slashes, got {value!r}")


@contextmanager
def download_timeout() -> Iterator[None]:
    """Within the context, a connection that delivers nothing ends after `DOWNLOAD_TIMEOUT`."""
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(timeout)
