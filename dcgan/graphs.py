"""CUDA graphs: a function's kernels recorded once, to be launched as one. Not yet run on a GPU."""

import gc
import warnings
from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")


def on_stream(side: torch.cuda.Stream, function: Callable[[], T]) -> T:
    """The function on another stream than the default one, where a recording must be warmed up."""
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        result = function()
    torch.cuda.current_stream().wait_stream(side)
    return result


def recorded(side: torch.cuda.Stream, function: Callable[[], object]) -> Callable[[], None]:
    """The function's kernels as one CUDA graph, to be called; Python runs through it once, the GPU does not.

    side: of this run's GPU; torch's own choice stays with the first GPU of the process.
    """
    gc.collect()  # memory of an earlier run of this process, which a graph must not free
    graph = torch.cuda.CUDAGraph()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="The CUDA Graph is empty")
        # thread_local: the readers of image_folder go on with their own work for the GPU meanwhile
        with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
            function()
    return graph.replay
