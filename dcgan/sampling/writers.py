"""Write images to the file or folder of `out=`, in the format that its suffix sets. Writes are atomic."""

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dcgan.common.atomic_files import atomic_folder, atomic_path, write_errors
from dcgan.common.errors import UserError
from dcgan.common.image_grid import enlarge, save_png, to_pil
from dcgan.common.progress import progress_bar
from dcgan.sampling.base import ImageSheet, Picture, SampleSource, SamplingMode

ALTERNATIVE = "another out="


def check_output_path(out: Path, suffixes: tuple[str, ...]) -> None:
    """Raise UserError unless `out` is a file, or a new or empty folder, that can be written. Call it before computing.

    Args:
        out: The path.
        suffixes: The allowed suffixes; "" allows a folder.
    """
    if not out.name or (out.name.startswith(".") and not out.suffix):
        raise UserError(f"out must be the name of a file or a new folder, got {out}")
    if out.suffix not in suffixes:
        files = ", ".join(suffix for suffix in suffixes if suffix)
        raise UserError(f"out must end in {files}{', or none for a folder' if '' in suffixes else ''}, got {out}")
    if not out.parent.is_dir():
        raise UserError(f"there is no folder {out.parent}: make it, or choose another out=")
    if not os.access(out.parent, os.W_OK):
        raise UserError(f"the folder {out.parent} cannot be written to: choose another out=")
    if out.is_dir() and (out.suffix or any(out.iterdir())):
        raise UserError(f"{out} is a folder{'' if out.suffix else ' with files in it'}: choose another out=")
    if out.is_file() and not out.suffix:
        raise UserError(f"{out} is a file: choose another out=")


def write(out: Path, mode: SamplingMode, source: SampleSource, scale: int | None, fps: float) -> tuple[str, ...]:
    """Generate and write the mode's images. Return the lines to print.

    Args:
        out: A path that `check_output_path` accepts for `SUFFIXES`.
        mode: Makes the images.
        source: Passed to the mode.
        scale: Enlargement factor of pictures, >= 1; None: to about 512 pixels, but 1 for the images of a folder.
        fps: Frames per second of an animation.

    Raises:
        UserError: The file cannot be written, or it is a video and imageio-ffmpeg is not installed.
    """
    if out.suffix == VIDEO and find_spec("imageio_ffmpeg") is None:
        raise UserError("a video needs imageio-ffmpeg: pip install 'dcgan[video]', or choose an out= that ends in .gif")
    if out.suffix in ANIMATION_WRITERS:
        animation = mode.animation(source)
        ANIMATION_WRITERS[out.suffix](out, animation.pictures(scale), fps)
        return animation.notes
    sheet = mode.image_sheet(source)
    SHEET_WRITERS[out.suffix](out, sheet, scale)
    if sheet.latents is not None:
        with write_errors(out, ALTERNATIVE):
            write_array(out.with_suffix(".z.npy"), sheet.latents)
    return sheet.notes


def write_gif(out: Path, pictures: list[Picture], fps: float) -> None:
    # for gray frames, Pillow's palette is exact
    is_gray = all((picture == picture[:1]).all() for picture in pictures)
    first, *others = (to_pil(picture).convert("L" if is_gray else "RGB") for picture in pictures)
    with write_errors(out, ALTERNATIVE), atomic_path(out) as temporary:
        first.save(temporary, format="GIF", save_all=True, append_images=others, duration=round(1000 / fps), loop=0)


def write_mp4(out: Path, pictures: list[Picture], fps: float) -> None:
    """Write an H.264 video."""
    from imageio_ffmpeg import count_frames_and_secs, write_frames

    height, width = pictures[0].shape[1:]
    padding = (0, width % 2, 0, height % 2)  # players need even sizes
    size = (width + padding[1], height + padding[3])
    quality = ["-crf", "18"]  # high: the frames are small
    with write_errors(out, ALTERNATIVE), atomic_path(out) as temporary:
        video = write_frames(
            temporary, size, fps=fps, quality=None, macro_block_size=2, ffmpeg_log_level="error", output_params=quality
        )
        video.send(None)
        for picture in pictures:
            video.send(F.pad(picture, padding).permute(1, 2, 0).contiguous().numpy())
        video.close()
        if count_frames_and_secs(temporary)[0] != len(pictures):  # it reports no error of the end of the file
            raise OSError("ffmpeg has not written all frames")


def write_png(out: Path, sheet: ImageSheet, scale: int | None) -> None:
    picture = sheet.picture(scale)
    with write_errors(out, ALTERNATIVE):
        save_png(out, picture, scale=1)


def write_npy(out: Path, sheet: ImageSheet, scale: int | None) -> None:
    images = sheet.images[:, 0] if sheet.images.shape[1] == 1 else sheet.images.permute(0, 2, 3, 1)
    with write_errors(out, ALTERNATIVE):
        write_array(out, images)
        write_labels(out.with_suffix(".labels.npy"), sheet)


def write_pt(out: Path, sheet: ImageSheet, scale: int | None) -> None:
    with write_errors(out, ALTERNATIVE):
        with atomic_path(out) as temporary:
            torch.save(sheet.images.contiguous().clone(), temporary)
        write_labels(out.with_suffix(".labels.npy"), sheet)


def write_folder(out: Path, sheet: ImageSheet, scale: int | None) -> None:
    with write_errors(out, ALTERNATIVE), atomic_folder(out) as temporary, progress_bar() as progress:
        n, channels = sheet.images.shape[:2]
        for i in progress.track(range(n), description=f"writing {n:,} images"):
            picture = to_pil(enlarge(sheet.images[i].expand(3, -1, -1), scale or 1))
            picture.convert("L" if channels == 1 else "RGB").save(temporary / f"{i:05d}.png", format="PNG")
        write_labels(temporary / "labels.npy", sheet)


def write_array(path: Path, array: Tensor) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, array.contiguous().numpy())


def write_labels(path: Path, sheet: ImageSheet) -> None:
    """Write the labels, if any; else remove the labels of an earlier file."""
    path.unlink(missing_ok=True)
    if sheet.labels is not None:
        write_array(path, sheet.labels)


VIDEO = ".mp4"
ANIMATION_WRITERS: dict[str, Callable[[Path, list[Picture], float], None]] = {".gif": write_gif, VIDEO: write_mp4}
SHEET_WRITERS: dict[str, Callable[[Path, ImageSheet, int | None], None]] = {
    ".png": write_png,
    ".npy": write_npy,
    ".pt": write_pt,
    "": write_folder,
}
SUFFIXES = (".png", *ANIMATION_WRITERS, ".npy", ".pt", "")
