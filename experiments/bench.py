"""Shared parts of the benchmarks: a training without a Trainer, timing, the Frechet distance, and the results.

Run a benchmark from the root of the repository: `python -m experiments.<name>.<script>`.
"""

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

from dcgan.common.provenance import commit, processor_name
from dcgan.gan import GAN
from dcgan.metrics.compute import load_real_statistics
from dcgan.metrics.distances import FrechetDistance
from dcgan.sampling.trained_generator import sample_latents
from dcgan.training.run import build_gan
from experiments.configs import compose_config
from experiments.tables import Row, write_rows

CPU = torch.device("cpu")
Batches = Iterator[tuple[Tensor, Tensor | None]]  # images and labels


def start_benchmark(threads: int | None = None) -> None:
    """Set the number of torch's threads, unless it is None, and record the machine and the commit."""
    if threads is not None:
        torch.set_num_threads(threads)
    machine_info()


def build_standalone_gan(config: DictConfig, device: torch.device = CPU) -> GAN:
    """Build the networks and optimizers of a config. Their `training_step` works without a Trainer."""
    torch.manual_seed(config.seed)
    config = config.copy()
    config.cuda_graph = False  # which needs a Trainer
    gan: Any = build_gan(config).to(device)
    optimizers, _ = gan.configure_optimizers()
    gan.optimizers = lambda: optimizers
    gan.manual_backward = lambda loss: loss.backward()
    return gan


def infinite_batches(config: DictConfig) -> Batches:
    """Yield the training's batches, epoch after epoch."""
    data = instantiate(config.data)
    data.prepare_data()
    data.setup("fit")
    loader, epoch = data.train_dataloader(), 0
    while True:
        loader.sampler.set_epoch(epoch)
        yield from loader
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


def train_for(step: Callable[..., object], batches: Batches, batch_size: int, seconds: float) -> float:
    """Train for `seconds`, at least one step, and return the images per second."""
    started, steps = time.perf_counter(), 0
    while steps == 0 or time.perf_counter() - started < seconds:
        step(next(batches), steps)
        steps += 1
    return batch_size * steps / (time.perf_counter() - started)


def measure_speeds(configs: Mapping[Any, DictConfig], rounds: int = 5, seconds: float = 2.0) -> list[Row]:
    """Return the images per second of the training step alone: median, lowest and highest, a row per variant.

    Args:
        configs: The config of each variant.
        rounds: Turns of each variant, after a warm-up turn.
        seconds: Length of a turn.
    """
    turns = {
        name: partial(
            train_for,
            build_standalone_gan(config).training_step,
            infinite_batches(config),
            config.data.batch_size,
            seconds,
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
    """

    def __init__(self, step: Callable[[], object]) -> None:
        self.step, self.seconds = step, 0.0

    def train(self, until: float) -> None:
        """Train until `seconds`, the total time of all steps, reaches `until`."""
        started = time.perf_counter() - self.seconds
        while time.perf_counter() - started < until:
            self.step()
        self.seconds = time.perf_counter() - started


class FrechetEvaluator:
    """The Frechet distance between n samples and MNIST's test images, with the shipped judge."""

    def __init__(self, n: int) -> None:
        self.n, self.real = n, load_real_statistics(instantiate(compose_config().data), torch.device("cpu"))
        assert len(self.real.test)  # compute its features now, not during the first evaluation

    def __call__(self, sample: Callable[[Tensor], Tensor], generator: Any, seed: int) -> float:
        """Return the distance.

        Args:
            sample: Maps latent vectors to uint8 images.
            generator: Has a `sample_z` for the latent vectors.
            seed: Seed of the latent vectors.
        """
        z = sample_latents(generator, self.n, seed)
        images = torch.cat([sample(part) for part in z.split(500)])
        return FrechetDistance()(self.real.extract_features(images), self.real)["frechet"]


@cache
def machine_info() -> Row:
    """Return the machine, the versions and the commit at the first call, with "-dirty" if files had changed."""
    return {
        "hardware": processor_name(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit(),
    }


def write_results(path: Path, rows: list[Row]) -> None:
    """Write the rows with the machine's columns. Rows that have such a column keep its value."""
    write_rows(path, [row | {name: value for name, value in machine_info().items() if name not in row} for row in rows])


def print_results(rows: list[Row]) -> None:
    """Print the rows as a Markdown table, and the machine."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    for cells in (columns, ["---"] * len(columns), *([str(row.get(name, "")) for name in columns] for row in rows)):
        print(f"| {' | '.join(cells)} |")
    print(", ".join(f"{name}: {value}" for name, value in machine_info().items()))
