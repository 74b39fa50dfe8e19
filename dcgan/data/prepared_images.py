"""Prepared images: pictures that were decoded, resized and cropped once, in memory-mapped .npy files of the cache."""

import json
import os
import shutil
import warnings
from concurrent.futures import as_completed
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from dcgan.common.atomic_files import atomic_folder
from dcgan.common.cache import digest
from dcgan.common.errors import UserError
from dcgan.common.progress import progress_bar
from dcgan.common.schema import read_json
from dcgan.data.decoding import ImageArrayFile, ImageReader
from dcgan.data.decoding_pool import pool

VERSION = 1  # increase it if the same pictures give other images, or the files change
FACTS = "facts.json"
SCHEMA = {
    "version": int,
    "content": str,
    "shapes": {"train": [int], "test": [int]},
    "has_labels": bool,
    "class_names": list | None,
    "broken": {str: str},
}
SPLITS = ("train", "test")
CHUNK_SIZE = 128  # pictures
MIN_FILES_OF_PROCESSES = 2000  # to start processes takes half a second


@dataclass(frozen=True)
class PictureSource:
    """The pictures of a split.

    Args:
        read: Opens the picture with a name, and returns it with its class, if any.
        names: One per picture, in the order of the images.
        in_processes: Read in other processes, to which `read` is copied, instead of in threads.
    """

    read: ImageReader
    names: list[str]
    in_processes: bool = False


@dataclass(frozen=True)
class PreparedImages:
    """The content of a prepared folder.

    Attributes:
        images, labels: Of each split; the images are memory-mapped.
        content: SHA-256 of the training images.
        class_names: By label, if known.
        broken: The names of the pictures that are left out, and the reasons.
    """

    images: dict[str, UInt8[Tensor, "_ c s s"]]
    labels: dict[str, Int64[Tensor, " _"] | None]
    content: str
    class_names: list[str] | None
    broken: dict[str, str]


# --- order and split


def hash_fraction(name: str) -> float:
    """Return a number in [0, 1) that depends on the name alone: the first 64 bits of its SHA-256."""
    return int.from_bytes(sha256(os.fsencode(name)).digest()[:8], "big") / 2**64


def hash_order(names: list[str]) -> list[str]:
    """Return the names in the order of their SHA-256: the first n are the same random subset on each machine."""
    return sorted(names, key=lambda name: sha256(os.fsencode(name)).digest())


def hash_split(names: list[str], test_fraction: float) -> dict[str, list[str]]:
    """Return the names of the training and the test images: in the test split, `hash_fraction` < `test_fraction`."""
    is_test = [hash_fraction(name) < test_fraction for name in names]
    return {
        split: [name for name, test in zip(names, is_test, strict=True) if test == (split == "test")]
        for split in SPLITS
    }


# --- read


def open_prepared(folder: Path, image_size: int, channels: int) -> PreparedImages | None:
    """Return the images of this size in a folder, None if it does not exist.

    Raises:
        ValueError: The folder is damaged, or of another version or size. A file that is cut short would kill the
            process later.
    """
    if not folder.exists():
        return None
    try:
        facts = read_json(folder / FACTS, SCHEMA)
        if facts["version"] != VERSION:
            raise ValueError(f"version {facts['version']} instead of {VERSION}")
        if any(facts["shapes"][name][1:] != [channels, image_size, image_size] for name in SPLITS):
            raise ValueError("its images have another size")
        images = {name: open_images(folder / f"{name}.npy", tuple(facts["shapes"][name])) for name in SPLITS}
        labels = {
            name: load_labels(folder / f"{name}_labels.npy", len(images[name])) if facts["has_labels"] else None
            for name in SPLITS
        }
        return PreparedImages(images, labels, facts["content"], facts["class_names"], facts["broken"])
    except (OSError, ValueError, UserError) as error:
        raise ValueError(f"{folder} is damaged ({error})") from error


def open_images(path: Path, shape: tuple[int, ...]) -> UInt8[Tensor, "n c h w"]:
    """Return the images of an .npy file as a read-only memory map.

    Raises:
        ValueError: The file does not have this shape and the size that follows from it.
    """
    array = np.lib.format.open_memmap(path, mode="r")
    if array.dtype != np.uint8 or array.shape != shape or path.stat().st_size != array.offset + array.nbytes:
        raise ValueError(f"{path.name} is not an array of {shape} bytes")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def load_labels(path: Path, n: int) -> Int64[Tensor, " n"]:
    labels = np.lib.format.open_memmap(path, mode="r")
    if labels.dtype != np.int64 or labels.shape != (n,):
        raise ValueError(f"{path.name} does not hold {n} labels")
    return torch.from_numpy(np.array(labels))


