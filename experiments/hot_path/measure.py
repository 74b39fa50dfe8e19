"""Time the choices on the training step's hot path: `python -m experiments.hot_path.measure` (20 minutes).

`--parts grid` times that part only, and results.csv keeps the other rows. On a GPU (`--device cuda`) the steps are CUDA
graphs, and the loops around them are not. The parts:

  step      the shipped step of `experiment=fast`, and the same step with one choice changed
  around    a bare loop, Lightning's Trainer, the shipped metrics, and four `self.log` calls per step instead of them,
            with networks so small that the time around the step shows
  grid      one grid of samples
"""

import argparse
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import lightning as L
import torch
from hydra.utils import instantiate
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from torch import Tensor

from dcgan.gan import GAN
from dcgan.models.layers import ChannelsLastFlatten, ChannelsLastUnflatten
from dcgan.training.callbacks.activation_stats import ActivationStats
from dcgan.training.callbacks.metrics_logger import MetricsLogger
from dcgan.training.callbacks.sample_grids import SampleGrids
from dcgan.training.context import RunContext
from dcgan.training.loggers import TensorBoard
from dcgan.training.run import build_gan
from dcgan.training.signals import SignalHandler
from experiments.bench import (
    CPU,
    RecordedStep,
    add_device_argument,
    build_standalone_gan,
    device_path,
    infinite_batches,
    print_results,
    repeat_in_turns,
    start_benchmark,
    write_results,
)
from experiments.configs import compose_config
from experiments.cuda_graphs import synchronize
from experiments.tables import Row, read_rows

HERE = Path(__file__).parent
ROUNDS = 9
STEPS = 10  # of a variant of the step, per round
LOOP_STEPS, LOOP_WARM_UP = 150, 10

Patch = Callable[[], AbstractContextManager[Any]]


def step_timer(gan: GAN, real: Tensor, patch: Patch = nullcontext) -> Callable[[], float]:
    """Return a function that times STEPS steps and returns the seconds per step."""
    step = RecordedStep(gan) if real.is_cuda else gan.training_step

    def seconds_per_step() -> float:
        with patch():
            if real.is_cuda:
                step((real, None), 0)  # records the step in the first round
                synchronize(real.device)
            started = time.perf_counter()
            for i in range(STEPS):
                step((real, None), i)
            synchronize(real.device)
            return (time.perf_counter() - started) / STEPS

    return seconds_per_step


@contextmanager
def nchw_features() -> Iterator[None]:
    """Within the context, feature maps are flattened and unflattened channel by channel."""
    with (
        mock.patch.object(ChannelsLastFlatten, "forward", lambda self, x: x.flatten(1)),
        mock.patch.object(
            ChannelsLastUnflatten, "forward", lambda self, x: x.unflatten(1, (self.channels, self.size, self.size))
        ),
    ):
        yield


def unfrozen_discriminator() -> AbstractContextManager[Any]:
    """Within the context, D is not frozen in the G update."""
    return mock.patch("dcgan.gan.frozen", nullcontext)


def measure_step(device: torch.device = CPU) -> list[Row]:
    config = compose_config("experiment=fast")
    real = torch.rand(config.data.batch_size, 1, 28, 28, device=device) * 2 - 1
    build = partial(build_standalone_gan, config, device)
    contiguous = build()
    contiguous.to(memory_format=torch.contiguous_format)
    in_place: Any = build()
    for module in in_place.modules():
        if hasattr(module, "inplace"):
            module.inplace = True
    twice: Any = build()
    forward = twice.generator.forward

    def forward_twice(z: Tensor, label: Tensor | None) -> Tensor:
        forward(z, label)
        return forward(z, label)

    twice.generator.forward = forward_twice
    foreach: Any = build()
    for optimizer in foreach.optimizers():
        optimizer.param_groups[0].update(fused=False, foreach=True)
    variants: dict[str, tuple[GAN, Patch]] = {
        "shipped": (build(), nullcontext),
        "features in NCHW order": (build(), nchw_features),
        "contiguous instead of channels_last": (contiguous, nullcontext),
        "Adam foreach instead of fused": (foreach, nullcontext),
        "activations in place": (in_place, nullcontext),
        "D not frozen in the G update": (build(), unfrozen_discriminator),
        "G's forward computed twice": (twice, nullcontext),
    }
    timers = {name: step_timer(gan, real, patch) for name, (gan, patch) in variants.items()}
    return result_rows("step", repeat_in_turns(timers, ROUNDS, warm_up_rounds=1))


class SelfLoggingGAN(GAN):
    """A GAN that logs four metrics per step through Lightning, as tutorials do."""

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        outputs = super().training_step(batch, batch_idx)
        self.log("loss_d", outputs["loss_d"])
        self.log("loss_g", outputs["loss_g"])
        self.log("d_real", outputs["real_logits"].mean())
        self.log("d_fake", outputs["fake_logits"].mean())
        return outputs


