"""Decode pictures to uint8 arrays. Imports only Pillow and NumPy, so that other processes start quickly."""

import errno
import os
import pickle
import signal
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")  # a fixed list: Pillow would start Ghostscript for PostScript
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
TRANSPARENT_MODES = ("LA", "PA", "RGBA")
MAX_16_BIT = 65535
# of the disk, a network, or too many open files: the picture may be intact
TEMPORARY_ERRORS = (errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ETIMEDOUT)


class TemporaryReadError(Exception):
    """A picture cannot be read, although it may be intact."""


@dataclass(frozen=True)
class ImageArrayFile:
    """An .npy file of uint8 images (n, channels, image_size, image_size), to which several processes write.

    Args:
        path: The file, which exists.
        offset: Bytes of the header.
        image_size: Height and width in pixels.
        channels: 1 or 3.
    """

    path: str
    offset: int
    image_size: int
    channels: int

    @property
    def image_bytes(self) -> int:
        return self.channels * self.image_size**2


@dataclass(frozen=True)
class FileReader:
    """Opens picture files below a folder, and returns them with their classes.

    Args:
        root: The folder.
        labels: The class of each class folder; None: no classes.
        level: Number of folders between `root` and the class folders.
    """

    root: str
    labels: dict[str, int] | None = None
    level: int = 0

    def __call__(self, name: str) -> tuple[Image.Image, int | None]:
        path = Path(self.root, name)
        if path.stat().st_size == 0:
            raise ValueError("it is empty")
        label = None if self.labels is None else self.labels[name.split("/")[self.level]]
        return Image.open(path, formats=FORMATS), label


ImageReader = Callable[[str], tuple[Image.Image, Any]]  # of an item's name: the picture and its class, or None


def decode_chunk(
    read: ImageReader, names: list[str], first: int, output: ImageArrayFile
) -> tuple[list[int | None], dict[int, str]]:
    """Write pictures to the positions first, first + 1, ... of a file.

    Returns:
        The classes, and the reason for each position whose picture cannot be read. Nothing is written there.

    Raises:
        OSError: The file cannot be written, for example because the disk is full.
        TemporaryReadError: A picture cannot be read for a reason that may pass.
    """
    labels: list[int | None] = []
    broken: dict[int, str] = {}
    # written, not memory-mapped: on a full disk, a write to mapped memory kills the process
    descriptor = os.open(output.path, os.O_WRONLY)
    try:
        for position, name in enumerate(names, first):
            try:
                picture, label = read(name)
                pixels = to_array(picture, output.image_size, output.channels).tobytes()
                labels.append(None if label is None else int(label))
            except Exception as error:  # Pillow raises a dozen types
                if isinstance(error, MemoryError):
                    raise
                if getattr(error, "errno", None) in TEMPORARY_ERRORS:
                    raise TemporaryReadError(f"{name} cannot be read at the moment ({describe(error)})") from error
                labels.append(None)
                broken[position] = describe(error)
            else:
                write_at(descriptor, pixels, output.offset + position * output.image_bytes)
    finally:
        os.close(descriptor)
    return labels, broken


def write_at(descriptor: int, data: bytes, offset: int) -> None:
    """Write all of the data at the offset; a disk that fills up accepts a part first, then raises OSError."""
    done = 0
    while done < len(data):
        done += os.pwrite(descriptor, data[done:], offset + done)


def describe(error: Exception) -> str:
    """Return the reason why a picture cannot be read, in one line."""
    if isinstance(error, UnidentifiedImageError):
        return "it is not a valid JPEG, PNG, WebP, BMP or TIFF picture"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def to_array(picture: Image.Image, image_size: int, channels: int) -> np.ndarray:
    """Return a picture as uint8 (channels, image_size, image_size), and close it.

    The shorter side is scaled to `image_size` (bicubic), the center is cropped. EXIF orientation is applied, 16 bits
    are scaled to 8, transparent pixels are composited on white.

    Raises:
        Exception: The picture is damaged, animated or too large, or its pixels are of an unknown range.
    """
    if not isinstance(picture, Image.Image):
        raise TypeError(f"it is a {type(picture).__name__}, not a picture")
    with picture:
        n_pixels = picture.width * picture.height
        if Image.MAX_IMAGE_PIXELS is not None and n_pixels > Image.MAX_IMAGE_PIXELS:
            raise ValueError(f"it has {n_pixels:,} pixels, more than Pillow's limit of {Image.MAX_IMAGE_PIXELS:,}")
        # MPO: the other pictures of a camera's JPEG file are previews or depth maps
        n_frames = getattr(picture, "n_frames", 1)
        if picture.format != "MPO" and n_frames > 1:
            raise ValueError(f"it is animated or has pages ({n_frames})")
        picture.draft(None, (2 * image_size, 2 * image_size))  # lets a JPEG decoder skip details, as `thumbnail` does
        ImageOps.exif_transpose(picture, in_place=True)
        upright = on_white(to_8_bit(picture)).convert("L" if channels == 1 else "RGB")
        fitted = ImageOps.fit(upright, (image_size, image_size), Image.Resampling.BICUBIC)
    return np.asarray(fitted).reshape(image_size, image_size, channels).transpose(2, 0, 1)


def to_8_bit(picture: Image.Image) -> Image.Image:
    """Scale a picture of 16 bits per pixel to 8; Pillow's `convert` would clip it to white.

    Raises:
        ValueError: The pixels have 32 bits or are floats.
    """
    if picture.mode != "F" and not picture.mode.startswith("I"):
        return picture
    pixels = np.asarray(picture)
    # Pillow before 11 opens a PNG file of 16 bits with mode I
    if picture.mode == "F" or (picture.mode == "I" and picture.format != "PNG"):
        raise ValueError("its pixels are floats or have 32 bits: save it with 8 or 16 bits")
    if isinstance(transparent := picture.info.get("transparency"), int):  # a gray value, which is composited on white
        pixels = np.where(pixels == transparent, MAX_16_BIT, pixels)
    return Image.fromarray(np.rint(pixels / (MAX_16_BIT / 255)).astype(np.uint8))


def on_white(picture: Image.Image) -> Image.Image:
    """Composite a picture with transparent pixels on white."""
    if picture.mode not in TRANSPARENT_MODES and "transparency" not in picture.info:
        return picture
    canvas = Image.new("RGBA", picture.size, "white")
    canvas.alpha_composite(picture.convert("RGBA"))
    return canvas


def serve() -> None:
    """Answer calls of `decoding_pool.decode_chunk_in` until the other process closes the pipe, or is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C reaches this process, too; the other one handles it
    warnings.simplefilter("ignore")  # about odd metadata
    while True:
        try:
            arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        result: Any
        try:
            result = decode_chunk(*arguments)
        except (OSError, MemoryError, TemporaryReadError) as error:
            result = error
        pickle.dump(result, sys.stdout.buffer)
        sys.stdout.buffer.flush()
