"""A cache of computed tensors in checksummed files, in ~/.cache/dcgan or $DCGAN_CACHE_DIR."""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dcgan.common.atomic_files import atomic_path


def cache_dir() -> Path:
    if folder := os.environ.get("DCGAN_CACHE_DIR"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dcgan"


def digest(parts: Iterable[Any]) -> str:
    """Return the SHA-256 of tensors (shape and dtype included) and JSON values, in hex."""
    sha = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            sha.update(f"{part.dtype} {tuple(part.shape)}".encode())
            sha.update(part.detach().cpu().contiguous().numpy().data)
        else:
            sha.update(json.dumps(part, sort_keys=True).encode())
    return sha.hexdigest()


def save_tensors(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write tensors of any device, and JSON values in the metadata, to a safetensors file. Atomic."""
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
    text = json.dumps(facts, sort_keys=True)
    metadata = {"facts": text, "sha256": digest([text, *tensors, *tensors.values()])}
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(tensors, metadata))  # a file of save_file is readable by its owner only


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and facts that `save_tensors` wrote.

    Raises:
        ValueError: The file is damaged.
        OSError: It cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    path.open("rb").close()  # safe_open would report an unreadable file as a missing one
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error})") from error
    if metadata.get("sha256") != digest([metadata.get("facts"), *tensors, *tensors.values()]):
        raise ValueError(f"{path} is damaged (its checksum does not match its content)")
    if not all(tensor.isfinite().all() for tensor in tensors.values() if tensor.dim()):  # an undefined metric is NaN
        raise ValueError(f"{path} has values that are not finite")
    return tensors, json.loads(metadata["facts"])


def load_or_compute(
    name: str, key: Iterable[Any], shapes: Mapping[str, tuple[int, ...]], compute: Callable[[], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Return the cached tensors of a key, or compute and cache them.

    A cache that is damaged, or of another key or shape, is rebuilt; one that cannot be written is reported on stderr.

    Args:
        name: First part of the file name.
        key: Tensors and JSON values that determine the result.
        shapes: The shape of each tensor, by its name.
        compute: Computes the tensors.
    """
    facts = {"key": digest(key)}
    path = cache_dir() / f"{name}-{facts['key'][:16]}.safetensors"
    try:
        if path.exists():
            tensors, found = load_tensors(path)
            actual = {name: tuple(x.shape) for name, x in tensors.items() if x.is_floating_point()}
            if found != facts or actual != shapes or len(actual) < len(tensors):
                raise ValueError(f"{path} does not hold what it should")
            return tensors
    except (ValueError, OSError) as error:
        print(f"note: {error}: it is computed again", file=sys.stderr)
    tensors = compute()
    try:
        save_tensors(path, tensors, facts)
    except OSError as error:
        print(f"note: {path} cannot be written ({error.strerror}): it is computed again each time", file=sys.stderr)
    return tensors