def time_trainer(
    config: DictConfig, folder: str, gan_class: type[GAN], shipped_metrics: bool, device: torch.device
) -> float:
    """Return the seconds per step of Lightning's Trainer, after a warm-up."""
    torch.manual_seed(config.seed)
    gan: Any = build_gan(config)
    gan.__class__ = gan_class
    callbacks: list[L.Callback] = [MetricsLogger(25), ActivationStats(100)] if shipped_metrics else []
    trainer = L.Trainer(
        accelerator=device.type, devices=1, max_steps=2 * LOOP_STEPS,
        logger=TensorBoardLogger(folder), callbacks=callbacks,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        log_every_n_steps=0 if shipped_metrics else 25,
    )  # fmt: skip
    started: dict[int, float] = {}

    def note_start(batch: Any, i: int) -> None:
        if gan.step in (LOOP_WARM_UP, LOOP_STEPS - 1):
            synchronize(device)
            started[gan.step] = time.perf_counter()

    gan.on_train_batch_start = note_start
    trainer.fit(gan, datamodule=instantiate(config.data))
    return (started[LOOP_STEPS - 1] - started[LOOP_WARM_UP]) / (LOOP_STEPS - LOOP_WARM_UP - 1)


def time_bare_loop(config: DictConfig, device: torch.device) -> float:
    """Return the seconds per step of a loop without a Trainer, after a warm-up."""
    batches, step = infinite_batches(config, device), build_standalone_gan(config, device).training_step
    for i in range(LOOP_WARM_UP):
        step(next(batches), i)
    synchronize(device)
    started, steps = time.perf_counter(), LOOP_STEPS - LOOP_WARM_UP - 1
    for i in range(steps):
        step(next(batches), i)
    synchronize(device)
    return (time.perf_counter() - started) / steps


def measure_overhead(device: torch.device = CPU) -> list[Row]:
    config = compose_config(
        "model.base_channels=4", "model.hidden_width=16", "data.batch_size=8", "data=digits", "cuda_graph=false"
    )
    with tempfile.TemporaryDirectory() as folder:
        timers = {
            "bare loop": partial(time_bare_loop, config, device),
            "Lightning, nothing logged": partial(time_trainer, config, folder, GAN, False, device),
            "Lightning, shipped metrics": partial(time_trainer, config, folder, GAN, True, device),
            "Lightning, four self.log a step": partial(time_trainer, config, folder, SelfLoggingGAN, False, device),
        }
        return result_rows("around", repeat_in_turns(timers, ROUNDS))


def measure_sample_grid(device: torch.device = CPU) -> list[Row]:
    gan = build_standalone_gan(compose_config("experiment=fast"), device)
    with tempfile.TemporaryDirectory() as folder:
        samples = SampleGrids([0])
        context = RunContext(Path(folder), OmegaConf.create(), {}, SignalHandler(), Console())
        logger = TensorBoard()
        logger.start(Path(folder), resumed_step=None)
        trainer = L.Trainer(accelerator=device.type, logger=logger, callbacks=[context], enable_checkpointing=False)

        def save_grid() -> float:
            started = time.perf_counter()
            samples.save(trainer, gan)
            return time.perf_counter() - started

        times = repeat_in_turns({"one grid of samples": save_grid}, ROUNDS)
        logger.finalize("success")  # its thread writes to the folder
        return result_rows("grid", times)


def result_rows(part: str, times: dict[str, list[float]]) -> list[Row]:
    """Return the median of each variant over the rounds, and its ratio to the first variant in the same round."""
    baseline = next(iter(times.values()))
    rows: list[Row] = []
    for name, seconds in times.items():
        ratios = sorted(own / base for own, base in zip(seconds, baseline, strict=True))
        quartile = len(ratios) // 4
        rows.append(
            {"part": part, "variant": name, "ms_per_step": f"{1e3 * statistics.median(seconds):.2f}"}
            | {"ratio": f"{statistics.median(ratios):.3f}"}
            | {"ratio_quartiles": f"{ratios[quartile]:.3f}-{ratios[-1 - quartile]:.3f}"}
        )
    return rows


PARTS = {"step": measure_step, "around": measure_overhead, "grid": measure_sample_grid}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    add_device_argument(parser)
    args = parser.parse_args()
    start_benchmark(device=args.device)
    path = HERE / "results.csv"
    earlier = read_rows(device_path(path, args.device), missing_ok=True)
    rows = [row for row in earlier if row["part"] not in args.parts]
    for part in args.parts:
        rows += PARTS[part](args.device)
    write_results(path, rows, args.device)
    print_results([row for part in PARTS for row in rows if row["part"] == part], args.device)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    main()
