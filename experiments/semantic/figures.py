"""What the runs of this study can be asked afterwards: what classifiers learn from their networks (the DCGAN paper's
sections 5.1 and 8.1), and how well vector arithmetic survives noise: two CSV files and a picture.
"""

from pathlib import Path

import torch
from hydra.utils import instantiate
from matplotlib.figure import Figure

from dcgan.checks import UserError
from dcgan.data import ImageData
from dcgan.measuring import reference
from dcgan.metrics.probe import LinearProbe, NearestNeighbour
from dcgan.modes.arithmetic import Arithmetic, Pool, mixed_up
from dcgan.modes.mode import Source
from dcgan.seeding import Stream, derive_generator
from dcgan.trained import read_checkpoint
from experiments.bench import write
from experiments.contrasts import spreads
from experiments.study import config_of, finished, identity, with_earlier
from experiments.tables import Row, read

HERE = Path(__file__).parent
CPU = torch.device("cpu")
EXPRESSIONS = ("thick 7 - thin 7 + thin 1", "slanted 4 - upright 4 + upright 9")
SCALES = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0)  # of uniform noise; a component of z has a standard deviation of 1
ALONE, MIXED = "third term alone", "first two mixed up"  # what is right without the arithmetic
AVERAGE, DRAWS, POOL = 3, 2_000, 10_000
NEIGHBOURS, PROBED = 50_000, 10_000  # images that the classifiers are fitted on


def arithmetic(source: Source) -> list[Row]:
    """How often the result of each expression is right; nothing of one that has too few images of its terms.

    A conditional generator is told the result's digit, so that its strokes alone can be wrong.
    """
    modes = [Arithmetic(None, 0, expression, AVERAGE, "uniform", 1.0, DRAWS, POOL) for expression in EXPRESSIONS]
    pool = modes[0].fill_pool(source)
    rows: list[Row] = []
    for mode in modes:
        try:
            rows += shares(mode, source, pool)
        except UserError as error:
            print(f"left out     {source.checkpoint}: {error}")
    return rows


def shares(mode: Arithmetic, source: Source, pool: Pool) -> list[Row]:
    """How often it is right with noise of each scale, and how often without the arithmetic."""
    rng = derive_generator(CPU, 0, Stream.ARITHMETIC)
    a, b, thirds = (mode.pick(pool, term, rng) for term in mode.terms)
    c = thirds.mean(dim=1)
    sums = a.mean(dim=1) - b.mean(dim=1) + c
    tried = {str(scale): sums + scale * mode.noise(sums.shape, rng) for scale in SCALES}
    tried |= {ALONE: c, MIXED: mixed_up(a, b, rng) + c}
    return [
        {"expression": mode.expression, "noise_scale": scale, "right": 100 * mode.right(source, pool, z)}
        for scale, z in tried.items()
    ]


def classified(checkpoint: Path, source: Source, data: ImageData) -> Row:
    """What a classifier says of the checkpoint, and the figure's floor."""
    real, generator = reference(data, CPU), source.generator
    probe = NearestNeighbour(NEIGHBOURS) if generator.classes else LinearProbe(PROBED)
    found, floor = probe(read_checkpoint(checkpoint), generator, real, 0)
    return found | {f"{name}_floor": value for name, value in floor.items()}


def ask(runs: list[Path]) -> None:
    """Ask each run, and write down what it says."""
    probes, counted = [], []
    for run in runs:
        config = config_of(run)
        checkpoint = run / "checkpoints" / "last.ckpt"
        data: ImageData = instantiate(config.data)
        source = Source(checkpoint, "cpu", 500, lambda data=data: data)
        who = identity(run)
        probes.append(who | classified(checkpoint, source, data))
        counted += [who | row for row in arithmetic(source)]
        for name, rows in (("probes.csv", probes), ("arithmetic.csv", counted)):
            write(HERE / name, with_earlier(HERE / name, rows))


def draw() -> None:
    rows = read(HERE / "arithmetic.csv")
    drawing = Figure(figsize=(10, 4), layout="constrained")
    for axes, expression in zip(drawing.subplots(1, len(EXPRESSIONS), sharey=True), EXPRESSIONS, strict=True):
        of_expression = [row for row in rows if row["expression"] == expression]
        for i, arm in enumerate(dict.fromkeys(row["arm"] for row in of_expression)):
            at = {
                noise_scale: next(iter(spreads(tried, "right").values()))
                for noise_scale in (*map(str, SCALES), MIXED)
                if (tried := [r for r in of_expression if (r["arm"], r["noise_scale"]) == (arm, noise_scale)])
            }
            axes.axhline(at.pop(MIXED).mean, color=f"C{i}", lw=0.8, ls=":")
            lowest, highest = ([f(spread.values) for spread in at.values()] for f in (min, max))
            x = [float(noise_scale) for noise_scale in at]
            axes.plot(x, [spread.mean for spread in at.values()], color=f"C{i}", marker="o", label=arm)
            axes.fill_between(x, lowest, highest, color=f"C{i}", alpha=0.15, linewidth=0)
        axes.set(title=expression, xlabel=f"scale of the noise on the sum (dotted: {MIXED}, no noise)")
        axes.grid(alpha=0.3)
    drawing.axes[0].set_ylabel("right, %")
    drawing.axes[0].legend(frameon=False, fontsize=8)
    drawing.savefig(HERE / "arithmetic.png", dpi=110)


def main() -> None:
    if runs := finished(HERE.name):
        ask(runs)
    draw()


if __name__ == "__main__":
    main()
