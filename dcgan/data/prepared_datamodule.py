"""A base class for sets of pictures, which are prepared once per machine."""

import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock

from dcgan.common.arg_checks import check_number
from dcgan.common.atomic_files import write_errors
from dcgan.common.cache import cache_dir, digest
from dcgan.common.errors import UserError
from dcgan.data.datamodule import BaseDataModule, StoredImages, check_labels
from dcgan.data.prepared_images import PictureSource, PreparedImages, open_prepared, write_prepared

ON_BROKEN = ("raise", "skip")
MAX_NAMES = 3  # of broken pictures in a message


@dataclass(kw_only=True, eq=False)
class PreparedDataModule(BaseDataModule):
    """A data module whose pictures are decoded, resized and cropped once, into the cache.

    All runs, parallel jobs and ranks on a machine memory-map the same files. Changed pictures or settings are prepared
    again. A subclass implements `cache_key` and `sources`.

    Args:
        cache_dir: Folder of the prepared images; None: that of `dcgan.common.cache`.
        test_fraction: Fraction of the pictures in the test split, in [0, 1), if the set has no test split of its own.
            The hash of a picture's name decides.
        on_broken: If pictures cannot be read: "raise" an error, or "skip" them and report it.

    For the other arguments see `BaseDataModule`.

    Raises:
        UserError: Pictures cannot be read, a split has none, or the cache cannot be written (raised by `prepare_data`,
            `setup` and `load`).
    """

    cache_dir: str | None = None
    test_fraction: float = 0.1
    on_broken: str = "raise"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("data.test_fraction", self.test_fraction, 0, 1, brackets="[)")
        if self.on_broken not in ON_BROKEN:
            raise ValueError(f"data.on_broken must be one of {', '.join(ON_BROKEN)}, got {self.on_broken!r}")

    def cache_key(self) -> list[Any]:
        """Return JSON values that change whenever `sources` or their pictures change."""
        raise NotImplementedError

    def sources(self) -> dict[str, PictureSource]:
        """Return the pictures of the splits "train" and "test". Called only if they have to be prepared."""
        raise NotImplementedError

    def class_names(self) -> list[str] | None:
        """Return the names of the classes by label, None if they have none. Called after `sources`."""
        raise NotImplementedError

    def picture_name(self, name: str) -> str:
        """Return the name of a picture in messages."""
        raise NotImplementedError

    @property
    def location(self) -> str:
        """The place of the pictures, for messages."""
        raise NotImplementedError

    def prepare_data(self) -> None:
        _ = self.prepared

    @cached_property
    def prepared(self) -> PreparedImages:
        """The prepared images, from the cache if it has them."""
        with suppress(ValueError):  # reported below
            if (prepared := self.open(self.prepared_dir())) is not None:
                return self.checked(prepared)
        folder = self.prepared_dir()
        with write_errors(folder.parent, "another data.cache_dir", (OSError,)):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.parent / "images.lock"):  # the other jobs of a sweep wait, then open the same files
                prepared = self.open_or_write()
        return self.checked(prepared)

    def open(self, folder: Path) -> PreparedImages | None:
        return open_prepared(folder, self.image_size, self.channels)

    def open_or_write(self) -> PreparedImages:
        try:
            prepared = self.open(self.prepared_dir())
        except ValueError as error:
            print(f"note: {error}: the images are prepared again", file=sys.stderr)
            prepared = None
        if prepared is None:
            sources = self.sources()
            folder = self.prepared_dir()  # again: a download has changed the key
            write_prepared(folder, sources, self.image_size, self.channels, self.class_names())
            prepared = self.open(folder)
        assert prepared is not None
        return prepared

    def prepared_dir(self) -> Path:
        key = [self.image_size, self.channels, self.classes is not None, *self.cache_key()]
        return Path(self.cache_dir or cache_dir()).resolve() / f"images-{digest(key)[:16]}"

    def checked(self, prepared: PreparedImages) -> PreparedImages:
        """Return the images. Reject or report broken pictures."""
        self.broken_files = {self.picture_name(name): reason for name, reason in prepared.broken.items()}
        if not self.broken_files:
            return prepared
        n, n_valid = len(self.broken_files), sum(map(len, prepared.images.values()))
        examples = "; ".join(f"{name}: {reason}" for name, reason in list(self.broken_files.items())[:MAX_NAMES])
        others = f"; and {n - MAX_NAMES:,} more" if n > MAX_NAMES else ""
        sentence = f"{n:,} of {n + n_valid:,} pictures in {self.location} cannot be read ({examples}{others})"
        if self.on_broken == "raise" or len(prepared.images["train"]) == 0:
            advice = ", or set data.on_broken=skip to leave them out" if n_valid else ""
            raise UserError(f"{sentence}: fix or remove them{advice}")
        if self.trainer is None or self.trainer.is_global_zero:
            print(f"note: {sentence}: they are left out", file=sys.stderr)
        return prepared

    def load(self, train: bool) -> StoredImages:
        split = "train" if train else "test"
        images = self.prepared.images[split]
        if len(images) == 0:
            change = "lower" if train else "raise"
            raise UserError(
                f"there is no {split} image among the {sum(map(len, self.prepared.images.values()))} pictures in "
                f"{self.location}: add pictures, or {change} data.test_fraction ({self.test_fraction}), which splits "
                "folders without train/ and test/"
            )
        if (labels := self.prepared.labels[split]) is not None:
            check_labels(labels, self.classes)
        return images, labels

    @cached_property
    def prepared_digest(self) -> str:
        """A digest of the training images, computed at their preparation, and of their labels."""
        return digest([self.prepared.content, self.prepared.labels["train"]])

    def content_digest(self, stored: StoredImages) -> str:
        return self.prepared_digest  # to read all images takes long

    @property
    def judge_name(self) -> str:
        return f"{self.dataset_name}-{self.prepared_digest[:8]}"

    def class_name(self, label: int) -> str:
        names = self.prepared.class_names
        return super().class_name(label) if names is None else names[label]

    @cached_property
    def fingerprint(self) -> str:
        return digest([self.prepared_digest, self.n_images])
