"""Distance over training, and by layer how large gradients are, early and late, and how many units are dead or
saturated: pictures, and layers.csv, a row for each layer of a run."""

import math
import statistics
from collections.abc import Callable
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from matplotlib.figure import Figure

from experiments.plots import over_training, style
from experiments.tables import Row, read, write

HERE = Path(__file__).parent
EARLY, LATE = 400, 1600  # steps up to which, and behind which
SMALLEST = 1e-12  # gradient that counts as such
# the recipe has relu in G and leaky_relu with slope .2 in D: D's sweeps need not repeat it
SHIPPED = {"arm": "discriminator_activation=leaky_relu discriminator_activation.negative_slope=0.2"}


def mean_gradient(values: list[float]) -> float:
    """The geometric mean, for gradients change by whole orders; one that has vanished counts as SMALLEST."""
    return statistics.geometric_mean(max(value, SMALLEST) for value in values)


Mean = Callable[[list[float]], float]
# of layers.csv: what is measured, in which steps, its mean over them, and what it is called
COLUMNS: dict[str, tuple[str, range, Mean, str]] = {
    "gradient_early": ("gradient_norms", range(1, EARLY + 1), mean_gradient, f"norm of gradient, to step {EARLY}"),
    "gradient_late": ("gradient_norms", range(LATE + 1, 10**9), mean_gradient, f"norm of gradient, behind step {LATE}"),
    "dead": ("units_dead", range(LATE + 1, 10**9), statistics.fmean, f"dead channels, share, behind step {LATE}"),
    "saturated": ("units_saturated", range(LATE + 1, 10**9), statistics.fmean, f"saturated, share, behind step {LATE}"),
}


def layers_of(curves: list[Row]) -> list[Row]:
    """A row for each layer of a run, in the order of the data, G then D: the means of what was recorded of it."""
    found: list[Row] = []
    for _, rows in groupby(curves, itemgetter("sweep", "arm", "seed")):
        run = list(rows)
        layers = [name.partition("/")[2] for name in run[0] if name.startswith("gradient_norms/")]
        for layer in sorted(layers, key=lambda name: name.startswith("discriminator")):  # stable
            row = {name: run[0][name] for name in ("sweep", "arm", "seed", "outcome")} | {"layer": layer}
            for column, (kind, steps, mean, _) in COLUMNS.items():
                values = [float(at[key]) for at in run if int(at["step"]) in steps and at.get(key := f"{kind}/{layer}")]
                row[column] = f"{mean(values):.4g}" if values else ""
            found.append(row)
    return found


def by_layer(rows: list[Row], path: Path, title: str) -> None:
    """An arm a colour: means over all its seeds, layers in the order of the data, G then D."""
    arms, layers = (list(dict.fromkeys(row[name] for row in rows)) for name in ("arm", "layer"))
    drawing = Figure(figsize=(20, 5), layout="constrained")
    for axes, (column, (_, _, mean, label)) in zip(drawing.subplots(1, len(COLUMNS)), COLUMNS.items(), strict=True):
        measured = [layer for layer in layers if any(row[column] for row in rows if row["layer"] == layer)]
        for i, arm in enumerate(arms):
            own = [row for row in rows if row["arm"] == arm and row[column]]
            of = [[float(row[column]) for row in own if row["layer"] == layer] for layer in measured]
            means = [mean(values) if values else math.nan for values in of]
            axes.plot(range(len(measured)), means, marker=".", label=arm, **style(i))
        names = [name.replace("generator/", "G ").replace("discriminator/", "D ") for name in measured]
        axes.set_xticks(range(len(measured)), names, rotation=90, fontsize=8)
        axes.set(ylabel=label, yscale="log" if mean is mean_gradient else "linear")
        axes.grid(alpha=0.3)
    drawing.legend(
        *drawing.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8, frameon=False
    )
    drawing.suptitle(title, fontsize=10)
    drawing.savefig(path, dpi=100)


def main() -> None:
    curves = read(HERE / "curves.csv")
    layers = layers_of(curves)
    write(HERE / "layers.csv", layers)
    for name in ("generator", "discriminator", "generator_bare", "discriminator_bare"):
        of, units = (of_sweep(rows, name) for rows in (curves, layers))
        if of:
            title = f"hidden activation: {name.replace('_bare', ' without batch norm')}"
            # in place of the study's own picture of the one sweep
            over_training(of, {"test/frechet": "Frechet distance"}, HERE / f"{name}.png", title)
            by_layer(units, HERE / f"{name}_layers.png", title)


def of_sweep(rows: list[Row], name: str) -> list[Row]:
    """Those of the sweep and of its leaky ReLUs."""
    shipped = [row | SHIPPED for row in rows if (row["sweep"], row["arm"]) == ("generator", "activation=relu")]
    return [row for row in rows if row["sweep"] in (name, f"{name}_leaky")] + shipped * (name == "discriminator")


if __name__ == "__main__":
    main()
