"""The device of a command."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def resolve_device(name: str) -> "torch.device":
    """Return the device of that name: cpu, cuda, or auto, which is a GPU if there is one.

    Raises:
        ValueError: The name is another one, or this machine has no GPU.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu or cuda, got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device=cuda, but this machine has no GPU: device=cpu runs on every machine")
    return torch.device(name)
