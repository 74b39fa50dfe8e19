"""What a person sees of a run. Nothing in here changes the training: no weights, no statistics, no random state."""

import time
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple, cast

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from dcgan import activity
from dcgan.checks import NonFiniteError, check_int, check_ints
from dcgan.gan import GAN
from dcgan.grids import image_grid, save_png


def log(trainer: L.Trainer, metrics: dict[str, float], step: int) -> None:
    """To every logger. Four self.log calls a step cost more than Lightning's whole loop (experiments/hot_path)."""
    for logger in trainer.loggers:
        logger.log_metrics(metrics, step)


def board(trainer: L.Trainer) -> SummaryWriter:
    """TensorBoard's writer of this run; on other processes than the first, one that does nothing."""
    return cast(TensorBoardLogger, trainer.logger).experiment  # the first of the loggers: dcgan.training


def total_steps(trainer: L.Trainer, gan: GAN) -> int:
    """Steps of the whole run, from its first one."""
    if trainer.max_steps > 0:
        return trainer.max_steps // gan.optimizer_steps_per_step
    return (trainer.max_epochs or 0) * int(trainer.num_training_batches)


def at_the_end(trainer: L.Trainer) -> bool:
    """Whether the batch that has just ended is the run's last one."""
    return 0 < trainer.max_steps <= trainer.global_step or (
        trainer.is_last_batch and trainer.current_epoch + 1 == trainer.max_epochs
    )


class StepFigures(NamedTuple):
    """Of one step, means over the processes; d_real and d_fake as the loss's `output` makes them of the logits."""

    loss_d: float
    loss_g: float
    d_real: float
    d_fake: float


class Monitor(L.Callback):
    """Losses, D's outputs and speed (means over the steps since the last row) and the last step's gradient norms,
    read from the device once every `every_n_steps`. A loss or a gradient that is not finite stops the run.
    """

    def __init__(self, every_n_steps: int) -> None:
        check_int("log.every_n_steps", every_n_steps, 1)
        self.every_n_steps = every_n_steps
        self.window: list[dict[str, Tensor]] = []  # the outputs of the steps that are not yet read from the device
        self.steps: list[StepFigures] = []  # those that are, and not yet in a row
        self.timed = 0  # steps since the last row, without those before a resumption
        self.latest: dict[str, float] = {}  # the last row
        self.seconds = 0.0  # of training so far, without what came before the first step
        self.since: float | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "latest": self.latest, "steps": [list(step) for step in self.steps]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds, self.latest = state_dict["seconds"], state_dict["latest"]
        self.steps = [StepFigures(*step) for step in state_dict["steps"]]

    def pause(self, seconds: float) -> None:
        """Leave out what was no training."""
        if self.since is not None:
            self.since += seconds

    def on_train_batch_start(self, trainer: L.Trainer, gan: GAN, batch: Tensor, batch_idx: int) -> None:
        if self.since is None:
            self.since = time.perf_counter()

    def on_train_batch_end(self, trainer: L.Trainer, gan: GAN, outputs: Any, batch: Tensor, batch_idx: int) -> None:
        self.window.append(outputs)
        self.timed += 1
        if gan.step % self.every_n_steps == 0 or at_the_end(trainer):
            self.flush(trainer, gan)

    def flush(self, trainer: L.Trainer, gan: GAN) -> None:
        norm_d, norm_g = self.look(trainer, gan, gradient_norm(gan.discriminator), gradient_norm(gan.generator))
        for network, norm in (("discriminator", norm_d), ("generator", norm_g)):
            if not isfinite(norm):
                raise NonFiniteError(f"training stopped: at step {gan.step} the {network}'s gradient was {norm:g}")

        now = time.perf_counter()
        seconds = now - (self.since or now)
        images = self.timed * trainer.datamodule.images_per_step * trainer.world_size
        means = StepFigures(*map(fmean, zip(*self.steps, strict=True)))
        self.latest = {f"train/{name}": mean for name, mean in means._asdict().items()} | {
            "train/gradient_norm_d": norm_d,
            "train/gradient_norm_g": norm_g,
            "train/images_per_second": images / seconds,
        }
        self.steps, self.timed = [], 0
        self.seconds, self.since = self.seconds + seconds, now
        log(trainer, self.latest, gan.step)

    def look(self, trainer: L.Trainer, gan: GAN, *figures: Tensor) -> list[float]:
        """Read the steps that are still on the device, and with them `figures`, which are returned: one transfer, for
        each waits for the device. NonFiniteError for a loss, which so is never saved."""
        n = len(self.window)
        if n == 0 and not figures:
            return []
        parts = [figure[None] for figure in figures]
        if n > 0:
            window = {name: torch.stack([step[name] for step in self.window]) for name in self.window[0]}
            d_real, d_fake = (
                gan.loss.output(window[name]).flatten(1).mean(1) for name in ("real_logits", "fake_logits")
            )
            parts.insert(0, torch.stack((window["loss_d"], window["loss_g"], d_real, d_fake), dim=1).flatten())
            self.window.clear()
        # the mean over ranks: all see the same figures, so all stop at the same step
        host = trainer.strategy.reduce(torch.cat(parts), reduce_op="mean").tolist()
        fresh = [StepFigures(*host[i : i + 4]) for i in range(0, 4 * n, 4)]
        refuse_nonfinite(gan.step - n, fresh)
        self.steps += fresh
        return host[4 * n :]


