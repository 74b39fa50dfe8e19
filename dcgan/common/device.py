"""The device of a command, and its float32 precision."""

from collections.abc import Iterator
from contextlib import contextmanager
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
