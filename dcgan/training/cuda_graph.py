"""CUDA graphs: record the kernels of a training step once, then launch them together."""

import gc
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar, cast

import torch
from lightning.fabric.utilities import move_data_to_device
from lightning_utilities.core.apply_func import apply_to_collection, apply_to_collections
from torch import Tensor, distributed
from torch.optim import Optimizer

from dcgan.common.errors import UserError, first_line
from dcgan.gan import GAN
from dcgan.training.callbacks.shared import is_any_due, is_last_step, step_callbacks
from dcgan.training.lightning_internals import count_batch, count_optimizer_steps, report_batch

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
        # thread_local: other threads may use the GPU during the recording
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            function()
    return graph.replay


class Recording(NamedTuple):
    """A recorded step, and where in memory its replays write."""

    replay: Callable[[], None]
    outputs: dict[str, Tensor]
    gradients: list[Tensor | None]  # of all parameters


class CUDAGraphGAN(GAN):
    """A GAN that records its step as one CUDA graph after `WARM_UP_STEPS` steps, and then replays it.

    The recording holds everything from taking the batch's images to the average of G's weights. It has fixed places in
    memory: batches are copied to `static_batch`. Random numbers differ in each replay, which reads the current seed.
    A penalty that is due in some steps only needs two recordings: with and without it.

    Lightning's loop takes as long as a small step. So one of its batches is several steps: all up to the next one after
    which a callback is due (`dcgan.training.callbacks.shared.is_any_due`).

    Raises:
        UserError: There is no GPU, the ranks do not communicate with NCCL, or the step cannot be recorded.
    """

    def on_fit_start(self) -> None:
        super().on_fit_start()
        if self.device.type != "cuda":
            raise UserError("cuda_graph=true needs a GPU: give trainer=gpu or cuda_graph=false")
        if distributed.is_initialized() and distributed.get_backend() != "nccl":
            raise UserError("cuda_graph=true needs NCCL, one GPU for each process: give cuda_graph=false")
        self.stream = torch.cuda.Stream()
        self.prepare_recording()

    def prepare_recording(self) -> None:
        """Free the memory of an earlier fit's recording."""
        self.warm_up_steps: Counter[bool] = Counter()  # completed, of the steps with and without a penalty
        self.recordings: dict[bool, Recording] = {}
        self.replayed: Recording | None = None  # in the last step
        self.static_batch: Any = None
        self.recorded_settings: list[dict[str, Any]] = []  # of the optimizers
        self.learning_rates: list[tuple[Tensor, dict[str, Any]]] = []  # recorded tensors, groups that have the values
        self.ema_weight = torch.zeros((), device=self.device)
        self.step_callbacks = step_callbacks(self.trainer)
        self.data: Any = cast(Any, self.trainer).datamodule
        self.data.delivers_indices = True

    def training_step(self, dataloader_iter: Any) -> dict[str, Tensor]:  # type: ignore[override]
        """Make the steps of one Lightning batch. The argument's name makes Lightning pass the iterator over batches."""
        metrics = []
        while True:
            batch, _, _ = next(dataloader_iter)
            with self.count_step():
                outputs = self.make_step(self.data.on_before_batch_transfer(batch, 0))
            metrics.append(outputs["metrics"].clone())
            if dataloader_iter.done or is_last_step(self.trainer) or is_any_due(self.step_callbacks, self.step):
                break
            count_batch(self.trainer)
        report_batch(dataloader_iter, self.batch)
        return {name: value.clone() for name, value in outputs.items()} | {"metrics": torch.cat(metrics)}

    def make_step(self, batch: Any) -> dict[str, Tensor]:
        """Make one step: as Python code during the warm-up, then as a replay."""
        if self.ema is not None:
            self.ema_weight.fill_(self.ema.weight(self.step))
        if self.static_batch is None:
            self.static_batch = apply_to_collection(move_data_to_device(batch, self.device), Tensor, torch.clone)
        else:
            apply_to_collections(self.static_batch, batch, Tensor, lambda to, value: to.copy_(value, non_blocking=True))
        kind = self.is_penalty_due
        if self.warm_up_steps[kind] < WARM_UP_STEPS or self.settings_have_changed():
            self.warm_up_steps[kind] += 1
            self.replayed = None
            with recordable(self.trainer.optimizers):
                return run_on_stream(self.stream, self.static_step)
        if kind not in self.recordings:
            self.recordings[kind] = self.record()  # which computes nothing, but Lightning counts its optimizer steps
        else:
            count_optimizer_steps(cast(list[Optimizer], self.optimizers()), self.discriminator_steps)
        for recorded, group in self.learning_rates:
            recorded.fill_(group["lr"])
        return self.replay(self.recordings[kind])

    def replay(self, recording: Recording) -> dict[str, Tensor]:
        recording.replay()
        if recording is not self.replayed:
            self.replayed = recording
            for parameter, gradient in zip(self.parameters(), recording.gradients, strict=True):
                parameter.grad = gradient  # for callbacks
        return recording.outputs

    def static_step(self) -> dict[str, Tensor]:
        """Make a step of `static_batch`."""
        self.batch = self.data.on_after_batch_transfer(self.static_batch, 0)
        self.static_outputs = self.update(*self.batch)
        if self.ema is not None:
            self.ema.update(self.generator, self.ema_weight)
        return self.static_outputs

    def record(self) -> Recording:
        if self.schedulers is not None and not self.recorded_settings:
            groups = param_groups(self.trainer.optimizers)
            self.learning_rates = [(torch.zeros((), device=self.device), group) for group in groups]
            self.recorded_settings = optimizer_settings(self.trainer.optimizers)
        try:
            with recordable(self.trainer.optimizers):
                for recorded, group in self.learning_rates:
                    group["lr"] = recorded
                replay = record_graph(self.stream, self.static_step)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            reason = first_line(error)
            raise UserError(f"the step cannot be recorded as a CUDA graph ({reason}): give cuda_graph=false") from error
        return Recording(replay, self.static_outputs, [parameter.grad for parameter in self.parameters()])

    def settings_have_changed(self) -> bool:
        """Return True if a scheduler has changed more than learning rates, such as OneCycleLR's momentum."""
        return bool(self.recorded_settings) and optimizer_settings(self.trainer.optimizers) != self.recorded_settings


def param_groups(optimizers: list[Optimizer]) -> list[dict[str, Any]]:
    return [group for optimizer in optimizers for group in optimizer.param_groups]


def optimizer_settings(optimizers: list[Optimizer]) -> list[dict[str, Any]]:
    """Return the settings of each parameter group, but for the learning rate."""
    return [
        {name: value for name, value in group.items() if name not in ("params", "lr")}
        for group in param_groups(optimizers)
    ]


@contextmanager
def recordable(optimizers: list[Optimizer]) -> Iterator[None]:
    """Within the context, optimizers may be recorded. Their settings, which checkpoints hold, are then restored."""
    groups = param_groups(optimizers)
    before = [dict(group) for group in groups]
    for group in groups:
        if "capturable" in group:
            group["capturable"] = True
    try:
        yield
    finally:
        for group, settings in zip(groups, before, strict=True):
            group.update(settings)
