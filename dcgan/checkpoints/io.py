"""The checkpoint format: read a checkpoint safely and verify it."""

import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dcgan.checkpoints.safe_instantiate import reject_non_plain
from dcgan.common.errors import UserError

FORMAT = 8
REQUIRED = {"config": dict, "choices": dict, "dataset": str, "step": int}  # in checkpoints and in exports


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return a valid checkpoint's dict. Nothing in the file can run code, and tensors stay on disk until they are used.

    Raises:
        UserError: The file is missing or damaged, or its format is not this version's.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}: give the path of a run's checkpoints/last.ckpt")
    verify_archive(path)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a malicious file can raise any of a dozen types
        raise damaged(path, type(error).__name__) from error
    if not isinstance(checkpoint, dict):
        raise UserError(f"{path} is not a checkpoint of dcgan: it holds a {type(checkpoint).__name__}")
    check_format(path, checkpoint)
    check_types(path, checkpoint, {**REQUIRED, "state_dict": dict})
    if not all(isinstance(name, str) and isinstance(x, Tensor) for name, x in checkpoint["state_dict"].items()):
        raise damaged(path, "its state_dict holds more than tensors")
    if checkpoint["step"] < 0 or not all(isinstance(group, str) for group in checkpoint["choices"]):
        raise damaged(path, "its step or its choices are invalid")
    for name in ("config", "choices"):
        try:
            reject_non_plain(checkpoint[name])
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
    return checkpoint


def verify_archive(path: Path) -> None:
    """Raise UserError unless the file is a complete, uncompressed zip archive whose checksums (CRC-32) are right.

    torch.load does not notice a flipped bit, nor, with mmap, a missing end; and it would unpack a compressed archive
    into memory. OSError if the file cannot be read.
    """
    with path.open("rb") as file:  # an unreadable file is no damaged one
        try:
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
                stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
                fits = sum(member.file_size for member in members) <= path.stat().st_size
                valid = stored and fits and archive.testzip() is None
        except Exception as error:  # zipfile raises a dozen types for a broken archive
            raise damaged(path, f"{type(error).__name__}: it is truncated or not a checkpoint") from error
    if not valid:
        raise damaged(path, "its content is not what was written")


def damaged(path: Path, reason: str) -> UserError:
    return UserError(f"{path} cannot be read as a checkpoint ({reason}): use another one, such as best.ckpt next to it")


def check_format(path: Path, content: dict[str, Any]) -> None:
    """Raise UserError unless the content has this version's format number."""
    number = content.get("format")
    if not isinstance(number, int):
        raise UserError(f"{path} is not a file of dcgan (it has no format number): use a file that dcgan has written")
    if number > FORMAT:
        raise UserError(f"{path} is of a newer version of dcgan (format {number}, this one reads {FORMAT}): update it")
    if number < FORMAT:
        raise UserError(
            f"{path} is of an older version of dcgan (format {number}, this one reads {FORMAT}): train again, or use "
            "the version that wrote it"
        )


def check_types(path: Path, content: dict[str, Any], types: dict[str, type]) -> None:
    """Raise UserError unless the content has these keys with values of these types."""
    for name, kind in types.items():
        if not isinstance(content.get(name), kind):
            raise UserError(f"{path} is damaged (it has no {name}): use another copy")
