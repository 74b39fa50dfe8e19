"""Build and call networks without memory for their tensors, to learn what they need."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dcgan.common.errors import UserError


class LimitedCost(TorchDispatchMode):
    """Raise UserError if the context uses more operations of torch than `calls`, or a tensor of more `elements`.

    `calls` is then negative.
    """

    def __init__(self, calls: int, elements: float) -> None:
        super().__init__()
        self.calls, self.elements = calls, elements

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        is_large = isinstance(output, Tensor) and output.numel() > self.elements
        self.calls = -1 if is_large else self.calls - 1
        if self.calls < 0:
            raise UserError("a network has too many layers or too large maps")
        return output


@contextmanager
def dry_run(calls: int, elements: float = math.inf) -> Iterator[LimitedCost]:
    """Within the context, new tensors have shapes only, and `LimitedCost` holds."""
    with torch.device("meta"), LimitedCost(calls, elements) as cost:
        yield cost
