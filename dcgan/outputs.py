"""What `out=` can be, by its suffix. A file is written whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from dcgan import cli
from dcgan.checks import UserError
from dcgan.files import atomic_folder, atomic_path, writing
from dcgan.grids import as_image, enlarge, write_png
from dcgan.modes.mode import Mode, Source, Still

INSTEAD = "another out="
Write = Callable[[Path, Mode, Source, int | None, float], tuple[str, ...]]


def check_place(out: Path, suffixes: tuple[str, ...]) -> None:
    """Raise UserError where `out` could not be written, before anything is computed: it needs one of the suffixes
    ("" for a folder, which must be empty or new) and a folder that is there."""
    if not out.name or (out.name.startswith(".") and not out.suffix):
        raise UserError(f"out must be the name of a file or a new folder, got {out}")
    if out.suffix not in suffixes:
        known = ", ".join(suffix for suffix in suffixes if suffix)
        folder = ", or none for a folder" if "" in suffixes else ""
        raise UserError(f"out must end in {known}{folder}, got {out}")
    if not out.parent.is_dir():
        raise UserError(f"there is no folder {out.parent}: make it, or choose another out=")
    if not os.access(out.parent, os.W_OK):
        raise UserError(f"the folder {out.parent} cannot be written to: choose another out=")
    if out.is_dir() and (out.suffix or any(out.iterdir())):
        raise UserError(f"{out} is a folder{'' if out.suffix else ' with files in it'}: choose another out=")
    if out.exists() and not out.is_dir() and not out.suffix:
        raise UserError(f"{out} is a file: choose another out=")


def write(out: Path, mode: Mode, source: Source, scale: int | None, fps: float) -> tuple[str, ...]:
    """Draw what the mode draws and write it as the suffix says; the notes on it."""
    return WRITERS[out.suffix](out, mode, source, scale, fps)


def png(out: Path, mode: Mode, source: Source, scale: int | None, fps: float) -> tuple[str, ...]:
    still = mode.still(source)
    picture = still.picture(scale)
    with writing(out, INSTEAD):
        write_png(out, picture)
    return still.notes


def gif(out: Path, mode: Mode, source: Source, scale: int | None, fps: float) -> tuple[str, ...]:
    film = mode.film(source)
    pictures = film.pictures(scale)
    grey = all(torch.equal(p[0], p[1]) and torch.equal(p[0], p[2]) for p in pictures)
    first, *others = (as_image(picture).convert("L") if grey else as_image(picture) for picture in pictures)
    with writing(out, INSTEAD), atomic_path(out) as temporary:
        first.save(temporary, format="GIF", save_all=True, append_images=others, duration=round(1000 / fps), loop=0)
    return film.notes


def npy(out: Path, mode: Mode, source: Source, scale: int | None, fps: float) -> tuple[str, ...]:
    still = mode.still(source)
    images = still.images[:, 0] if still.images.shape[1] == 1 else still.images.permute(0, 2, 3, 1)
    with writing(out, INSTEAD):
        write_array(out, images)
        write_labels(out.with_suffix(".labels.npy"), still)
    return still.notes


def pt(out: Path, mode: Mode, source: Source, scale: int | None, fps: float) -> tuple[str, ...]:
    still = mode.still(source)
    with writing(out, INSTEAD):
        with atomic_path(out) as temporary:
            torch.save(still.images.contiguous().clone(), temporary)
        write_labels(out.with_suffix(".labels.npy"), still)
    return still.notes


def folder(out: Path, mode: Mode, source: Source, scale: int | None, fps: float) -> tuple[str, ...]:
    still = mode.still(source)
    with writing(out, INSTEAD), atomic_folder(out) as temporary, cli.bar() as progress:
        for i in progress.track(range(len(still.images)), description=f"writing {len(still.images):,} images"):
            write_image(temporary / f"{i:05d}.png", still.images[i], scale or 1)
        write_labels(temporary / "labels.npy", still)
    return still.notes


def write_image(path: Path, image: UInt8[Tensor, "c h w"], scale: int) -> None:
    """One image alone; a grey one as grey."""
    picture = as_image(enlarge(image.expand(3, -1, -1), scale))
    (picture.convert("L") if len(image) == 1 else picture).save(path, format="PNG")


def write_array(path: Path, array: Tensor) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, array.contiguous().numpy())


def write_labels(path: Path, still: Still) -> None:
    """What a conditional model was told to draw; those of an earlier file of that name go."""
    path.unlink(missing_ok=True)
    if still.labels is not None:
        write_array(path, still.labels)


WRITERS: dict[str, Write] = {".png": png, ".gif": gif, ".npy": npy, ".pt": pt, "": folder}