def refuse_nonfinite(before: int, steps: list[StepFigures]) -> None:
    """Raise NonFiniteError that names the first step after `before` whose loss is NaN or infinite, and what the other
    figures tell of the cause."""
    for number, step in enumerate(steps, start=before + 1):
        if isfinite(step.loss_d) and isfinite(step.loss_g):
            continue
        cause = {
            (False, True): "the discriminator's outputs for the real images are not finite, look at the data",
            (True, False): f"the generator draws no finite images, after its gradient of step {number - 1}",
            (False, False): f"the discriminator has no finite outputs, after its gradient of step {number - 1}",
            (True, True): "the discriminator's gradient of that step" if isfinite(step.loss_d) else "the loss itself",
        }[isfinite(step.d_real), isfinite(step.d_fake)]
        raise NonFiniteError(
            f"training stopped: at step {number} loss_d was {step.loss_d:g} and loss_g {step.loss_g:g} ({cause})"
        )


def gradient_norm(network: torch.nn.Module) -> Tensor:
    """The norm of all gradients of the network's last update, as one vector."""
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    return torch.nn.utils.get_total_norm(gradients).float()


class Activity(L.Callback):
    """Dead units and saturation of each hidden activation, on the fixed noise, and the norm of each layer's gradients
    in the last update, every `every_n_steps`."""

    def __init__(self, every_n_steps: int) -> None:
        check_int("log.activity_every_n_steps", every_n_steps, 1)
        self.every_n_steps = every_n_steps

    def on_train_start(self, trainer: L.Trainer, gan: GAN) -> None:
        if gan.step == 0:
            self.measure(trainer, gan)

    def on_train_batch_end(self, trainer: L.Trainer, gan: GAN, outputs: Any, batch: Tensor, batch_idx: int) -> None:
        if gan.step % self.every_n_steps == 0:
            self.measure(trainer, gan)

    @rank_zero_only
    def measure(self, trainer: L.Trainer, gan: GAN) -> None:
        found = {}
        for name, units in activity.measure(gan.generator, gan.discriminator, gan.fixed_z, gan.fixed_label).items():
            found[f"units_dead/{name}"], found[f"units_saturated/{name}"] = units
        for network in ("generator", "discriminator"):
            for layer, norm in activity.gradient_norms(getattr(gan, network)).items():
                found[f"gradient_norms/{network}/{layer}"] = norm
        log(trainer, dict(zip(found, torch.stack(list(found.values())).tolist(), strict=True)), gan.step)


class Samples(L.Callback):
    """Grids of the fixed noise as samples/step_*.png and in TensorBoard, there also fresh noise, the real images once
    and histograms of D's outputs: at the given steps, then at each doubling of the last one, and at the end.
    """

    def __init__(self, run_dir: Path, steps: list[int]) -> None:
        self.folder = run_dir / "samples"
        check_ints("samples.steps", steps, 0)
        self.steps = sorted(set(steps))
        self.latest: Path | None = None

    def due(self, step: int) -> bool:
        if not self.steps or step <= self.steps[-1]:
            return step in self.steps
        doublings, rest = divmod(step, max(1, self.steps[-1]))
        return rest == 0 and doublings & (doublings - 1) == 0

    def on_train_start(self, trainer: L.Trainer, gan: GAN) -> None:
        if gan.step == 0:
            real = trainer.datamodule.preview(len(gan.fixed_z))
            board(trainer).add_image("real", image_grid(real), 0)
            if self.due(0):
                self.draw(trainer, gan)

    def on_train_batch_end(self, trainer: L.Trainer, gan: GAN, outputs: Any, batch: Tensor, batch_idx: int) -> None:
        if self.due(gan.step):
            self.draw(trainer, gan)
            self.histograms(trainer, gan, outputs)

    def on_train_end(self, trainer: L.Trainer, gan: GAN) -> None:
        if not self.due(gan.step):
            self.draw(trainer, gan)

    @rank_zero_only
    def draw(self, trainer: L.Trainer, gan: GAN) -> None:
        columns = gan.generator.classes or None  # one for each class
        fixed = image_grid(gan.sample(gan.fixed_z, gan.fixed_label), columns)
        self.latest = self.folder / f"step_{gan.step:06d}.png"
        save_png(self.latest, fixed)
        board(trainer).add_image("samples/fixed_noise", fixed, gan.step)
        fresh = image_grid(gan.sample(gan.fresh_z(len(gan.fixed_z)), gan.fixed_label), columns)
        board(trainer).add_image("samples/fresh_noise", fresh, gan.step)

    @rank_zero_only
    def histograms(self, trainer: L.Trainer, gan: GAN, outputs: dict[str, Tensor]) -> None:
        for name in ("real_logits", "fake_logits"):
            finite = outputs[name][outputs[name].isfinite()]
            if len(finite):  # else Monitor is about to stop the run
                board(trainer).add_histogram(f"discriminator/{name}", finite, gan.step)