# --- write


def write_prepared(
    folder: Path, sources: dict[str, PictureSource], image_size: int, channels: int, class_names: list[str] | None
) -> None:
    """Decode the pictures of each split and write them to a folder. Atomic; replaces a damaged folder.

    Raises:
        OSError: The folder cannot be written.
        UserError: A process that decodes pictures was killed.
    """
    for leftover in folder.parent.glob(".images-*.tmp"):  # of a killed process; the caller holds the lock
        shutil.rmtree(leftover, ignore_errors=True)
    with atomic_folder(folder) as temporary:
        outputs = {
            name: create_array_file(temporary / f"{name}.npy", len(source.names), image_size, channels)
            for name, source in sources.items()
        }
        labels, broken = decode(sources, outputs)
        shapes, has_labels = {}, any(label is not None for split in labels.values() for label in split)
        for name, source in sources.items():
            valid = [i for i in range(len(source.names)) if i not in broken[name]]
            remove_gaps(outputs[name], valid)
            shapes[name] = [len(valid), channels, image_size, image_size]
            if has_labels:
                np.save(temporary / f"{name}_labels.npy", np.array([labels[name][i] for i in valid], dtype=np.int64))
        facts = {
            "version": VERSION,
            "shapes": shapes,
            "has_labels": has_labels,
            "class_names": class_names,
            "content": digest([open_images(temporary / "train.npy", tuple(shapes["train"]))]),
            "broken": {
                sources[name].names[i]: reason for name in sources for i, reason in sorted(broken[name].items())
            },
        }
        (temporary / FACTS).write_text(json.dumps(facts))
        shutil.rmtree(folder, ignore_errors=True)


def array_header(n: int, image_size: int, channels: int) -> bytes:
    """Return the header of an .npy file of n images. Its length does not depend on n."""
    header = BytesIO()
    shape = (n, channels, image_size, image_size)
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return header.getvalue()


def create_array_file(path: Path, n: int, image_size: int, channels: int) -> ImageArrayFile:
    """Create an .npy file for n images. The images are holes in it."""
    header = array_header(n, image_size, channels)
    output = ImageArrayFile(str(path), len(header), image_size, channels)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + n * output.image_bytes)
    return output


def remove_gaps(output: ImageArrayFile, valid: list[int]) -> None:
    """Move the valid images together, and shorten the file."""
    with Path(output.path).open("r+b") as file:
        for to, position in enumerate(valid):
            if to != position:
                file.seek(output.offset + position * output.image_bytes)
                image = file.read(output.image_bytes)
                file.seek(output.offset + to * output.image_bytes)
                file.write(image)
        file.seek(0)
        file.write(array_header(len(valid), output.image_size, output.channels))
        file.truncate(output.offset + len(valid) * output.image_bytes)


def decode(
    sources: dict[str, PictureSource], outputs: dict[str, ImageArrayFile]
) -> tuple[dict[str, list[int | None]], dict[str, dict[int, str]]]:
    """Write all pictures to the files, in parallel.

    Returns:
        For each split, the classes, and the reasons why pictures cannot be read by their positions.
    """
    total = sum(len(source.names) for source in sources.values())
    in_processes = total >= MIN_FILES_OF_PROCESSES and all(source.in_processes for source in sources.values())
    labels: dict[str, list[int | None]] = {name: [] for name in sources}
    broken: dict[str, dict[int, str]] = {name: {} for name in sources}
    with progress_bar() as progress, pool(in_processes) as submit:
        task = progress.add_task(f"preparing {total:,} images", total=total)
        chunks = [
            (name, submit(source.read, source.names[i : i + CHUNK_SIZE], i, outputs[name]))
            for name, source in sources.items()
            for i in range(0, len(source.names), CHUNK_SIZE)
        ]
        for future in as_completed([future for _, future in chunks]):
            progress.update(task, advance=len(future.result()[0]))
        for name, future in chunks:
            chunk_labels, chunk_broken = future.result()
            labels[name] += chunk_labels
            broken[name] |= chunk_broken
    return labels, broken
