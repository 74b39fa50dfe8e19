"""The terminal: a summary at the start, a progress bar, and where everything is at the end."""

import sys
import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from dcgan.callbacks import Monitor, total_steps
from dcgan.gan import GAN
from dcgan.networks import count_parameters

REFRESH_SECONDS = 0.25
LINE_SECONDS = 10  # between the lines that stand for the bar where the output is not a terminal


def shown(path: Path) -> str:
    """The path as short as a person would type it from here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def print_summary(console: Console, gan: GAN, choices: dict[str, str], trainer: L.Trainer, run_dir: Path) -> None:
    """What is about to be trained, on what, and where it will be."""
    lines = {
        "generator": f"{choices['model']}, {count_parameters(gan.generator):,} parameters",
        "discriminator": f"{choices['discriminator']}, {count_parameters(gan.discriminator):,} parameters",
        "training": f"{choices['loss']} loss on {choices['data']}, seed {gan.seed}",
        "device": f"{trainer.strategy.root_device.type} x {trainer.world_size}, {trainer.precision}",
        "run folder": shown(run_dir),
    }
    for name, value in lines.items():
        console.print(f"{name:<14} {value}", highlight=False)


def print_outcome(console: Console, run_dir: Path, samples: Path | None, step: int) -> None:
    """Where to look now."""
    tensorboard = Path(sys.executable).with_name("tensorboard")
    command = shown(tensorboard) if tensorboard.exists() else "tensorboard"
    console.print(f"done after {step} steps")
    if samples is not None:
        console.print(f"samples      {shown(samples)}")
    console.print(f"TensorBoard  {shown(run_dir)}; open it with")
    console.print(f"             {command} --logdir {shown(run_dir)}")


class ProgressBar(L.Callback):
    """Steps, losses, steps and images per second and the time left; drawn at most every quarter of a second."""

    def __init__(self, console: Console, monitor: Monitor) -> None:
        self.console, self.monitor = console, monitor
        self.progress = Progress(
            TextColumn("step {task.completed:,.0f}/{task.total:,.0f}"),
            BarColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            auto_refresh=False,
            speed_estimate_period=60,
        )

    def on_train_start(self, trainer: L.Trainer, gan: GAN) -> None:
        self.images_per_step = trainer.datamodule.images_per_step * trainer.world_size
        self.total_steps = total_steps(trainer, gan)
        self.task = self.progress.add_task("", total=self.total_steps, completed=gan.step, figures="")
        self.drawn, self.shown_step = time.monotonic(), -1
        if self.console.is_terminal and trainer.is_global_zero:
            self.progress.start()

    def on_train_batch_end(self, trainer: L.Trainer, gan: GAN, outputs: Any, batch: Tensor, batch_idx: int) -> None:
        period = REFRESH_SECONDS if self.console.is_terminal else LINE_SECONDS
        if time.monotonic() - self.drawn >= period:
            self.draw(gan)

    def on_train_end(self, trainer: L.Trainer, gan: GAN) -> None:
        if self.shown_step != gan.step or self.console.is_terminal:  # a last line that already stands there will do
            self.draw(gan)
        self.progress.stop()

    def on_exception(self, trainer: L.Trainer, gan: GAN, exception: BaseException) -> None:
        self.progress.stop()

    def figures(self) -> str:
        """The losses and the speed of the last row of metrics."""
        latest = self.monitor.latest
        if not latest:
            return ""
        images = latest["train/images_per_second"]
        steps = images / self.images_per_step
        losses = f"loss_d {latest['train/loss_d']:.3f}  loss_g {latest['train/loss_g']:.3f}"
        return f"{losses}  {steps:.1f} steps/s  {images:,.0f} images/s"

    @rank_zero_only
    def draw(self, gan: GAN) -> None:
        self.drawn, self.shown_step = time.monotonic(), gan.step
        self.progress.update(self.task, completed=gan.step, figures=self.figures())
        if self.console.is_terminal:
            self.progress.refresh()
        else:
            self.console.print(f"step {gan.step:,}/{self.total_steps:,}  {self.figures()}")
