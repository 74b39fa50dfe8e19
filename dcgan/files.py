"""Files that are either the old one or the new one, whole, whatever happens while they are written."""

import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dcgan.checks import UserError, first_line


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path in the same folder: flushed to disk and renamed to `path` at the end, removed on an error.
    The folder is flushed too, or a power cut could undo the renaming."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        flush(temporary)
        temporary.replace(path)
        flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside it, renamed to `folder` at the end and removed on an error."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        for path in temporary.iterdir():
            flush(path)
        flush(temporary)
        temporary.replace(folder)
        flush(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def writing(
    path: str | Path, instead: str, errors: tuple[type[Exception], ...] = (OSError, RuntimeError)
) -> Iterator[None]:
    """Such errors end in a sentence that names the path and says what to choose instead. RuntimeError: what torch's zip
    writer makes of a full disk."""
    try:
        yield
    except errors as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise UserError(f"{path} cannot be written ({reason}): free some disk space or choose {instead}") from error


def flush(path: Path) -> None:
    """Of a file its content, of a folder the names in it, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def plain(figures: dict[str, float]) -> dict[str, float | None]:
    """JSON knows neither NaN nor infinity."""
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}


def write_json(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
