"""CUDA graphs: record the kernels of a function once, then launch them together. Not yet run on a GPU."""

import gc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

import torch
from jaxtyping import Float, Int64
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.optim import Optimizer

from dcgan.common.errors import UserError
from dcgan.gan import GAN
from dcgan.training.lightning_internals import count_optimizer_steps

T = TypeVar("T")
WARM_UP_STEPS = 3  # before the recording: libraries allocate memory in their first steps, which a graph cannot


def run_on_stream(stream: torch.cuda.Stream, function: Callable[[], T]) -> T:
    """Run the function on a stream other than the default one, which the warm-up of a recording requires."""
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        result = function()
    torch.cuda.current_stream().wait_stream(stream)
    return result


def record_graph(stream: torch.cuda.Stream, function: Callable[[], object]) -> Callable[[], None]:
    """Record the function's kernels as one CUDA graph and return a function that replays it.

    Recording runs the Python code once; the GPU computes nothing.

    Args:
        stream: A stream of this run's GPU; torch's default is one of the first GPU.
        function: Must use the same tensors in each replay.
    """
    gc.collect()  # frees memory of an earlier run in this process, which must not happen during the recording
    graph = torch.cuda.CUDAGraph()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="The CUDA Graph is empty")
        # thread_local: other threads, such as the readers of image_folder, may use the GPU during the recording
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            function()
    return graph.replay


class CUDAGraphGAN(GAN):
    """A GAN that records its update as one CUDA graph after `WARM_UP_STEPS` steps, and then replays it.

    A recording has fixed places in memory: batches are copied to `static_inputs`, and results from `static_outputs`.
    Random numbers differ in each replay, which reads the current seed. Not yet run on a GPU: the tests replay on the
    CPU.

    Raises:
        UserError: There is no GPU, or the run uses DDP or a scheduler.
    """

    warm_up_steps = 0  # completed
    replay: Callable[[], None] | None = None

    def on_fit_start(self) -> None:
        super().on_fit_start()
        if self.device.type != "cuda":
            raise UserError("cuda_graph=true needs a GPU: give trainer=gpu or cuda_graph=false")
        # the gradient hooks of DDP, also with one process, belong to another stream
        if not isinstance(self.trainer.strategy, SingleDeviceStrategy):
            raise UserError("cuda_graph=true needs one process without DDP: give trainer=gpu or cuda_graph=false")
        if self.schedulers is not None:
            raise UserError("cuda_graph=true records the learning rates: give scheduler=none or cuda_graph=false")
        self.warm_up_steps, self.replay = 0, None  # the memory of an earlier fit's recording is freed
        self.stream = torch.cuda.Stream()

    def update(self, images: Float[Tensor, "kn c h w"], labels: Int64[Tensor, " kn"] | None) -> dict[str, Tensor]:
        optimizers = cast(list[Optimizer], self.optimizers())
        if self.warm_up_steps < WARM_UP_STEPS:
            self.warm_up_steps += 1
            return run_on_stream(self.stream, lambda: super(CUDAGraphGAN, self).update(images, labels))
        if self.replay is None:
            self.static_inputs = images.clone(), None if labels is None else labels.clone()
            # the recording computes nothing, but Lightning counts its optimizer steps
            with allow_capture(optimizers):
                self.replay = record_graph(self.stream, self.update_static)
        else:
            for static, value in zip(self.static_inputs, (images, labels), strict=True):
                if static is not None and value is not None:
                    static.copy_(value)
            count_optimizer_steps(optimizers, self.discriminator_steps)
        self.replay()
        return {name: value.clone() for name, value in self.static_outputs.items()}

    def update_static(self) -> None:
        self.static_outputs = super().update(*self.static_inputs)


@contextmanager
def allow_capture(optimizers: list[Optimizer]) -> Iterator[None]:
    """Within the context, optimizers may be recorded. Their settings, which checkpoints hold, are then restored."""

    def set_capturable(capturable: bool) -> None:
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["capturable"] = capturable

    set_capturable(True)
    try:
        yield
    finally:
        set_capturable(False)
