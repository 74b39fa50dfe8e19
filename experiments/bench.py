"""What the benchmarks share: a configuration's training without a Trainer, its judge, and how results are written.

Run them from the root of the repository: `python -m experiments.<name>.<script>`.
"""

import platform
import statistics
import time
from collections.abc import Callable, Iterator
from functools import cache
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
from experiments import tables
from experiments.composing import configured


def begin(threads: int | None = None) -> None:
    """What a benchmark does first: MKL and memory as a training has them, and a look at the machine and the commit.

    threads: of torch; None: as many as it takes.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    machine()


def bare(config: DictConfig) -> GAN:
    """The networks of a configuration with their optimizers: `training_step` then works without a Trainer."""
    torch.manual_seed(config.seed)
    gan: Any = build_gan(config)
    optimizers = gan.configure_optimizers()
    gan.optimizers = lambda: optimizers
    gan.manual_backward = lambda loss: loss.backward()
    return gan


def endless(config: DictConfig) -> Iterator[tuple[Tensor, Tensor | None]]:
    """The training's batches, epoch after epoch."""
    data = instantiate(config.data)
    data.prepare_data()
    data.setup("fit")
    loader, epoch = data.train_dataloader(), 0
    while True:
        loader.sampler.set_epoch(epoch)
        yield from loader
        epoch += 1


def speeds(configs: dict[Any, DictConfig], rounds: int = 5, seconds: float = 2.0) -> list[dict[str, Any]]:
    """Images per second of the training step alone, a row an arm: median, lowest and highest of so many rounds in which
    the arms take turns of so many seconds, behind one to warm up."""
    arms: dict[Any, Any] = {name: (bare(config).training_step, endless(config), []) for name, config in configs.items()}
    for i in range(rounds + 1):
        for name, (step, batches, found) in arms.items():
            started, steps = time.perf_counter(), 0
            while steps == 0 or time.perf_counter() - started < seconds:
                step(next(batches), steps)
                steps += 1
            if i:
                found.append(configs[name].data.batch_size * steps / (time.perf_counter() - started))
    return [
        {"arm": name, "images_per_second": f"{statistics.median(found):.1f}"}
        | {"lowest": f"{min(found):.1f}", "highest": f"{max(found):.1f}"}
        for name, (*_, found) in arms.items()
    ]


class Clocked:
    """A training that goes on by its own clock: `seconds` are those of its steps so far."""

    def __init__(self, step: Callable[[], object]) -> None:
        self.step, self.seconds = step, 0.0

    def train(self, until: float) -> None:
        started = time.perf_counter() - self.seconds
        while time.perf_counter() - started < until:
            self.step()
        self.seconds = time.perf_counter() - started


class Referee:
    """The Frechet distance of n drawn images to MNIST's test images, by the shipped judge."""

    def __init__(self, n: int) -> None:
        self.n, self.real = n, load_real_statistics(instantiate(configured().data), torch.device("cpu"))
        assert len(self.real.test)  # computed now, not at the first measurement

    def __call__(self, sample: Callable[[Tensor], Tensor], generator: Any, seed: int) -> float:
        z = sample_latents(generator, self.n, seed)
        images = torch.cat([sample(part) for part in z.split(500)])
        return FrechetDistance()(self.real.extract_features(images), self.real)["frechet"]


@cache
def machine() -> dict[str, Any]:
    """What made the results: the commit is that of the start, "-dirty" where files differ from it."""
    return {
        "hardware": processor_name(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit(),
    }


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """The rows as a CSV file, each with the machine that made it; a row that names one keeps it."""
    tables.write(path, [row | {name: fact for name, fact in machine().items() if name not in row} for row in rows])


def show(rows: list[dict[str, Any]]) -> None:
    """The rows as a Markdown table, and the machine that made them."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    for cells in (columns, ["---"] * len(columns), *([str(row.get(name, "")) for name in columns] for row in rows)):
        print(f"| {' | '.join(cells)} |")
    print(", ".join(f"{name}: {fact}" for name, fact in machine().items()))
