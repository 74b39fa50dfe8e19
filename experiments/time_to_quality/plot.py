"""Plot curves.csv as curves.png and print it as a table: `python -m experiments.time_to_quality.plot`.

Also write side_by_side.png, the samples after 240 s, if the race has left its pictures. `cuda` as an argument plots the
race on a GPU: curves_cuda.csv as curves_cuda.png.
"""

import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from experiments.plots import plot_images
from experiments.tables import Row, read_rows

HERE = Path(__file__).parent
TABLE_SECONDS = (30, 60, 120, 240, 600, 1800)
GPU_TABLE_SECONDS = (1, 2, 5, 10, 30, 60)
PLOTTED = ("fast", "prototype", "defaults", "example")  # the others are changes of `fast`, with one seed each

Curve = list[tuple[float, float]]  # seconds of training, Frechet distance


def curves_by_variant(rows: list[Row]) -> dict[str, dict[str, Curve]]:
    """Return the curve of each variant and seed."""
    curves: dict[str, dict[str, Curve]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        curves[row["variant"]][row["seed"]].append((float(row["seconds"]), float(row["frechet"])))
    return curves


def plot_distances(curves: dict[str, dict[str, Curve]], title: str, path: Path) -> None:
    """Plot the distance against the seconds, a color per variant and a line per seed."""
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.subplots()
    for i, variant in enumerate(name for name in PLOTTED if name in curves):
        seeds = curves[variant]
        for j, curve in enumerate(seeds.values()):
            label = f"{variant} ({len(seeds)} seed{'s' if len(seeds) > 1 else ''})" if j == 0 else None
            axes.plot(*zip(*sorted(curve), strict=True), color=f"C{i}", lw=1.2, alpha=0.8, label=label)
    ticks = (1, 2, 5, 15, 30, 60, 120, 240, 600, 1200, 1800)
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


def print_table(curves: dict[str, dict[str, Curve]], columns: Sequence[int]) -> None:
    """Print the mean distance and its range after each of these numbers of seconds, within 5 %."""
    print("| variant | seeds |", " | ".join(f"{seconds} s" for seconds in columns), "|")
    print("| --- | --- |", " | ".join("---" for _ in columns), "|")
    for variant, seeds in curves.items():
        cells = []
        for seconds in columns:
            values = [f for curve in seeds.values() for s, f in curve if abs(s - seconds) < 0.05 * seconds]
            spread = f" ({min(values):.2f} to {max(values):.2f}; n = {len(values)})" if len(values) > 1 else ""
            cells.append(f"{statistics.fmean(values):.2f}{spread}" if values else "")
        print(f"| {variant} | {len(seeds)} |", " | ".join(cells), "|")


def main() -> None:
    on_gpu = sys.argv[1:] == ["cuda"]
    suffix = "_cuda" if on_gpu else ""
    pictures = {variant: path for variant in PLOTTED for path in sorted(HERE.glob(f"{variant}_*_240s{suffix}.png"))}
    if len(pictures) == len(PLOTTED):
        plot_images(pictures, HERE / f"side_by_side{suffix}.png")
    rows = read_rows(HERE / f"curves{suffix}.csv")
    curves = curves_by_variant(rows)
    machine = rows[0]["hardware"] if on_gpu else f"{rows[0]['hardware']}, {rows[0]['threads']} threads"
    plot_distances(curves, f"MNIST, {machine}", HERE / f"curves{suffix}.png")
    print_table(curves, GPU_TABLE_SECONDS if on_gpu else TABLE_SECONDS)


if __name__ == "__main__":
    main()
