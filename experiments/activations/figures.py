"""Distance over training, and by layer how large gradients are, early and late, and how many units are dead or
saturated."""

import statistics
from pathlib import Path

from matplotlib.figure import Figure

from experiments.plots import over_training, style
from experiments.tables import Row, read

HERE = Path(__file__).parent
EARLY, LATE = 400, 1600  # steps up to which, and behind which
BEGINNING, END = range(1, EARLY + 1), range(LATE + 1, 10**9)
PANELS = (
    ("gradient_norms", f"norm of the layer's gradient up to step {EARLY}", BEGINNING),
    ("gradient_norms", f"norm of the layer's gradient behind step {LATE}", END),
    ("units_dead", f"dead channels, share, behind step {LATE}", END),
    ("units_saturated", f"saturated values, share, behind step {LATE}", END),
)
SMALLEST = 1e-12  # gradient that is drawn
# the recipe has relu in G and leaky_relu with slope .2 in D: D's sweeps need not repeat it
SHIPPED = {"arm": "discriminator_activation=leaky_relu discriminator_activation.negative_slope=0.2"}


def mean_gradient(values: list[float]) -> float:
    """The geometric mean, for gradients change by whole orders; one that has vanished counts as SMALLEST."""
    return statistics.geometric_mean(max(value, SMALLEST) for value in values)


def by_layer(rows: list[Row], path: Path, title: str) -> None:
    """An arm a colour: means over its seeds and those steps, layers in the order of the data, G then D."""
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    drawing = Figure(figsize=(20, 5), layout="constrained")
    for axes, (kind, label, steps) in zip(drawing.subplots(1, len(PANELS)), PANELS, strict=True):
        layers = [name for name in rows[0] if name.startswith(f"{kind}/")]
        layers.sort(key=lambda name: "/discriminator/" in name)  # stable
        for i, arm in enumerate(arms):
            own = [row for row in rows if row["arm"] == arm and int(row["step"]) in steps and row[layers[0]]]
            if not own:
                continue
            mean = mean_gradient if kind == "gradient_norms" else statistics.fmean
            of = [[float(row[layer]) for row in own] for layer in layers]
            means = [mean(values) for values in of]
            axes.plot(range(len(layers)), means, marker=".", label=arm, **style(i))
        names = [name.partition("/")[2].replace("generator/", "G ").replace("discriminator/", "D ") for name in layers]
        axes.set_xticks(range(len(layers)), names, rotation=90, fontsize=8)
        axes.set(ylabel=label, yscale="log" if kind == "gradient_norms" else "linear")
        axes.grid(alpha=0.3)
    drawing.axes[0].legend(fontsize=7, frameon=False)
    drawing.suptitle(title, fontsize=10)
    drawing.savefig(path, dpi=100)


def main() -> None:
    curves = read(HERE / "curves.csv")
    of = {
        name: [row for row in curves if row["sweep"] in (name, f"{name}_leaky")]
        for name in ("generator", "discriminator", "generator_bare", "discriminator_bare")
    }
    of["discriminator"] += [row | SHIPPED for row in of["generator"] if row["arm"] == "activation=relu"]
    for name, rows in of.items():
        if rows:
            title = f"hidden activation: {name.replace('_bare', ' without batch norm')}"
            # in place of the study's own picture of the one sweep
            over_training(rows, {"val/frechet": "Frechet distance"}, HERE / f"{name}.png", title)
            by_layer(rows, HERE / f"{name}_layers.png", title)


if __name__ == "__main__":
    main()
