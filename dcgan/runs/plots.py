"""The plot of `python -m dcgan.compare`."""

import math

from matplotlib.figure import Figure

from dcgan.runs.statistics import Row

MAX_COLUMNS = 3


def comparison_plot(tables: dict[str, list[Row]]) -> Figure:
    """Plot a panel per table, by title: each group's mean with its 95 % confidence interval, and each run as a dot."""
    columns = min(MAX_COLUMNS, max(1, len(tables)))
    rows = max(1, math.ceil(len(tables) / columns))
    groups = max((len(table) for table in tables.values()), default=1)
    longest = max((len(name) for table in tables.values() for name, *_ in table), default=0)
    size = (columns * (2.6 + 0.07 * longest), rows * (0.9 + 0.28 * groups))
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in panels[len(tables) :]:
        axes.axis("off")
    for axes, (title, table) in zip(panels, tables.items(), strict=False):
        for y, (_, values, _) in enumerate(table):
            half = 0 if math.isnan(values.half_width) else values.half_width
            axes.errorbar(values.mean, y, xerr=half, fmt="o", color="#4477aa", capsize=3)
            axes.plot(values.values, [y + 0.22] * values.n, ".", color="#999999", markersize=4)
        axes.set_yticks(range(len(table)), [group for group, *_ in table])
        axes.set_ylim(len(table) - 0.4, -0.6)
        axes.set_title(title, fontsize=10)
        axes.tick_params(labelsize=8)
        axes.grid(axis="x", alpha=0.3)
    return figure
