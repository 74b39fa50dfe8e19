"""Distance over training, and by layer how large gradients are and how many units are dead or saturated at the end."""

import statistics
from pathlib import Path

from matplotlib.figure import Figure

from experiments.plots import over_training, style
from experiments.tables import Row, read

HERE = Path(__file__).parent
KINDS = {
    "gradient_norms": "norm of the layer's gradient",
    "units_dead": "dead channels, share",
    "units_saturated": "saturated values, share",
}
# the recipe has relu in G and leaky_relu with slope .2 in D: D's sweeps need not repeat it
SHIPPED = {"arm": "discriminator_activation=leaky_relu discriminator_activation.negative_slope=0.2"}


def by_layer(rows: list[Row], path: Path, title: str) -> None:
    """An arm a colour: means over its seeds at the last measurement, layers in the order of the data, G then D."""
    last = max(int(row["step"]) for row in rows)
    rows = [row for row in rows if int(row["step"]) == last]
    drawing = Figure(figsize=(15, 5), layout="constrained")
    for axes, (kind, label) in zip(drawing.subplots(1, len(KINDS)), KINDS.items(), strict=True):
        layers = [name for name in rows[0] if name.startswith(f"{kind}/")]
        layers.sort(key=lambda name: "/discriminator/" in name)  # stable
        for i, arm in enumerate(dict.fromkeys(row["arm"] for row in rows)):
            own = [row for row in rows if row["arm"] == arm]
            means = [statistics.fmean(float(row[layer]) for row in own) for layer in layers]
            axes.plot(range(len(layers)), means, marker=".", label=arm, **style(i))
        names = [name.partition("/")[2].replace("generator/", "G ").replace("discriminator/", "D ") for name in layers]
        axes.set_xticks(range(len(layers)), names, rotation=90, fontsize=8)
        axes.set(ylabel=label, yscale="log" if kind == "gradient_norms" else "linear")
        axes.grid(alpha=0.3)
    drawing.axes[0].legend(fontsize=7, frameon=False)
    drawing.suptitle(f"{title}, step {last}", fontsize=10)
    drawing.savefig(path, dpi=110)


def main() -> None:
    curves = [row for row in read(HERE / "curves.csv") if row["val/frechet"]]
    of = {
        name: [row for row in curves if row["sweep"] in (name, f"{name}_leaky")]
        for name in ("generator", "discriminator", "generator_bare", "discriminator_bare")
    }
    of["discriminator"] += [row | SHIPPED for row in of["generator"] if row["arm"] == "activation=relu"]
    for name, rows in of.items():
        if rows:
            title = f"hidden activation: {name.replace('_bare', ' without batch norm')}"
            over_training(rows, {"val/frechet": "Frechet distance"}, HERE / f"{name}.png", title)
            by_layer(rows, HERE / f"{name}_layers.png", title)


if __name__ == "__main__":
    main()
