"""Plot curves.csv as curves.png and print the tables of the README: `python -m experiments.time_to_quality.plot`.

Also write side_by_side.png, the samples after two minutes, if the race has left its pictures. `cuda` as an argument
plots the race on a GPU: curves_cuda.csv as curves_cuda.png.
"""

import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from experiments.plots import plot_images
from experiments.tables import Row, read_rows
from experiments.time_to_quality.race import PICTURE_SECONDS

HERE = Path(__file__).parent
RECORDED = (4, 2, 1.5, 1.0, 0.7)  # Frechet distances
TABLE_SECONDS = (30, 60, 120, 240, 600, 1800)
GPU_TABLE_SECONDS = (1, 2, 5, 10, 30, 60)

Curve = list[tuple[float, float]]  # seconds of training, Frechet distance


def curves_by_variant(rows: list[Row]) -> dict[str, dict[str, Curve]]:
    """Return the curve of each variant and seed, sorted by the seconds."""
    curves: dict[str, dict[str, Curve]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        curves[row["variant"]][row["seed"]].append((float(row["seconds"]), float(row["frechet"])))
    return {variant: {seed: sorted(curve) for seed, curve in seeds.items()} for variant, seeds in curves.items()}


def plot_distances(curves: dict[str, dict[str, Curve]], title: str, path: Path) -> None:
    """Plot the distance against the seconds, a color per variant and a line per seed."""
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.subplots()
    for i, (name, seeds) in enumerate(curves.items()):
        for j, curve in enumerate(seeds.values()):
            label = f"{name} ({len(seeds)} seed{'s' if len(seeds) > 1 else ''})" if j == 0 else None
            axes.plot(*zip(*curve, strict=True), color=f"C{i}", lw=1.2, alpha=0.8, label=label)
    ticks = (1, 2, 5, 10, 20, 30, 60, 120, 240, 600, 1200, 1800)
    axes.set(xscale="log", yscale="log", xlabel="seconds of training", ylabel="Frechet distance (shipped judge)")
    limits = axes.get_xlim()
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_xlim(limits)
    values = (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)
    axes.set_yticks(values, [str(value) for value in values])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    axes.set_title(title, fontsize=10)
    figure.savefig(path, dpi=120)


def seconds_to(distance: float, curve: Curve) -> float:
    """Return the seconds at the first measurement that is not above the distance; infinity if there is none."""
    return next((seconds for seconds, frechet in curve if frechet <= distance), math.inf)


def print_table(curves: dict[str, dict[str, Curve]], cells: dict[str, Callable[[list[Curve]], str]]) -> None:
    """Print a row per variant. Each title has a function from the curves of a variant's seeds to its cell."""
    print("| recipe | seeds |", " | ".join(cells), "|")
    print("| --- | --- |", " | ".join("---" for _ in cells), "|")
    for variant, seeds in curves.items():
        row = [cell(list(seeds.values())) for cell in cells.values()]
        print(f"| {variant} | {len(seeds)} |", " | ".join(row), "|")


def record(curves: list[Curve], distance: float) -> str:
    """Return the median of the seconds to the distance, their range, and how many seeds have reached it if not all."""
    times = sorted(seconds_to(distance, curve) for curve in curves)
    reached = [seconds for seconds in times if seconds < math.inf]
    median = statistics.median_low(times)
    cell = f"{median:.0f} s ({reached[0]:.0f} to {reached[-1]:.0f})" if median < math.inf else ""
    return cell if len(reached) in (0, len(times)) else f"{cell} {len(reached)} of {len(times)}".strip()


def mean_distance(curves: list[Curve], seconds: int) -> str:
    """Return the mean distance and its range after these seconds, within 5 %."""
    values = [frechet for curve in curves for s, frechet in curve if abs(s - seconds) < 0.05 * seconds]
    spread = f" ({min(values):.2f} to {max(values):.2f}; n = {len(values)})" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2f}{spread}" if values else ""


def print_records(curves: dict[str, dict[str, Curve]]) -> None:
    print_table(curves, {f"{distance:g}": partial(record, distance=distance) for distance in RECORDED})


def print_distances(curves: dict[str, dict[str, Curve]], columns: Sequence[int]) -> None:
    print_table(curves, {f"{seconds} s": partial(mean_distance, seconds=seconds) for seconds in columns})


def main() -> None:
    on_gpu = sys.argv[1:] == ["cuda"]
    suffix = "_cuda" if on_gpu else ""
    rows = read_rows(HERE / f"curves{suffix}.csv")
    curves = curves_by_variant(rows)
    pictures = {v: path for v in curves for path in sorted(HERE.glob(f"{v}_[0-9]*_{PICTURE_SECONDS}s{suffix}.png"))}
    if pictures:
        plot_images(pictures, HERE / f"side_by_side{suffix}.png")
    machine = rows[0]["hardware"] if on_gpu else f"{rows[0]['hardware']}, {rows[0]['threads']} threads"
    plot_distances(curves, f"MNIST, {machine}", HERE / f"curves{suffix}.png")
    print_records(curves)
    print()
    print_distances(curves, GPU_TABLE_SECONDS if on_gpu else TABLE_SECONDS)


if __name__ == "__main__":
    main()
