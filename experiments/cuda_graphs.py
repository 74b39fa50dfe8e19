"""CUDA graphs of the benchmarks' steps."""

from collections.abc import Callable

import torch

from dcgan.training import cuda_graph
from dcgan.training.cuda_graph import WARM_UP_STEPS, run_on_stream


def record_graph(function: Callable[[], object], device: torch.device) -> Callable[[], None]:
    """Record the function's kernels as one CUDA graph, after a warm-up, and return a function that replays it.

    Args:
        function: Must use the same tensors in each call. They must live as long as the graph, which uses their memory.
        device: A GPU.
    """
    stream = torch.cuda.Stream(device)
    for _ in range(WARM_UP_STEPS):
        run_on_stream(stream, function)
    return cuda_graph.record_graph(stream, function)


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its work, before a clock is read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
