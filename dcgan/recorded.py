"""A training step that a GPU replays as a whole, instead of waiting for Python to launch each of its kernels."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from jaxtyping import Float, Int64
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.optim import Optimizer

from dcgan.checks import UserError
from dcgan.gan import GAN
from dcgan.graphs import on_stream, recorded

WARM_UP = 3  # steps before the recording: libraries allocate in their first ones, which a graph cannot do


class RecordedGAN(GAN):
    """A GAN whose updates are recorded as one CUDA graph after the first steps, and from then on replayed.

    Everything in a recording has its place in memory once and for all: the batch is copied to where the recorded one
    was, and what a step returns is copied from there. Random numbers are new each time, for a replay reads the seed.
    UserError without a GPU or with DDP. Not yet run on a GPU: the tests replay on the CPU.
    """

    warmed = 0
    replay: Callable[[], None] | None = None

    def on_fit_start(self) -> None:
        super().on_fit_start()
        if self.device.type != "cuda":
            raise UserError("cuda_graph=true needs a GPU: give trainer=gpu or cuda_graph=false")
        # DDP's own gradient hooks, also those of a single process, belong to another stream
        if not isinstance(self.trainer.strategy, SingleDeviceStrategy):
            raise UserError("cuda_graph=true is for one process without DDP: give trainer=gpu or cuda_graph=false")
        self.warmed, self.replay = 0, None  # a recording of an earlier fit points to memory that is gone
        self.side = torch.cuda.Stream()

    def update(self, images: Float[Tensor, "kn c h w"], labels: Int64[Tensor, " kn"] | None) -> dict[str, Tensor]:
        if self.warmed < WARM_UP:
            self.warmed += 1
            return on_stream(self.side, lambda: super(RecordedGAN, self).update(images, labels))
        if self.replay is None:
            self.places = images.clone(), None if labels is None else labels.clone()
            with capturable(cast(list[Optimizer], self.optimizers())):
                # nothing is computed yet, and Lightning has counted its steps
                self.replay = recorded(self.side, self.record)
        else:
            for place, value in zip(self.places, (images, labels), strict=True):
                if place is not None and value is not None:
                    place.copy_(value)
            self.count()
        self.replay()
        return {name: value.clone() for name, value in self.outputs.items()}

    def record(self) -> None:
        self.outputs = super().update(*self.places)

    def count(self) -> None:
        """Lightning counts optimizer steps, of which a replay calls none."""
        optimizer_d, optimizer_g = cast(list[Any], self.optimizers())
        for optimizer in (*[optimizer_d] * self.discriminator_steps, optimizer_g):
            optimizer._on_before_step()  # no public name for it
            optimizer._on_after_step()


@contextmanager
def capturable(optimizers: list[Optimizer]) -> Iterator[None]:
    """In here the optimizers may be recorded; outside of it they are as before, and so are checkpoints."""

    def mark(allowed: bool) -> None:
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["capturable"] = allowed

    mark(True)
    try:
        yield
    finally:
        mark(False)
