"""Plot the distance over training, and gradients, dead and saturated units per layer; write layers.csv."""

import math
import statistics
from collections.abc import Callable
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from matplotlib.figure import Figure

from experiments.plots import line_style, plot_curves
from experiments.tables import Row, read_rows, write_rows

HERE = Path(__file__).parent
EARLY, LATE = 400, 1600  # the last early step, and the step after which late begins
MIN_GRADIENT = 1e-12  # smaller norms count as this one, because 0 has no logarithm
# D's default activation. Its runs are those of the generator sweep with the defaults of both networks.
DEFAULT_VARIANT = {"variant": "discriminator_activation=leaky_relu discriminator_activation.negative_slope=0.2"}


def mean_gradient(values: list[float]) -> float:
    """Return the geometric mean, because gradient norms differ by orders of magnitude."""
    return statistics.geometric_mean(max(value, MIN_GRADIENT) for value in values)


Mean = Callable[[list[float]], float]
# by column of layers.csv: the logged metric, the steps, the mean over them, and the axis label
COLUMNS: dict[str, tuple[str, range, Mean, str]] = {
    "gradient_early": ("gradient_norms", range(1, EARLY + 1), mean_gradient, f"norm of gradient, to step {EARLY}"),
    "gradient_late": ("gradient_norms", range(LATE + 1, 10**9), mean_gradient, f"norm of gradient, after step {LATE}"),
    "dead": ("units_dead", range(LATE + 1, 10**9), statistics.fmean, f"dead channels, share, after step {LATE}"),
    "saturated": ("units_saturated", range(LATE + 1, 10**9), statistics.fmean, f"saturated, share, after step {LATE}"),
}


def layer_means(curves: list[Row]) -> list[Row]:
    """Return the rows of layers.csv: one per layer of a run, in the order of the data, G before D."""
    results: list[Row] = []
    for _, run in groupby(curves, itemgetter("sweep", "variant", "seed")):
        rows = list(run)
        layers = [name.partition("/")[2] for name in rows[0] if name.startswith("gradient_norms/")]
        for layer in sorted(layers, key=lambda name: name.startswith("discriminator")):  # stable
            result = {name: rows[0][name] for name in ("sweep", "variant", "seed", "outcome")} | {"layer": layer}
            for column, (metric, steps, mean, _) in COLUMNS.items():
                key = f"{metric}/{layer}"
                values = [float(row[key]) for row in rows if int(row["step"]) in steps and row.get(key)]
                result[column] = f"{mean(values):.4g}" if values else ""
            results.append(result)
    return results


def plot_layers(rows: list[Row], path: Path, title: str) -> None:
    """Plot the means over all seeds against the layers, a panel per column and a color per variant."""
    variants, layers = (list(dict.fromkeys(row[name] for row in rows)) for name in ("variant", "layer"))
    figure = Figure(figsize=(20, 5), layout="constrained")
    for axes, (column, (_, _, mean, label)) in zip(figure.subplots(1, len(COLUMNS)), COLUMNS.items(), strict=True):
        measured = [layer for layer in layers if any(row[column] for row in rows if row["layer"] == layer)]
        for i, variant in enumerate(variants):
            own = [row for row in rows if row["variant"] == variant and row[column]]
            values = [[float(row[column]) for row in own if row["layer"] == layer] for layer in measured]
            means = [mean(of_layer) if of_layer else math.nan for of_layer in values]
            axes.plot(range(len(measured)), means, marker=".", label=variant, **line_style(i))
        names = [name.replace("generator/", "G ").replace("discriminator/", "D ") for name in measured]
        axes.set_xticks(range(len(measured)), names, rotation=90, fontsize=8)
        axes.set(ylabel=label, yscale="log" if mean is mean_gradient else "linear")
        axes.grid(alpha=0.3)
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8, frameon=False
    )
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=100)


def select_sweep(rows: list[Row], sweep: str) -> list[Row]:
    """Return the rows of a sweep and of its leaky ReLUs; for `discriminator`, with those of D's default activation."""
    default = [
        row | DEFAULT_VARIANT for row in rows if (row["sweep"], row["variant"]) == ("generator", "activation=relu")
    ]
    own = [row for row in rows if row["sweep"] in (sweep, f"{sweep}_leaky")]
    return own + default if sweep == "discriminator" else own


def main() -> None:
    curves = read_rows(HERE / "curves.csv")
    layers = layer_means(curves)
    write_rows(HERE / "layers.csv", layers)
    for sweep in ("generator", "discriminator", "generator_bare", "discriminator_bare"):
        sweep_curves, sweep_layers = (select_sweep(rows, sweep) for rows in (curves, layers))
        if sweep_curves:
            title = f"hidden activation: {sweep.replace('_bare', ' without batch norm')}"
            # replaces the study's plot, which has only one of the sweeps
            plot_curves(sweep_curves, {"test/frechet": "Frechet distance"}, HERE / f"{sweep}.png", title)
            plot_layers(sweep_layers, HERE / f"{sweep}_layers.png", title)


if __name__ == "__main__":
    main()
