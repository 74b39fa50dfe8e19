"""Losses, D's outputs, gradient norms and speed during training."""

import time
from math import isfinite
from statistics import fmean
from typing import Any, NamedTuple

import lightning as L
import torch
from jaxtyping import Float
from torch import Tensor

from dcgan.common.arg_checks import check_int
from dcgan.common.errors import NonFiniteError
from dcgan.common.schema import check_schema
from dcgan.gan import GAN
from dcgan.training.callbacks.shared import is_last_step
from dcgan.training.loggers import log_metrics, publish


class StepMetrics(NamedTuple):
    """Values of one step, means over the ranks. d_real and d_fake are `loss.output` of the logits."""

    loss_d: float
    loss_g: float
    d_real: float
    d_fake: float


class MetricsLogger(L.Callback):
    """Log losses, D's outputs and speed (means over the steps since the last row) and the last step's gradient norms.

    Values are read from the device once per row. A loss or a gradient that is not finite stops the run.

    Args:
        every_n_steps: Steps between two rows, >= 1.
    """

    def __init__(self, every_n_steps: int) -> None:
        check_int("log.every_n_steps", every_n_steps, 1)
        self.every_n_steps = every_n_steps
        self.unread: list[Float[Tensor, "k 4"]] = []  # StepMetrics of steps, on the device
        self.steps: list[StepMetrics] = []  # read from the device, but not in a row yet
        self.timed_steps = 0  # since the last row, without those before a resume
        self.latest: dict[str, float] = {}  # the last row
        self.seconds = 0.0  # of training
        self.timer_start: float | None = None  # of the next row; None before the first step

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "latest": self.latest, "steps": [list(step) for step in self.steps]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        check_schema(state_dict, {"seconds": float, "latest": {str: float}, "steps": [[float]]})
        self.seconds, self.latest = state_dict["seconds"], state_dict["latest"]
        self.steps = [StepMetrics(*step) for step in state_dict["steps"]]

    def exclude_seconds(self, seconds: float) -> None:
        """Exclude time that was not spent on training."""
        if self.timer_start is not None:
            self.timer_start += seconds

    def on_train_start(self, trainer: L.Trainer, gan: GAN) -> None:
        publish(trainer, self.latest)  # of a resumed run

    def on_train_batch_start(self, trainer: L.Trainer, gan: GAN, batch: Tensor, batch_idx: int) -> None:
        if self.timer_start is None:
            self.timer_start = time.perf_counter()

    def on_train_batch_end(self, trainer: L.Trainer, gan: GAN, outputs: Any, batch: Tensor, batch_idx: int) -> None:
        self.unread.append(outputs["metrics"])
        self.timed_steps += len(outputs["metrics"])
        if self.is_due(gan.step) or is_last_step(trainer):
            self.log_row(trainer, gan)

    def is_due(self, step: int) -> bool:
        return step % self.every_n_steps == 0

    def on_train_end(self, trainer: L.Trainer, gan: GAN) -> None:
        if self.unread or self.steps:  # another callback has stopped the run
            self.log_row(trainer, gan)

    def log_row(self, trainer: L.Trainer, gan: GAN) -> None:
        norm_d, norm_g = self.read_from_device(
            trainer, gan, gradient_norm(gan.discriminator), gradient_norm(gan.generator)
        )
        for network, norm in (("discriminator", norm_d), ("generator", norm_g)):
            if not isfinite(norm):
                raise NonFiniteError(f"training stopped: at step {gan.step} the {network}'s gradient was {norm:g}")

        now = time.perf_counter()
        seconds = now - (self.timer_start or now)
        images = self.timed_steps * trainer.datamodule.images_per_step * trainer.world_size
        means = StepMetrics(*map(fmean, zip(*self.steps, strict=True)))
        self.latest = (
            {f"train/{name}": mean for name, mean in means._asdict().items()}
            | {
                "train/gradient_norm_d": norm_d,
                "train/gradient_norm_g": norm_g,
                "train/images_per_second": images / seconds,
            }
            | scheduled_rates(gan)
        )
        self.steps, self.timed_steps = [], 0
        self.seconds, self.timer_start = self.seconds + seconds, now
        log_metrics(trainer, self.latest, gan.step)

    def read_from_device(self, trainer: L.Trainer, gan: GAN, *values: Tensor) -> list[float]:
        """Read the unread steps and `values` from the device, in one transfer, and return the values.

        A collective operation: all values are means over the ranks.

        Raises:
            NonFiniteError: A loss is not finite.
        """
        if not self.unread and not values:
            return []
        n = sum(map(len, self.unread))
        parts = [*(metrics.flatten() for metrics in self.unread), *(value[None] for value in values)]
        self.unread.clear()
        # all ranks have the same means, so all stop at the same step
        host = trainer.strategy.reduce(torch.cat(parts), reduce_op="mean").tolist()
        steps = [StepMetrics(*host[i : i + 4]) for i in range(0, 4 * n, 4)]
        raise_if_nonfinite(gan.step - n, steps)
        self.steps += steps
        return host[4 * n :]


def scheduled_rates(gan: GAN) -> dict[str, float]:
    """Return the learning rates of the next step, if they change during the run."""
    if gan.schedulers is None:
        return {}
    optimizers: Any = gan.optimizers()
    return {
        f"train/lr_{network}": float(optimizer.param_groups[0]["lr"])
        for network, optimizer in zip("dg", optimizers, strict=True)
    }


def raise_if_nonfinite(previous_step: int, steps: list[StepMetrics]) -> None:
    """Raise NonFiniteError, with the probable cause, for the first step whose loss is NaN or infinite.

    Args:
        previous_step: Number of the step before `steps`.
        steps: Consecutive steps.
    """
    for number, step in enumerate(steps, start=previous_step + 1):
        if isfinite(step.loss_d) and isfinite(step.loss_g):
            continue
        cause = {
            (False, True): "the discriminator's outputs for the real images are not finite: check the data",
            (True, False): f"the generated images are not finite, after the generator's gradient of step {number - 1}",
            (False, False): f"the discriminator's outputs are not finite, after its gradient of step {number - 1}",
            (True, True): "the discriminator's gradient of that step" if isfinite(step.loss_d) else "the loss itself",
        }[isfinite(step.d_real), isfinite(step.d_fake)]
        raise NonFiniteError(
            f"training stopped: at step {number} loss_d was {step.loss_d:g} and loss_g {step.loss_g:g} ({cause})"
        )


def gradient_norm(network: torch.nn.Module) -> Tensor:
    """Return the norm of all gradients of the network's last update, as one vector."""
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    return torch.nn.utils.get_total_norm(gradients).float()
