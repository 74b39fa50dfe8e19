"""Measure the 1-nearest-neighbor error of generators against the number of samples, up to a million.

`python -m experiments.nearest_neighbors.errors CHECKPOINT ... [--n 1000000]` (MNIST in data/; six minutes per
generator on two free cores) adds rows to errors.csv and draws errors.png. The checkpoints, or exports, are of
conditional generators.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

import torch
from hydra.utils import instantiate
from matplotlib.figure import Figure

from dcgan.evaluation.probes import generate_labelled, nearest_neighbor_errors
from dcgan.metrics.nearest_neighbors import IMAGE_BLOCK_SIZE
from dcgan.metrics.real_images import RealStatistics
from dcgan.sampling.trained_generator import load_generator
from experiments.bench import add_device_argument, start_benchmark, write_results
from experiments.configs import compose_config
from experiments.tables import Row, read_rows

HERE = Path(__file__).parent
PAPER_ERROR = 2.98  # percent, with 50,000 samples (DCGAN paper, section 8.1)
REAL = "real training images"


def collect(name: str, errors: Iterable[tuple[int, float]]) -> list[Row]:
    """Return a row per block of images."""
    rows: list[Row] = []
    for n, error in errors:
        rows.append({"images": name, "n": n, "error_percent": round(100 * error, 2)})
        print(rows[-1], flush=True)
    return rows


def plot(rows: list[Row]) -> None:
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for name in dict.fromkeys(row["images"] for row in rows):
        points = [(int(row["n"]), float(row["error_percent"])) for row in rows if row["images"] == name]
        axes.plot(*zip(*points, strict=True), label=name, marker=".", markersize=3)
    axes.axhline(PAPER_ERROR, color="gray", ls=":", label="DCGAN paper, 50,000 samples")
    axes.set(xscale="log", xlabel="images", ylabel="1-nearest-neighbor error, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(HERE / "errors.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", type=Path, nargs="*")
    parser.add_argument("--n", type=int, default=1_000_000)
    add_device_argument(parser)
    args = parser.parse_args()
    start_benchmark(device=args.device)
    data = instantiate(compose_config().data)
    data.prepare_data()
    real = RealStatistics(data, [], None, args.device)
    indices = torch.randperm(len(real.train_images), generator=torch.Generator().manual_seed(0))
    images, labels = real.train_images[indices], real.require_labels(train=True).cpu()[indices]
    new = collect(REAL, nearest_neighbor_errors(images.split(IMAGE_BLOCK_SIZE), labels, real))
    for path in args.checkpoints:
        generator = load_generator(path, args.device.type)
        name = f"{generator.facts['choices'].get('recipe') or 'generator'}, seed {generator.facts['seed']}"
        new += collect(name, nearest_neighbor_errors(*generate_labelled(generator, args.n, 0), real))
    names = {row["images"] for row in new}
    kept = [row for row in read_rows(HERE / "errors.csv", missing_ok=True) if row["images"] not in names]
    write_results(HERE / "errors.csv", [*kept, *new])
    plot(read_rows(HERE / "errors.csv"))


if __name__ == "__main__":
    main()
