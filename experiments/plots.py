"""What the studies draw with."""

import statistics
from collections.abc import Iterable
from pathlib import Path

from matplotlib.figure import Figure

from experiments.study import Row


def over_training(rows: Iterable[Row], figures: dict[str, str], path: Path, title: str = "") -> None:
    """Figures against steps, an arm a colour: the mean over its seeds, and from the lowest to the highest of them.

    rows: of a study's curves.csv; figures: the column of each panel and what its axis is called.
    """
    rows = list(rows)
    drawing = Figure(figsize=(5 * len(figures), 4.2), layout="constrained")
    panels = drawing.subplots(1, len(figures), squeeze=False)[0]
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    for axes, (figure, label) in zip(panels, figures.items(), strict=True):
        for i, arm in enumerate(arms):
            at: dict[int, list[float]] = {}
            for row in rows:
                if row["arm"] == arm and row.get(figure):
                    at.setdefault(int(row["step"]), []).append(float(row[figure]))
            steps = sorted(at)
            style = {"color": f"C{i % 10}", "linestyle": "-" if i < 10 else "--"}
            axes.plot(steps, [statistics.fmean(at[step]) for step in steps], label=arm, **style)
            lowest, highest = ([f(at[step]) for step in steps] for f in (min, max))
            axes.fill_between(steps, lowest, highest, color=style["color"], alpha=0.15, linewidth=0)
        axes.set(xlabel="step", ylabel=label)
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize=8, frameon=False)
    drawing.suptitle(title, fontsize=10)
    drawing.savefig(path, dpi=110)
