"""The device of a command, and its float32 precision."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def resolve_device(name: str) -> "torch.device":
    """Return the device of that name: cpu, cuda, mps (an Apple GPU), or auto, which is cuda if there is one, else cpu.

    Raises:
        ValueError: The name is another one, or this machine has no such device.
    """
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device("cuda" if available["cuda"] else "cpu")
    if name not in available:
        raise ValueError(f"device must be auto, cpu, cuda or mps, got {name!r}")
    if not available[name]:
        kind = {"cuda": "GPU", "mps": "Apple GPU"}[name]
        raise ValueError(f"device={name}, but this machine has no {kind}: device=cpu runs on every machine")
    return torch.device(name)


def float64_device(device: "torch.device") -> "torch.device":
    """Return the device, or the CPU in place of an Apple GPU, which has no float64. Metrics need it."""
    import torch

    return torch.device("cpu") if device.type == "mps" else device


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Within the context, a GPU may or must not use TF32 for float32 convolutions and matrix products.

    TF32 has a relative error of about 1e-3. Without it, a GPU computes in full precision, as a CPU does.
    """
    import torch

    precision, allow_tf32 = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = allow_tf32
