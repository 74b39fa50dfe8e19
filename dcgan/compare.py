"""Compare runs over seeds: `python -m dcgan.compare FOLDER`."""

import csv
import io
import math
from pathlib import Path

from omegaconf import DictConfig

from dcgan.common import command
from dcgan.common.atomic_files import atomic_path, write_text
from dcgan.common.errors import UserError
from dcgan.runs.statistics import Row, SeedStatistics, comparison_rows, find_runs, group_runs

SIGNIFICANCE_LEVEL = 0.05
DIRECTIONS = {"lower": "lower", "higher": "higher", "zero": "closer to 0"}


def verdict(p: float | None) -> str:
    """Describe a group's difference from the best group by its p-value.

    Args:
        p: None for the best group itself; NaN if there is no test.
    """
    if p is None:
        return ""
    if math.isnan(p):
        return "one seed: no test"
    return f"worse (p = {p:.2g})" if p < SIGNIFICANCE_LEVEL else f"no significant difference to the best (p = {p:.2g})"


def format_mean(values: SeedStatistics) -> str:
    """Return mean ± half-width of the interval, rounded to two significant digits of the half-width."""
    half = values.half_width
    if math.isnan(half) or half == 0:
        return f"{values.mean:.4g}"
    decimals = max(0, 1 - math.floor(math.log10(half)))
    return f"{values.mean:.{decimals}f} ± {half:.{decimals}f}"


def to_markdown(tables: dict[str, list[Row]], excluded: dict[Path, str]) -> str:
    """Return the tables below their titles, and the excluded runs with the reasons."""
    lines = [
        "Mean ± half-width of the 95 % confidence interval over seeds (Student's t). p: Welch's t-test against the",
        "best group, Holm-corrected over all pairs of groups.",
        "",
    ]
    for title, rows in tables.items():
        width = max(len(name) for name, *_ in rows)
        lines += [f"### {title}", "", f"| {'runs':<{width}} | mean | n | against the best |"]
        lines += ["| --- | --- | --- | --- |"]
        lines += [f"| {name:<{width}} | {format_mean(runs)} | {runs.n} | {verdict(p)} |" for name, runs, p in rows]
        lines.append("")
    if excluded:
        lines += ["### excluded", "", *(f"- {folder} {reason}" for folder, reason in excluded.items()), ""]
    return "\n".join(lines)


def to_csv(tables: dict[str, list[Row]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(("figure", "runs", "mean", "half_width", "n", "p_against_best"))
    for metric, rows in tables.items():
        for name, values, p in rows:
            half = None if math.isnan(values.half_width) else values.half_width
            writer.writerow((metric, name, values.mean, half, values.n, None if p is None or math.isnan(p) else p))
    return buffer.getvalue()


def compare(cfg: DictConfig) -> None:
    if cfg.folder is None:
        raise UserError("give the folder of the runs: python -m dcgan.compare FOLDER")
    folder = Path(cfg.folder)
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: give a folder that contains runs")
    runs, excluded = find_runs(folder, cfg.full)
    if not runs:
        reasons = "; ".join(f"{run_dir} {reason}" for run_dir, reason in excluded.items())
        raise UserError(f"no run below {folder} can be compared" + (f": {reasons}" if reasons else ""))
    groups = group_runs(runs)
    better = {metric: direction for run in runs for metric, direction in run.better.items()}
    metrics = dict.fromkeys(metric for run in runs for metric in run.metrics)
    tables = {metric: rows for metric in metrics if (rows := comparison_rows(groups, metric, better.get(metric, "")))}
    titled = {
        f"{metric} ({DIRECTIONS[better[metric]]} is better)": rows
        for metric, rows in tables.items()
        if better.get(metric) in DIRECTIONS
    }

    text = to_markdown(titled, excluded)
    print(text)
    from dcgan.runs.plots import comparison_plot

    out = Path(cfg.out) if cfg.out is not None else folder
    write_text(out / "compare.csv", to_csv(tables))
    write_text(out / "compare.md", text)
    with atomic_path(out / "compare.png") as temporary:
        comparison_plot(titled).savefig(temporary, format="png")
    print(f"table        {out / 'compare.md'}, {out / 'compare.csv'}")
    print(f"plot         {out / 'compare.png'}")


def prepare(arguments: list[str]) -> list[str]:
    """Add folder= to an argument without "=", or with one if it is an existing folder."""
    return [f"folder={a}" if (Path(a).is_dir() if "=" in a else not a.startswith("-")) else a for a in arguments]


def main() -> None:
    command.main("compare", compare, prepare)


if __name__ == "__main__":
    main()
