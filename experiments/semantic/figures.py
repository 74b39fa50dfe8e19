"""What the runs of this study can be asked afterwards: the DCGAN paper's nearest-neighbour test of the conditional ones
(section 5.3), and how well vector arithmetic survives noise: two CSV files and a picture.
"""

import json
import re
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from matplotlib.figure import Figure
from omegaconf import OmegaConf

from dcgan.data import ImageData
from dcgan.measuring import reference
from dcgan.metrics.probe import NearestNeighbour
from dcgan.modes.arithmetic import Arithmetic
from dcgan.modes.mode import Source
from dcgan.trained import read_checkpoint
from experiments.study import RUNS, read, spreads, write

HERE = Path(__file__).parent
EXPRESSIONS = ("thick 7 - thin 7 + thin 1", "slanted 4 - upright 4 + upright 9")
SCALES = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0)  # of uniform noise; a component of z has a standard deviation of 1
N, DRAWS, POOL = 50_000, 2_000, 10_000


def percent(note: str) -> float:
    """The share that a note of the arithmetic tells."""
    found = re.search(r"([\d.]+)%", note)
    assert found is not None, note
    return float(found[1])


def arithmetic(source: Source, who: dict[str, Any]) -> list[dict[str, Any]]:
    """How often the result is right, without noise (scale 0), with it, and where the third term alone is drawn."""
    rows = []
    for expression in EXPRESSIONS:
        for scale in SCALES:
            mode = Arithmetic(None, 0, expression, 3, "uniform", scale, DRAWS, POOL)
            _, plain, shaken, without = mode.still(source).notes
            if scale == SCALES[0]:
                rows.append(who | {"expression": expression, "noise_scale": 0, "right": percent(plain)})
            rows.append(who | {"expression": expression, "noise_scale": scale, "right": percent(shaken)})
        rows.append(who | {"expression": expression, "noise_scale": "third term alone", "right": percent(without)})
    return rows


def ask(runs: list[Path]) -> None:
    """Ask each run, and write down what it says."""
    errors, shares = [], []
    for run in runs:
        config = OmegaConf.create(json.loads((run / "summary.json").read_text())["config"])
        checkpoint = run / "checkpoints" / "last.ckpt"
        data: ImageData = instantiate(config.data)
        source = Source(checkpoint, "cpu", 500, lambda data=data: data)
        who = {"sweep": run.parent.name, "arm": run.name.partition(",")[2], "seed": config.seed}
        shares += arithmetic(source, who)
        if source.generator.classes:
            real = reference(data, torch.device("cpu"))
            found, floor = NearestNeighbour(N)(read_checkpoint(checkpoint), source.generator, real, 0)
            (name,) = found
            errors.append(who | {"n": N, name: found[name], "real images": floor[name]})
        write(HERE / "nearest_neighbour.csv", errors)
        write(HERE / "arithmetic.csv", shares)


def draw() -> None:
    rows = read(HERE / "arithmetic.csv")
    drawing = Figure(figsize=(10, 4), layout="constrained")
    for axes, expression in zip(drawing.subplots(1, len(EXPRESSIONS), sharey=True), EXPRESSIONS, strict=True):
        of_expression = [row for row in rows if row["expression"] == expression]
        for i, arm in enumerate(dict.fromkeys(row["arm"] for row in of_expression)):
            own = [row for row in of_expression if row["arm"] == arm]
            for scale in (0.0, *SCALES):
                at = [
                    row
                    for row in own
                    if row["noise_scale"] != "third term alone" and float(row["noise_scale"]) == scale
                ]
                for spread in spreads(at, "right").values():
                    low, high = min(spread.values), max(spread.values)
                    axes.plot([scale, scale], [low, high], color=f"C{i}", alpha=0.4)
                    axes.plot(scale, spread.mean, "o", color=f"C{i}", label=arm if scale == 0 else None)
            (alone,) = spreads((row for row in own if row["noise_scale"] == "third term alone"), "right").values()
            axes.axhline(alone.mean, color=f"C{i}", lw=0.8, ls=":")
        axes.set(title=expression, xlabel="scale of the noise on the sum (dotted: the third term alone)")
        axes.grid(alpha=0.3)
    drawing.axes[0].set_ylabel("right, %")
    drawing.axes[0].legend(frameon=False, fontsize=8)
    drawing.savefig(HERE / "arithmetic.png", dpi=110)


def main() -> None:
    if runs := sorted(path.parent for path in (RUNS / HERE.name).glob("*/*/summary.json")):
        ask(runs)
    draw()


if __name__ == "__main__":
    main()
