"""Shared parts of the benchmarks: a training without a Trainer, timing, the Frechet distance, and the results.

Run a benchmark from the root of the repository: `python -m experiments.<name>.<script>`. With `--device cuda` it runs
on a GPU, where the training step is a CUDA graph, and writes files of its own: results_cuda.csv, not results.csv.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor

from dcgan.common.device import resolve_device
from dcgan.common.provenance import commit, processor_name
from dcgan.gan import GAN
from dcgan.metrics.compute import load_real_statistics
from dcgan.metrics.distances import FrechetDistance
from dcgan.metrics.judge import JudgeFeatures
from dcgan.sampling.trained_generator import sample_latents
from dcgan.training.run import build_gan, choose_precision
from experiments.configs import compose_config
from experiments.cuda_graphs import record_graph, synchronize
from experiments.tables import Row, write_rows

CPU = torch.device("cpu")
Batch = tuple[Tensor, Tensor | None]  # images and labels
Batches = Iterator[Batch]
Step = Callable[[Batch, int], object]  # of a training: called with a batch and its number


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--device` to a benchmark's arguments."""

    def parse_device(text: str) -> torch.device:
        try:
            return resolve_device(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    parser.add_argument("--device", type=parse_device, default=CPU, help="cpu (the default) or cuda")


def device_path(path: Path, device: torch.device) -> Path:
    """Return the path of a benchmark's file, with _cuda in its name if it is of a GPU."""
    return path if device.type == "cpu" else path.with_stem(f"{path.stem}_{device.type}")


def start_benchmark(threads: int | None = None, device: torch.device = CPU) -> None:
    """Set the number of torch's threads, unless it is None, and record the machine and the commit."""
    if threads is not None:
        torch.set_num_threads(threads)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32, as in dcgan.train
    machine_info(device)


class StandaloneGAN(GAN):
    """A GAN whose `training_step` works without a Trainer. Made of a GAN by `build_standalone_gan`."""

    max_steps: int | None

    def start(self, max_steps: int | None) -> None:
        """Build the optimizers, and the schedulers of a run of `max_steps`."""
        self.max_steps = max_steps
        self.own_optimizers, self.own_schedulers = self.configure_optimizers()

    @property
    def total_steps(self) -> int:
        assert self.max_steps is not None, "a scheduler needs max_steps"
        return self.max_steps

    def optimizers(self, use_pl_optimizer: bool = True) -> Any:
        return self.own_optimizers

    def lr_schedulers(self) -> Any:
        return self.own_schedulers

    def manual_backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        loss.backward()


def build_standalone_gan(config: DictConfig, device: torch.device = CPU) -> StandaloneGAN:
    """Build the networks, optimizers and schedulers of a config. Their `training_step` works without a Trainer."""
    torch.manual_seed(config.seed)
    config = config.copy()
    config.cuda_graph = False  # which needs a Trainer
    gan: Any = build_gan(config).to(device)
    gan.__class__ = StandaloneGAN
    gan.start(config.max_steps)
    return gan


class RecordedStep:
    """The training step of a standalone GAN as a CUDA graph, which the first call records.

    Args:
        gan: On a GPU.
    """

    def __init__(self, gan: GAN) -> None:
        self.gan = gan
        self.replay: Callable[[], None] | None = None
        self.static_batch: Batch = torch.empty(0), None
        self.ema_weight = torch.zeros((), device=gan.device)
        optimizers: Any = gan.optimizers()
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["capturable"] = True

    def __call__(self, batch: Batch, batch_idx: int) -> None:
        if self.replay is None:
            images, labels = batch
            self.static_batch = images.clone(), None if labels is None else labels.clone()
            self.replay = record_graph(self.update, self.gan.device)
        for static, value in zip(self.static_batch, batch, strict=True):
            if static is not None and value is not None:
                static.copy_(value)
        if self.gan.ema is not None:
            self.ema_weight.fill_(self.gan.ema.weight(self.gan.step))
        with self.gan.count_step():
            self.replay()

    def update(self) -> None:
        self.gan.update(*self.static_batch)
        if self.gan.ema is not None:
            self.gan.ema.update(self.gan.generator, self.ema_weight)


def build_step(config: DictConfig, device: torch.device = CPU) -> tuple[GAN, Step]:
    """Build a standalone GAN, and return it with its training step: on a GPU, a CUDA graph in float32."""
    gan = build_standalone_gan(config, device)
    if device.type == "cuda":
        return gan, RecordedStep(gan)
    bf16 = choose_precision(config.trainer) == "bf16-mixed"
    # as Lightning's plugin for bf16-mixed
    return gan, torch.autocast("cpu", torch.bfloat16, enabled=bf16, cache_enabled=False)(gan.training_step)


def step_timer(step: Step, batches: Batches) -> Callable[[], float]:
    """Return a function that trains for a step and returns its seconds, without those of its batch."""

    def seconds() -> float:
        batch = next(batches)
        started = time.perf_counter()
        step(batch, 0)
        return time.perf_counter() - started

    return seconds


def infinite_batches(config: DictConfig, device: torch.device = CPU) -> Batches:
    """Yield the training's batches, epoch after epoch."""
    data = instantiate(config.data)
    data.prepare_data()
    data.setup("fit")
    data.train_dataloader()  # which sets the following two
    data.loader_images = data.loader_images.to(device)
    data.loader_labels = None if data.loader_labels is None else data.loader_labels.to(device)
    sampler, epoch = data.batch_sampler(data.n_images, device), 0
    while True:
        sampler.set_epoch(epoch)
        yield from (data.on_after_batch_transfer(index, 0) for index in sampler)
        epoch += 1


def repeat_in_turns(
    variants: Mapping[Any, Callable[[], float]], rounds: int, warm_up_rounds: int = 0
) -> dict[Any, list[float]]:
    """Call each variant once per round and return its values, without those of the warm-up.

    The speed of a shared machine changes within minutes. Variants that take turns meet the same changes.
    """
    values: dict[Any, list[float]] = {name: [] for name in variants}
    for i in range(warm_up_rounds + rounds):
        for name, variant in variants.items():
            value = variant()
            if i >= warm_up_rounds:
                values[name].append(value)
    return values


def train_for(step: Step, batches: Batches, batch_size: int, seconds: float, device: torch.device = CPU) -> float:
    """Train for `seconds`, at least one step, and return the images per second."""
    started, steps = time.perf_counter(), 0
    while steps == 0 or time.perf_counter() - started < seconds:
        step(next(batches), steps)
        steps += 1
    synchronize(device)
    return batch_size * steps / (time.perf_counter() - started)


def measure_speeds(
    configs: Mapping[Any, DictConfig], rounds: int = 5, seconds: float = 2.0, device: torch.device = CPU
) -> list[Row]:
    """Return the images per second of the training step alone: median, lowest and highest, a row per variant.

    Args:
        configs: The config of each variant.
        rounds: Turns of each variant, after a warm-up turn.
        seconds: Length of a turn.
        device: Where the networks train.
    """
    turns = {
        name: partial(
            train_for,
            build_step(config, device)[1],
            infinite_batches(config, device),
            config.data.batch_size,
            seconds,
            device,
        )
        for name, config in configs.items()
    }
    return [
        {"variant": name, "images_per_second": f"{statistics.median(speeds):.1f}"}
        | {"lowest": f"{min(speeds):.1f}", "highest": f"{max(speeds):.1f}"}
        for name, speeds in repeat_in_turns(turns, rounds, warm_up_rounds=1).items()
    ]


class TimedTraining:
    """A training that counts the time of its own steps, so that several trainings can take turns.

    Args:
        step: Trains for one step.
        device: Where it trains.
    """

    def __init__(self, step: Callable[[], object], device: torch.device = CPU) -> None:
        self.step, self.device, self.seconds = step, device, 0.0

    def train(self, until: float) -> None:
        """Train until `seconds`, the total time of all steps, reaches `until`."""
        started = time.perf_counter() - self.seconds
        while time.perf_counter() - started < until:
            self.step()
        synchronize(self.device)
        self.seconds = time.perf_counter() - started


class FrechetEvaluator:
    """The Frechet distance between n samples and the test images, with the shipped judge on the device.

    Args:
        n: Number of samples.
        device: Where the distance is computed.
        data: The config of the data; None: MNIST.
    """

    def __init__(self, n: int, device: torch.device = CPU, data: DictConfig | None = None) -> None:
        self.n, self.device = n, device
        data = compose_config().data if data is None else data
        self.real = load_real_statistics(instantiate(data), {"judge": JudgeFeatures}, device)
        assert len(self.real.test)  # compute its features now, not during the first evaluation

    def __call__(self, sample: Callable[[Tensor], Tensor], generator: Any, seed: int) -> float:
        """Return the distance.

        Args:
            sample: Maps latent vectors to uint8 images.
            generator: Has a `sample_z` for the latent vectors.
            seed: Seed of the latent vectors.
        """
        z = sample_latents(generator, self.n, seed).to(self.device)
        images = torch.cat([sample(part) for part in z.split(500)])
        return FrechetDistance()(self.real.extract_features(images), self.real)["frechet"]


@cache
def machine_info(device: torch.device = CPU) -> Row:
    """Return the machine, the versions and the commit at the first call, with "-dirty" if files had changed."""
    return {
        "hardware": torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit(),
    }


def write_results(path: Path, rows: list[Row], device: torch.device = CPU) -> None:
    """Write the rows with the machine's columns to `device_path(path)`. Rows that have such a column keep its value."""
    machine = machine_info(device)
    rows = [row | {name: value for name, value in machine.items() if name not in row} for row in rows]
    write_rows(device_path(path, device), rows)


def print_results(rows: list[Row], device: torch.device = CPU) -> None:
    """Print the rows as a Markdown table, and the machine."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    for cells in (columns, ["---"] * len(columns), *([str(row.get(name, "")) for name in columns] for row in rows)):
        print(f"| {' | '.join(cells)} |")
    print(", ".join(f"{name}: {value}" for name, value in machine_info(device).items()))
