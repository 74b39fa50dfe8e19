"""Compare judges: `python -m experiments.judges.measure` (MNIST in data/, the files below; half an hour).

The judges are the shipped one and those in runs/judges, trained with other seeds and widths:

  python -m dcgan.metrics.train_judge out=runs/judges/seed1_width32.safetensors seed=1

`--generators CHECKPOINT ...` are of MNIST: distances.csv has their Frechet distance and coverage in the features of
each judge, their distance in those of random_conv, and their sliced Wasserstein distance; correlations.csv has
Spearman's rank correlation of each pair of columns. `--stacked CHECKPOINT ...` are of stacked MNIST: stacked.csv has
modes and KL divergence by each judge.
"""

import argparse
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import torch
from hydra.utils import instantiate
from jaxtyping import UInt8
from scipy.stats import spearmanr
from torch import Tensor

from dcgan.data.datamodule import BaseDataModule
from dcgan.metrics.base import Metric
from dcgan.metrics.classes import ClassBalance, Modes
from dcgan.metrics.compute import measure
from dcgan.metrics.distances import FrechetDistance
from dcgan.metrics.judge import Judge, judge_path, read_judge
from dcgan.metrics.prdc import Coverage
from dcgan.metrics.random_conv import RandomConv
from dcgan.metrics.real_images import RealStatistics, random_indices
from dcgan.metrics.sliced_wasserstein import SlicedWasserstein
from dcgan.sampling.trained_generator import load_generator
from experiments.bench import CPU, start_benchmark, write_results
from experiments.configs import compose_config
from experiments.tables import Row

HERE = Path(__file__).parent
JUDGES = Path("runs/judges")
MNIST_SAMPLES, STACKED_SAMPLES = 10_000, 26_000
REAL = "real training images"


def load_judges(by_channel: bool) -> dict[str, Judge]:
    """Return the shipped judge and those in runs/judges, by the names of their files."""
    paths = {"shipped": judge_path("MNIST")} | {path.stem: path for path in sorted(JUDGES.glob("*.safetensors"))}
    return {name: read_judge(path, CPU, by_channel) for name, path in paths.items()}


def load_data(option: str) -> BaseDataModule:
    data = instantiate(compose_config(f"data={option}").data)
    data.prepare_data()
    return data


def image_sets(checkpoints: list[Path], real: RealStatistics, n: int) -> Iterator[tuple[str, UInt8[Tensor, "n c h w"]]]:
    """Return as many real images as samples, and the samples of each generator."""
    yield REAL, real.data.resize(real.train_images[random_indices(len(real.train_images), n)])
    for path in checkpoints:
        generator = load_generator(path, "cpu")
        yield name_of(path), torch.cat(list(generator.generate(generator.z(n, 0), generator.labels(n, 0))))


def name_of(path: Path) -> str:
    """Return the name of the run that a checkpoint or an export belongs to."""
    if path.parent == Path():
        return str(path)  # of a pretrained model
    return (path.parent.parent if path.parent.name == "checkpoints" else path.parent).name


def compare_distances(checkpoints: list[Path]) -> list[Row]:
    """Return a row per generator, with its distances in each feature space."""
    data = load_data("mnist")
    judges = load_judges(by_channel=False)
    spaces = {name: RealStatistics(data, [judge], judge, CPU) for name, judge in judges.items()}
    spaces["random_conv"] = RealStatistics(data, [RandomConv(data, CPU)], None, CPU)
    metrics: dict[str, Metric] = {"frechet": FrechetDistance(), "coverage": Coverage(k=5)}
    rows: list[Row] = []
    for generator, images in image_sets(checkpoints, spaces["shipped"], MNIST_SAMPLES):
        row: Row = {"generator": generator}
        for name, real in spaces.items():
            values = measure(metrics, real.extract_features(images), real)
            for metric, value in values.items():
                row[f"{metric.removesuffix('_random_conv')} {name}"] = value
        real = spaces["shipped"]
        row["swd"] = measure({"swd": SlicedWasserstein()}, real.without_features(images), real)["swd"]
        rows.append(row)
        print(row, flush=True)
        write_results(HERE / "distances.csv", rows)
    return rows


def correlate(rows: list[Row]) -> list[Row]:
    """Return Spearman's rank correlation over the generators, for each pair of distances and each pair of coverages."""
    generators = [row for row in rows if row["generator"] != REAL]
    kinds = {"distance": ("frechet ", "swd"), "coverage": ("coverage ",)}
    result: list[Row] = []
    for kind, prefixes in kinds.items():
        columns = [name for name in generators[0] if name.startswith(prefixes)]
        for a, b in combinations(columns, 2):
            ranks = spearmanr([float(row[a]) for row in generators], [float(row[b]) for row in generators])
            result.append({"kind": kind, "one": a, "other": b, "spearman": round(float(ranks.statistic), 4)})
    return result


def compare_modes(checkpoints: list[Path]) -> list[Row]:
    """Return a row per generator and judge, with the modes and the KL divergence of the classes."""
    data = load_data("stacked_mnist")
    judges = load_judges(by_channel=True)
    reals = {name: RealStatistics(data, [judge], judge, CPU) for name, judge in judges.items()}
    metrics: dict[str, Metric] = {"modes": Modes(), "balance": ClassBalance(confidence=0.9)}
    rows: list[Row] = []
    for generator, images in image_sets(checkpoints, reals["shipped"], STACKED_SAMPLES):
        for name, real in reals.items():
            values = measure(metrics, real.extract_features(images), real)
            rows.append({"generator": generator, "judge": name, "accuracy": judges[name].facts["accuracy"]} | values)
            print(rows[-1], flush=True)
        write_results(HERE / "stacked.csv", rows)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generators", type=Path, nargs="*", default=[])
    parser.add_argument("--stacked", type=Path, nargs="*", default=[])
    args = parser.parse_args()
    start_benchmark(threads=1)
    if args.stacked:
        compare_modes(args.stacked)
    if args.generators:
        write_results(HERE / "correlations.csv", correlate(compare_distances(args.generators)))


if __name__ == "__main__":
    main()
