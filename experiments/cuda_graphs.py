"""CUDA graphs for the benchmarks, independent of the package's own."""

import gc
from collections.abc import Callable

import torch

WARM_UP_CALLS = 3  # before the recording: libraries allocate memory in their first calls, which a graph cannot


def record_graph(function: Callable[[], object], device: torch.device) -> Callable[[], None]:
    """Record the function's kernels as one CUDA graph, after a warm-up, and return a function that replays it.

    Args:
        function: Must use the same tensors in each call.
        device: A GPU.
    """
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP_CALLS):
            function()
    torch.cuda.current_stream(device).wait_stream(stream)
    gc.collect()  # memory must not be freed during the recording
    graph = torch.cuda.CUDAGraph()
    # thread_local: other threads may use the GPU during the recording
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        function()
    return graph.replay


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its work, before a clock is read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
