"""Console output: a summary at the start, a progress bar, and the results' paths at the end."""

import sys
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from dcgan.common.cpu import CoreUsage, computes_bf16, thread_advice
from dcgan.gan import GAN
from dcgan.models.layers import count_parameters
from dcgan.training.callbacks.metrics_logger import MetricsLogger
from dcgan.training.callbacks.shared import uses_tf32
from dcgan.training.context import find_callback, run_context
from dcgan.training.cuda_graph import CUDAGraphGAN

REFRESH_SECONDS = 0.25
LINE_SECONDS = 10  # between lines, which replace the bar if the output is not a terminal

# on a CPU: for a precision, and whether the CPU computes with bfloat16
PRECISION_ADVICE = {
    ("32-true", True): "this CPU trains faster with trainer.precision=auto: bf16-mixed",
    ("bf16-mixed", False): "this CPU has no bfloat16: trainer.precision=32-true is faster here",
}


def shorten_path(path: Path) -> str:
    """Return the path relative to the working directory, if it is inside."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def print_summary(trainer: L.Trainer, gan: GAN, usage: CoreUsage) -> None:
    """Print the networks, the data, the device, the run folder, and advice if other programs use the cores."""
    context = run_context(trainer)
    choices = context.choices
    on_cpu = trainer.strategy.root_device.type == "cpu"
    tf32 = " with TF32" if uses_tf32(trainer) else ""
    graph = ", CUDA graph" if isinstance(gan, CUDAGraphGAN) else ""
    lines = {
        "generator": f"{choices['model']}, {count_parameters(gan.generator):,} parameters",
        "discriminator": f"{choices['discriminator']}, {count_parameters(gan.discriminator):,} parameters",
        "training": f"{choices['loss']} loss on {choices['data']}, seed {gan.seed}",
        "augmentation": gan.augmentation.description,
        "device": f"{trainer.strategy.root_device.type} x {trainer.world_size}, {trainer.precision}{tf32}{graph}",
        "precision": PRECISION_ADVICE.get((trainer.precision, computes_bf16()), "") if on_cpu else "",
        "run folder": shorten_path(context.run_dir),
        "threads": thread_advice(torch.get_num_threads(), usage) if on_cpu else "",
    }
    for name, value in lines.items():
        if value:
            context.console.print(f"{name:<14} {value}", highlight=False)


def print_outcome(console: Console, run_dir: Path, step: int, summary: dict[str, Any]) -> None:
    """Print the number of steps, the metrics, the time, the last samples, and the command that opens TensorBoard."""
    tensorboard = Path(sys.executable).with_name("tensorboard")
    command = shorten_path(tensorboard) if tensorboard.exists() else "tensorboard"
    console.print(f"done after {step} steps")
    metrics = summary.get("metrics", {})
    shown = [f"{name} {metrics[name]:.4g}" for name in metrics if is_shown(name) and metrics[name] is not None]
    if shown:
        console.print(f"result       {', '.join(shown)}", highlight=False)
    if "wall_seconds" in summary:
        seconds = f"{summary['wall_seconds']:.0f} s of training, {summary['metrics_seconds']:.0f} s of measurements"
        console.print(f"time         {seconds}", highlight=False)
    samples = sorted((run_dir / "samples").glob("step_*.png"))
    if samples:
        console.print(f"samples      {shorten_path(samples[-1])}")
    console.print(f"TensorBoard  {shorten_path(run_dir)}; open it with")
    console.print(f"             {command} --logdir {shorten_path(run_dir)}")


def is_shown(metric: str) -> bool:
    """Return True for the metrics that are printed at the end of a run, in the features of each extractor."""
    return metric.startswith(("frechet", "coverage")) or metric in ("classes", "cb2")


class ProgressBar(L.Callback):
    """Show steps, losses, steps and images per second and the remaining time, and when the run measures.

    If the output is not a terminal, a line every 10 seconds replaces the bar.
    """

    def setup(self, trainer: L.Trainer, gan: GAN, stage: str) -> None:
        self.metrics_logger = find_callback(trainer, MetricsLogger)

    def on_train_start(self, trainer: L.Trainer, gan: GAN) -> None:
        self.console = run_context(trainer).console
        self.progress = Progress(
            TextColumn("step {task.completed:,.0f}/{task.total:,.0f}"),
            BarColumn(),
            TextColumn("{task.fields[metrics]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            auto_refresh=False,
            speed_estimate_period=60,
        )
        self.images_per_step = trainer.datamodule.images_per_step * trainer.world_size
        self.total_steps = gan.total_steps
        self.task = self.progress.add_task("", total=self.total_steps, completed=gan.step, metrics="")
        self.refreshed_at, self.shown_step = time.monotonic(), -1
        if self.console.is_terminal and trainer.is_global_zero:
            self.progress.start()
            run_context(trainer).show_activity = self.show_activity

    def on_train_batch_end(self, trainer: L.Trainer, gan: GAN, outputs: Any, batch: Tensor, batch_idx: int) -> None:
        interval = REFRESH_SECONDS if self.console.is_terminal else LINE_SECONDS
        if time.monotonic() - self.refreshed_at >= interval:
            self.refresh(gan)

    def is_due(self, step: int) -> bool:
        return False  # the clock decides, whenever another callback is due

    def on_train_end(self, trainer: L.Trainer, gan: GAN) -> None:
        if self.shown_step != gan.step or self.console.is_terminal:  # do not print the same line twice
            self.refresh(gan)
        self.progress.stop()

    def on_exception(self, trainer: L.Trainer, gan: GAN, exception: BaseException) -> None:
        if hasattr(self, "progress"):  # the training has started
            self.progress.stop()

    def show_activity(self, activity: str) -> None:
        """Show what the run does in place of the losses."""
        self.progress.update(self.task, metrics=activity or self.format_metrics())
        self.progress.refresh()

    def format_metrics(self) -> str:
        """Return the losses and the speed of the last row of metrics, "" if there is none yet."""
        latest = self.metrics_logger.latest
        if not latest:
            return ""
        images = latest["train/images_per_second"]
        steps = images / self.images_per_step
        losses = f"loss_d {latest['train/loss_d']:.3f}  loss_g {latest['train/loss_g']:.3f}"
        return f"{losses}  {steps:.1f} steps/s  {images:,.0f} images/s"

    @rank_zero_only
    def refresh(self, gan: GAN) -> None:
        """Update the bar, or print a line."""
        self.refreshed_at, self.shown_step = time.monotonic(), gan.step
        self.progress.update(self.task, completed=gan.step, metrics=self.format_metrics())
        if self.console.is_terminal:
            self.progress.refresh()
        else:
            self.console.print(f"step {gan.step:,}/{self.total_steps:,}  {self.format_metrics()}")
