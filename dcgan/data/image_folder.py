"""A folder of the user's own pictures."""

import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dcgan.common.errors import UserError
from dcgan.data.decoding import SUFFIXES, FileReader
from dcgan.data.prepared_datamodule import PreparedDataModule
from dcgan.data.prepared_images import SPLITS, PictureSource, hash_order, hash_split


@dataclass(kw_only=True, eq=False)
class ImageFolder(PreparedDataModule):
    """All JPEG, PNG, WebP, BMP and TIFF files in a folder and its subfolders.

    If the folder has subfolders train/ and test/, these are the splits. If `classes` is set, the class of a picture is
    the first folder below `root`, or below train/ and test/, in alphabetical order.

    Args:
        root: The folder.

    For the other arguments see `PreparedDataModule`.

    Raises:
        UserError: There are no pictures, or not `classes` folders (raised by `prepare_data`, `setup` and `load`).
    """

    root: Path

    def __post_init__(self) -> None:
        super().__post_init__()
        self.root = Path(self.root)
        self.has_splits = all((self.root / split).is_dir() for split in SPLITS)
        self.level = int(self.has_splits)  # of the class folders below root

    @cached_property
    def files(self) -> dict[str, os.stat_result]:
        """The picture files by their paths relative to `root`. Pipes and other special files are left out."""
        if not self.root.is_dir():
            raise UserError(f"there is no folder {self.root}: set data.root to the folder of your pictures")
        prefixes = [f"{split}/" for split in SPLITS] if self.has_splits else [""]
        found = {name: status for prefix in prefixes for name, status in walk(self.root / prefix, prefix)}
        files = {name: status for name, status in found.items() if name.lower().endswith(SUFFIXES)}
        self.n_other_files = len(found) - len(files)
        if not files:
            raise UserError(
                f"there is no {', '.join(SUFFIXES)} file in {self.root}: set data.root to the folder of your pictures"
            )
        return files

    @cached_property
    def split_names(self) -> dict[str, list[str]]:
        """The names of the files of each split."""
        names = hash_order(list(self.files))
        if self.has_splits:
            return {split: [name for name in names if name.startswith(f"{split}/")] for split in SPLITS}
        return hash_split(names, self.test_fraction)

    def class_names(self) -> list[str] | None:
        if self.classes is None:
            return None
        folders = [name.split("/")[self.level : -1] for name in self.files]
        names = sorted({parts[0] for parts in folders if parts})
        if not all(folders) or len(names) != self.classes:
            raise UserError(
                f"{self.root} must contain data.classes={self.classes} folders of images, one for each class, and no "
                f"other images, got {len(names)} folders"
            )
        return names

    def cache_key(self) -> list[Any]:
        self.class_names()  # reports wrong folders at each start
        files = [
            (split, name, self.files[name].st_size, self.files[name].st_mtime_ns, self.files[name].st_mode)
            for split, names in self.split_names.items()
            for name in names
        ]
        return ["folder", files]

    def sources(self) -> dict[str, PictureSource]:
        if self.n_other_files:
            print(f"note: {self.n_other_files:,} files in {self.root} are no pictures and ignored", file=sys.stderr)
        class_names = self.class_names()
        labels = None if class_names is None else {name: label for label, name in enumerate(class_names)}
        read = FileReader(str(self.root.resolve()), labels, self.level)
        return {split: PictureSource(read, names, in_processes=True) for split, names in self.split_names.items()}

    def picture_name(self, name: str) -> str:
        return str(self.root / name)

    @property
    def location(self) -> str:
        return str(self.root)

    @property
    def dataset_name(self) -> str:
        return self.root.resolve().name


def walk(folder: Path | str, prefix: str = "", parents: tuple[int, ...] = ()) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the files below a folder by their relative paths, without pipes and other special files.

    Links are followed. A dangling link has its own status. Strings are four times as fast as pathlib here.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            name = f"{prefix}{entry.name}"
            try:
                status = entry.stat()
            except OSError:
                status = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                if status.st_ino not in parents:  # a link to a folder above would have no end
                    yield from walk(entry.path, f"{name}/", (*parents, status.st_ino))
            elif stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):  # to open a pipe would block
                yield name, status
