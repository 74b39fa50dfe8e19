"""What the studies draw with."""

import math
import statistics
from collections.abc import Iterable
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.image import imread

from experiments.tables import LEARNED, Row

DISTANCES = ("test/frechet",)
ABREAST = 5  # pictures of a row
LEGEND = 2.8  # inches beside the panels
WIDE = 4  # times the smallest value: from there a distance is drawn in proportion


def style(i: int) -> dict[str, Any]:
    """Of the i-th arm: ten colours, then the same with broken lines."""
    return {"color": f"C{i % 10}", "linestyle": "-" if i < 10 else "--"}


def over_training(rows: Iterable[Row], figures: dict[str, str], path: Path, title: str = "", x: str = "step") -> None:
    """Figures against steps, an arm a colour: the mean over its seeds, and from the lowest to the highest of them; only
    where all of them have the figure. Runs that have failed are dotted lines of their own.

    rows: of a study's curves.csv; figures: the column of each panel and what its axis is called; x: that of all.
    """
    rows = list(rows)
    drawing = Figure(figsize=(5 * len(figures) + LEGEND, 4.2), layout="constrained")
    panels = drawing.subplots(1, len(figures), squeeze=False)[0]
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    for axes, (figure, label) in zip(panels, figures.items(), strict=True):
        for i, arm in enumerate(arms):
            own = [row for row in rows if row["arm"] == arm and math.isfinite(float(row.get(figure) or "nan"))]
            learned, failed = ([row for row in own if (row["outcome"] == LEARNED) is well] for well in (True, False))
            for _, run in groupby(failed, itemgetter("seed")):
                points = [(float(row[x]), float(row[figure])) for row in run]
                axes.plot(*zip(*points, strict=True), **style(i) | {"linestyle": ":"})
            at: dict[float, list[float]] = {}
            for row in learned:
                at.setdefault(float(row[x]), []).append(float(row[figure]))
            along = sorted(place for place in at if len(at[place]) == max(map(len, at.values())))
            axes.plot(along, [statistics.fmean(at[place]) for place in along], label=arm.replace(" ", "\n"), **style(i))
            lowest, highest = ([f(at[place]) for place in along] for f in (min, max))
            axes.fill_between(along, lowest, highest, color=style(i)["color"], alpha=0.15, linewidth=0)
        drawn = [value for line in axes.lines for value in line.get_ydata()]
        if figure in DISTANCES and drawn and WIDE * min(drawn) < max(drawn):
            axes.set_yscale("log")
        axes.set(xlabel=x, ylabel=label)
        axes.grid(alpha=0.3)
    names = panels[0].get_legend_handles_labels()
    drawing.legend(*names, loc="outside right upper", fontsize=7, frameon=False)  # failed runs can be anywhere inside
    panels[0].set_title(title, fontsize=10, loc="left")
    drawing.savefig(path, dpi=110)


def side_by_side(pictures: dict[str, Path], path: Path) -> None:
    """Image files, each under its name."""
    columns = min(ABREAST, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    titles = [name.replace(" ", "\n") for name in pictures]
    lines = 1 + max(title.count("\n") for title in titles)
    drawing = Figure(figsize=(3 * columns, (3.1 + 0.2 * lines) * rows), layout="constrained")
    panels = drawing.subplots(rows, columns, squeeze=False).flatten()
    for axes in panels:
        axes.axis("off")
    for axes, title, picture in zip(panels, titles, pictures.values(), strict=False):
        axes.imshow(imread(picture), cmap="gray")
        axes.set_title(title, fontsize=9)
    drawing.savefig(path, dpi=110)
