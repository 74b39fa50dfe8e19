"""Measure the runs of this study: classifiers on their networks, and the success rates of vector arithmetic.

The classifiers are those of the DCGAN paper, sections 5.1 and 8.1. Write probes.csv, arithmetic.csv and a plot.
"""

from pathlib import Path

import torch
from hydra.utils import instantiate
from matplotlib.figure import Figure

from dcgan.checkpoints.io import read_checkpoint
from dcgan.data.datamodule import BaseDataModule
from dcgan.evaluation.probes import LinearProbe, NearestNeighborProbe
from dcgan.metrics.compute import load_real_statistics
from dcgan.sampling.base import SampleSource
from experiments.bench import write_results
from experiments.contrasts import seed_statistics
from experiments.runs import add_earlier_rows, config_of, finished_runs, run_columns
from experiments.semantic.arithmetic_success import BATCH_SIZE, EXPRESSIONS, SCALES, SHUFFLED, measure_arithmetic
from experiments.tables import Row, read_rows

HERE = Path(__file__).parent
NEIGHBORS, SVM_IMAGES = 50_000, 10_000  # images that the classifiers are fitted on


def measure_probe(checkpoint: Path, source: SampleSource, data: BaseDataModule) -> Row:
    """Return the metrics of the checkpoint's probe and their baselines."""
    real, generator = load_real_statistics(data, {}, torch.device("cpu")), source.generator
    probe = NearestNeighborProbe(NEIGHBORS) if generator.classes else LinearProbe(SVM_IMAGES)
    metrics, baseline = probe(read_checkpoint(checkpoint), generator, real, 0)
    return metrics | {f"{name}_baseline": value for name, value in baseline.items()}


def measure(runs: list[Path]) -> None:
    """Measure each run and write probes.csv and arithmetic.csv after each."""
    probe_rows: list[Row] = []
    arithmetic_rows: list[Row] = []
    for run in runs:
        checkpoint = run / "checkpoints" / "last.ckpt"
        source = SampleSource(checkpoint, "cpu", BATCH_SIZE)
        columns = run_columns(run)
        probe_rows.append(columns | measure_probe(checkpoint, source, instantiate(config_of(run).data)))
        arithmetic_rows += [columns | row for row in measure_arithmetic(source)]
        for name, rows in (("probes.csv", probe_rows), ("arithmetic.csv", arithmetic_rows)):
            write_results(HERE / name, add_earlier_rows(HERE / name, rows))


def plot_arithmetic() -> None:
    rows = read_rows(HERE / "arithmetic.csv")
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, expression in zip(figure.subplots(1, len(EXPRESSIONS), sharey=True), EXPRESSIONS, strict=True):
        panel_rows = [row for row in rows if row["expression"] == expression]
        for i, variant in enumerate(dict.fromkeys(row["variant"] for row in panel_rows)):
            statistics = {
                name: next(iter(seed_statistics(selected, "success_percent").values()))
                for name in (*map(str, SCALES), SHUFFLED)
                if (selected := [r for r in panel_rows if (r["variant"], r["noise_scale"]) == (variant, name)])
            }
            axes.axhline(statistics.pop(SHUFFLED).mean, color=f"C{i}", lw=0.8, ls=":")
            low, high = ([f(spread.values) for spread in statistics.values()] for f in (min, max))
            x = [float(noise_scale) for noise_scale in statistics]
            axes.plot(x, [spread.mean for spread in statistics.values()], color=f"C{i}", marker="o", label=variant)
            axes.fill_between(x, low, high, color=f"C{i}", alpha=0.15, linewidth=0)
        axes.set(title=expression, xlabel=f"scale of the noise on the sum (dotted: {SHUFFLED}, no noise)")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("success rate, %")
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(HERE / "arithmetic.png", dpi=110)


def main() -> None:
    if runs := finished_runs(HERE.name):
        measure(runs)
    plot_arithmetic()


if __name__ == "__main__":
    main()
