"""The plots of the studies."""

import math
import statistics
from collections.abc import Iterable
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread

from experiments.tables import FINISHED, Row

LOG_SCALE_METRICS = ("test/frechet", "test/frechet_random_conv", "test/class_kl")
LOG_SCALE_RATIO = 4  # of the largest to the smallest value, from which on their axis is logarithmic
MAX_COLUMNS = 5  # images per row
LEGEND_WIDTH = 2.8  # inches


def line_style(i: int) -> dict[str, Any]:
    """Return the style of the i-th variant: ten colors, then the same with dashed lines."""
    return {"color": f"C{i % 10}", "linestyle": "-" if i < 10 else "--"}


def plot_curves(rows: Iterable[Row], metrics: dict[str, str], path: Path, title: str = "", x: str = "step") -> None:
    """Plot metrics over the steps, a panel per metric and a color per variant.

    A line is the mean over the seeds, with a band from the lowest to the highest, where all seeds have the metric.
    Failed runs are dotted lines.

    Args:
        rows: Rows of a study's curves.csv.
        metrics: The column of each panel, and the label of its y axis.
        path: The picture's file.
        title: Title of the first panel.
        x: The column of the x axes.
    """
    rows = list(rows)
    figure = Figure(figsize=(5 * len(metrics) + LEGEND_WIDTH, 4.2), layout="constrained")
    panels = figure.subplots(1, len(metrics), squeeze=False)[0]
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    for axes, (metric, label) in zip(panels, metrics.items(), strict=True):
        measured = [row for row in rows if math.isfinite(float(row.get(metric) or "nan"))]
        for i, variant in enumerate(variants):
            own = [row for row in measured if row["variant"] == variant]
            plot_variant(axes, own, variant, metric, x, line_style(i))
        values = [value for line in axes.lines for value in line.get_ydata()]
        if metric in LOG_SCALE_METRICS and values and LOG_SCALE_RATIO * min(values) < max(values):
            axes.set_yscale("log")
        axes.set(xlabel=x, ylabel=label)
        axes.grid(alpha=0.3)
    # outside of the panels, where the lines of failed runs cannot cross it
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", fontsize=7, frameon=False)
    panels[0].set_title(title, fontsize=10, loc="left")
    figure.savefig(path, dpi=110)


def plot_variant(axes: Axes, rows: list[Row], variant: str, metric: str, x: str, style: dict[str, Any]) -> None:
    """Add a variant's failed runs, the mean of its finished ones, and their range."""
    failed = [row for row in rows if row["outcome"] != FINISHED]
    for _, run in groupby(failed, itemgetter("seed")):
        points = [(float(row[x]), float(row[metric])) for row in run]
        axes.plot(*zip(*points, strict=True), **style | {"linestyle": ":"})
    values: dict[float, list[float]] = {}
    for row in rows:
        if row["outcome"] == FINISHED:
            values.setdefault(float(row[x]), []).append(float(row[metric]))
    places = sorted(place for place in values if len(values[place]) == max(map(len, values.values())))
    mean, lowest, highest = ([f(values[place]) for place in places] for f in (statistics.fmean, min, max))
    axes.plot(places, mean, label=variant.replace(" ", "\n"), **style)
    axes.fill_between(places, lowest, highest, color=style["color"], alpha=0.15, linewidth=0)


def plot_images(images: dict[str, Path], path: Path) -> None:
    """Put image files side by side, each under its name."""
    columns = min(MAX_COLUMNS, len(images))
    rows = math.ceil(len(images) / columns)
    titles = [name.replace(" ", "\n") for name in images]
    title_lines = 1 + max(title.count("\n") for title in titles)
    figure = Figure(figsize=(3 * columns, (3.1 + 0.2 * title_lines) * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in panels:
        axes.axis("off")
    for axes, title, image in zip(panels, titles, images.values(), strict=False):
        axes.imshow(imread(image), cmap="gray")
        axes.set_title(title, fontsize=9)
    figure.savefig(path, dpi=110)
