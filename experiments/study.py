"""Run a study, or complete it, and write its results: make study NAME=upsampling

A study is a folder next to this file. Each of its YAML files is a sweep of `python -m dcgan.train`, with its runs below
runs/sweeps/NAME. Finished runs are skipped. The results are in the study's folder:

  runs.csv            a row per run, with its outcome
  curves.csv          a row per measurement of a run
  contrasts.csv       a row per comparison of a variant with the baseline of its sweep
  table.md            means with confidence intervals, and the comparisons
  SWEEP.png           metrics over the steps
  SWEEP_samples.png   the last samples of each variant, seed 0
  ...                 the output of the study's figures.py, if it has one

One sweep (NAME=upsampling/recipe_rates) or other seeds (SEEDS=3,4) are added to the runs in runs.csv.
`python -m experiments.study upsampling --from-csv` runs nothing and makes the other files again from runs.csv and
curves.csv.
Remove a study's runs before you run it with other settings or variants.
"""

import argparse
import importlib
import subprocess
import sys
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from dcgan.common.atomic_files import write_text
from dcgan.common.command import CONF
from dcgan.compare import format_mean
from experiments.contrasts import compare_with_baselines, comparison_table, seed_statistics
from experiments.plots import plot_curves, plot_images
from experiments.runs import RUNS, collect_results, seed_0_runs
from experiments.tables import FINISHED, Row, merge_rows, read_rows, write_rows

HERE = Path(__file__).parent
# the columns of table.md, if measured
TABLE_METRICS = (
    *("frechet", "frechet_random_conv", "kid", "kid_random_conv", "coverage", "coverage_random_conv", "modes"),
    *("class_kl", "label_agreement", "near_copies", "cb2", "pv2", "pv4"),
)
# the panels of SWEEP.png, if measured
PLOTTED_METRICS = {
    "test/frechet": "Frechet distance",
    "test/frechet_random_conv": "Frechet distance (random_conv)",
    "test/coverage": "coverage",
    "test/coverage_random_conv": "coverage (random_conv)",
    "test/modes": "modes",
}


def sweep_files(study: str = "*") -> list[str]:
    """Return the sweeps of a study, or of all, as STUDY/FILE, without the suffix. Recipes are YAML files, too."""
    paths = (path for path in HERE.glob(f"{study}/*.yaml") if "\nsweep:" in path.read_text())
    return sorted(f"{path.parent.name}/{path.stem}" for path in paths)


def sweep_configs(study: str) -> dict[str, DictConfig]:
    """Return the config of each sweep, before its overrides, by the sweep's name."""
    with initialize_config_dir(str(HERE), version_base="1.3"):
        search = f"hydra.searchpath=[file://{CONF}]"
        configs = [compose(file, overrides=[search]) for file in sweep_files(study)]
    return {config.sweep.name.rpartition("/")[2]: config for config in configs}


def run_sweeps(files: list[str], seeds: str | None) -> bool:
    """Run the sweeps, with other seeds if given. Return True if no job has failed."""
    command = [sys.executable, "-m", "dcgan.train", "-m", "--config-dir", str(HERE), "skip_finished=true"]
    command += [f"hydra.sweeper.params.seed='{seeds}'"] if seeds else []
    codes = [subprocess.call([*command, "--config-name", file]) for file in files]
    return not any(codes)


def results_table(runs: list[Row]) -> list[str]:
    """Return the lines of a Markdown table of means with 95 % intervals over the seeds, and why runs have failed."""
    finished = [row for row in runs if row["outcome"] == FINISHED]
    columns = {metric: seed_statistics(finished, metric) for metric in TABLE_METRICS}
    columns = {metric: variants for metric, variants in columns.items() if variants}
    lines = [f"| sweep | variant | seeds | {' | '.join(columns)} |", f"|{' --- |' * (3 + len(columns))}"]
    for key in dict.fromkeys((row["sweep"], row["variant"]) for row in runs):
        cells = [format_mean(variants[key]) if key in variants else "" for variants in columns.values()]
        outcomes = [row["outcome"] for row in runs if (row["sweep"], row["variant"]) == key]
        n = len(outcomes) if set(outcomes) == {FINISHED} else f"{outcomes.count(FINISHED)} of {len(outcomes)}"
        lines.append(f"| {' | '.join((*key, str(n), *cells))} |")
    failed = [row for row in runs if row["outcome"] != FINISHED]
    return [*lines, "", *(f"- {row['sweep']} {row['variant']} seed={row['seed']}: {row['outcome']}" for row in failed)]


def plot_sweep(curves: list[Row], path: Path, title: str, x: str = "step") -> None:
    """Plot the PLOTTED_METRICS of a sweep that were measured; no file if none was."""
    metrics = {metric: label for metric, label in PLOTTED_METRICS.items() if any(row.get(metric) for row in curves)}
    if metrics:
        plot_curves(curves, metrics, path, title, x)


def plot_samples(study: str, sweep: str, path: Path) -> None:
    """Plot the last samples of each variant, seed 0; no file if the runs do not exist any more."""
    last = {name: max(run.glob("samples/step_*.png"), default=None) for name, run in seed_0_runs(study, sweep).items()}
    if images := {variant: image for variant, image in last.items() if image}:
        plot_images(images, path)


def write_report(study: str, runs: list[Row], curves: list[Row], sweeps: dict[str, DictConfig]) -> None:
    """Write the files of a study's folder, and print its tables."""
    folder = HERE / study
    comparisons = compare_with_baselines(runs, sweeps)
    write_rows(folder / "runs.csv", runs)
    write_rows(folder / "curves.csv", curves)
    write_rows(folder / "contrasts.csv", comparisons)
    for sweep, rows in groupby(curves, itemgetter("sweep")):
        plot_sweep(list(rows), folder / f"{sweep}.png", f"{study}: {sweep.replace('_', ' ')}")
        plot_samples(study, sweep, folder / f"{sweep}_samples.png")
    tables = "\n".join([*results_table(runs), "", *comparison_table(comparisons)]) + "\n"
    write_text(folder / "table.md", tables)
    print(tables)
    if (folder / "figures.py").exists():
        importlib.import_module(f"experiments.{study}.figures").main()


def main() -> None:
    files = sweep_files()
    studies = sorted({file.partition("/")[0] for file in files})
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=[*studies, *files])
    parser.add_argument("--seeds", help="seeds instead of those of the sweeps, such as 3,4")
    parser.add_argument("--from-csv", action="store_true", help="run nothing, and use the runs in runs.csv")
    args = parser.parse_args()
    study, _, sweep = args.name.partition("/")
    sweeps = {name: config.sweep for name, config in sweep_configs(study).items()}
    if args.from_csv:
        if sweep or args.seeds:
            parser.error(f"--from-csv needs the name of a study, without --seeds. Use: {study} --from-csv")
        write_report(study, read_rows(HERE / study / "runs.csv"), read_rows(HERE / study / "curves.csv"), sweeps)
        return
    success = run_sweeps([args.name] if sweep else sweep_files(study), args.seeds)
    runs, curves = collect_results(RUNS / study, sweeps)
    if sweep or args.seeds:
        runs = merge_rows(read_rows(HERE / study / "runs.csv", missing_ok=True), runs)
        curves = merge_rows(read_rows(HERE / study / "curves.csv", missing_ok=True), curves)
    write_report(study, runs, curves, sweeps)
    sys.exit(not success)


if __name__ == "__main__":
    main()
