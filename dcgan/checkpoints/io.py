"""The checkpoint format: read a checkpoint safely and verify it."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dcgan.checkpoints.safe_instantiate import reject_non_plain
from dcgan.common.errors import UserError, first_line
from dcgan.common.schema import Schema, check_schema

FORMAT = 8
SIZED_BY_NUMBER = b"\nbytearray\n"  # the only class that torch.load accepts and whose memory a number sets
MAX_EXPANSION = 10  # from a file to its weights in memory, which may share some; one number can stand for gigabytes
NODE = {"_target_": str}  # the config of an object
# of a generator, in checkpoints and in exports
GENERATOR = {
    "config": {"model": NODE, "output": {"pixels": NODE}},
    "choices": {str: str | list | None, "model": str, "data": str},
    "dataset": str,
    "judge": str | None,
    "images": int | None,
    "step": int,
    "seed": int,
    "weights": str,
    "dtype": str | None,
    "license": str | None,
}
CHECKPOINT = {
    "config": {
        "seed": int,
        "model": NODE,
        "output": {"pixels": NODE},
        "discriminator": NODE,
        "data": NODE,
        "optimizer": {"discriminator": dict, "generator": dict},
        "trainer": {"precision": str},
    },
    "choices": {str: str | list | None, "data": str},
    "dataset": str,
    "judge": str | None,
    "step": int,
    "stopped": bool,
    "processes": int,
    "device": str,
    "images": int,
    "fingerprint": str,
    "state_dict": {str: Tensor, "fixed_z": Tensor},
    "loops": dict,
    "callbacks": dict,
    "optimizer_states": [dict],
    "lr_schedulers": [dict],
}


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
    check_content(path, checkpoint, CHECKPOINT)
    weights = checkpoint["state_dict"].values()
    if not all(map(is_plain, weights)):
        raise damaged(path, "its weights are not plain tensors")
    if sum(weight.nbytes for weight in weights) > MAX_EXPANSION * path.stat().st_size:
        raise damaged(path, "its weights need more bytes than it has")
    return checkpoint


def is_plain(tensor: Tensor) -> bool:
    is_number = not tensor.is_quantized and not tensor.is_complex()
    return is_number and tensor.layout == torch.strided and tensor.device.type == "cpu"


def check_content(path: Path, content: Any, schema: Schema) -> None:
    """Raise UserError unless the content of a checkpoint or export is of this version's format and has the schema."""
    if not isinstance(content, dict) or not isinstance(number := content.get("format"), int):
        raise UserError(f"{path} is not a file of dcgan (it has no format number): use a file that dcgan has written")
    if number > FORMAT:
        raise UserError(f"{path} is of a newer version of dcgan (format {number}, this one reads {FORMAT}): update it")
    if number < FORMAT:
        raise UserError(
            f"{path} is of an older version of dcgan (format {number}, this one reads {FORMAT}): train again, or use "
            "the version that wrote it"
        )
    try:
        check_schema(content, schema)
        if content["step"] < 0:
            raise ValueError(f"its step is {content['step']}")
        reject_non_plain([content["config"], content["choices"]])
    except (ValueError, UserError) as error:
        raise UserError(f"{path} is damaged or not of dcgan ({first_line(error)}): use another copy") from error


@contextmanager
def name_file(path: Path) -> Iterator[None]:
    """Within the context, a UserError names the file that it is about."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


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
                pickles = [archive.read(member) for member in members if member.filename.endswith(".pkl")]
                valid &= not any(SIZED_BY_NUMBER in pickled for pickled in pickles)
        except Exception as error:  # zipfile raises a dozen types for a broken archive
            raise damaged(path, f"{type(error).__name__}: it is truncated or not a checkpoint") from error
    if not valid:
        raise damaged(path, "its content is not what was written")


def damaged(path: Path, reason: str) -> UserError:
    return UserError(f"{path} cannot be read as a checkpoint ({reason}): use another one, such as best.ckpt next to it")
