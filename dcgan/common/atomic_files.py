"""Atomic writes: after a crash, a file is either the complete old one or the complete new one."""

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dcgan.common.errors import UserError, first_line


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path on the same disk, which is renamed to `path` at the end, or removed after an error.

    The content and the folder's entry are flushed to disk: without the entry, a power cut could undo the renaming.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # in a new folder with a random name, other users cannot have put a link to another file
    with TemporaryDirectory(".tmp", f".{path.name}.", path.parent, ignore_cleanup_errors=True) as folder:
        temporary = Path(folder, path.name)
        yield temporary
        for written in (*temporary.glob("*"), temporary):
            fsync(written)
        temporary.replace(path)
        fsync(path.parent)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder on the same disk, which is renamed to `folder` at the end, or removed after an error."""
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        yield temporary


@contextmanager
def write_errors(
    path: str | Path, alternative: str, errors: tuple[type[Exception], ...] = (OSError, RuntimeError)
) -> Iterator[None]:
    """Within the context, errors of writing `path` become a UserError.

    Args:
        path: The path in the message.
        alternative: What the user can choose instead, such as "another out=".
        errors: The types of errors; torch's zip writer raises RuntimeError on a full disk.
    """
    try:
        yield
    except errors as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise UserError(f"{path} cannot be written ({reason}): free some disk space or choose {alternative}") from error


def fsync(path: Path) -> None:
    """Flush a file's content, or a folder's entries, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def nonfinite_to_none(values: dict[str, float]) -> dict[str, float | None]:
    """Replace NaN and infinity, which JSON does not have, by None."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def write_json(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
