"""What is computed once and kept: tensors in files that prove themselves whole, below ~/.cache/dcgan (or
$DCGAN_CACHE_DIR)."""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from dcgan.files import atomic_path


def cache_dir() -> Path:
    if folder := os.environ.get("DCGAN_CACHE_DIR"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dcgan"


def digest(parts: Iterable[Any]) -> str:
    """SHA-256 over tensors and plain values, in hex."""
    sha = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            sha.update(f"{part.dtype} {tuple(part.shape)}".encode())
            sha.update(part.detach().cpu().contiguous().numpy().data)
        else:
            sha.update(json.dumps(part, sort_keys=True).encode())
    return sha.hexdigest()


def save_tensors(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write tensors and plain facts as safetensors, whole or not at all, with the digest of both."""
    from safetensors.torch import save_file

    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
    text = json.dumps(facts, sort_keys=True)
    metadata = {"facts": text, "sha256": digest([text, *whole, *whole.values()])}
    with atomic_path(path) as temporary:
        save_file(whole, temporary, metadata)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save_tensors` wrote. ValueError where the file is not that, bit for bit."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error})") from error
    if metadata.get("sha256") != digest([metadata.get("facts"), *tensors, *tensors.values()]):
        raise ValueError(f"{path} is damaged (its content is not what was written)")
    return tensors, json.loads(metadata["facts"])


def cached(name: str, key: Iterable[Any], compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """What `compute` makes of what `key` holds: from the cache where it is there and whole, else computed and kept.

    A cache that cannot be written costs time, not the result: one line on stderr says so.
    """
    path = cache_dir() / f"{name}-{digest(key)[:16]}.safetensors"
    try:
        if path.exists():
            return load_tensors(path)[0]
    except (ValueError, OSError) as error:
        print(f"note: {error}: computed anew", file=sys.stderr)
    tensors = compute()
    try:
        save_tensors(path, tensors, {})
    except OSError as error:
        print(f"note: {path} cannot be written ({error.strerror}): computed anew each time", file=sys.stderr)
    return tensors
