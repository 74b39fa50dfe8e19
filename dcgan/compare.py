"""Sum up runs: `python -m dcgan.compare FOLDER`."""

import csv
import io
import math
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from dcgan import cli
from dcgan.checks import UserError
from dcgan.comparison import Run, Spread, against_best, find_runs, group_runs, ranked, spreads
from dcgan.files import atomic_path, write_text

LEVEL = 0.05
Row = tuple[str, Spread, float | None]  # a group, its figure, and p against the best group


def rows_of(groups: dict[str, list[Run]], figure: str, better: str) -> list[Row]:
    """The groups, best first where the figure has a direction."""
    of = ranked(spreads(groups, figure), better)
    p = against_best(of, better) if better in ("lower", "higher", "zero") and len(of) > 1 else {}
    return [(name, spread, p.get(name)) for name, spread in of.items()]


def verdict(p: float | None) -> str:
    """What the seeds say of the difference to the best group."""
    if p is None:
        return ""
    if math.isnan(p):
        return "one seed: no telling"
    return f"worse (p = {p:.2g})" if p < LEVEL else f"not told apart from the best by these seeds (p = {p:.2g})"


def number(spread: Spread) -> str:
    """Mean ± half the interval's width, which has two digits that count; so many decimals has the mean."""
    half = spread.half_width
    if math.isnan(half) or half == 0:
        return f"{spread.mean:.4g}"
    decimals = max(0, 1 - math.floor(math.log10(half)))
    return f"{spread.mean:.{decimals}f} ± {half:.{decimals}f}"


def lines(tables: dict[str, list[Row]], better: dict[str, str], left_out: dict[Path, str]) -> list[str]:
    """Markdown that reads well on a terminal too."""
    text = [
        "Mean ± 95 % interval over seeds (Student's t); p: Welch's test against the best group, Holm-corrected over "
        "all pairs.",
        "",
    ]
    for figure, rows in tables.items():
        width = max(len(name) for name, *_ in rows)
        direction = {"zero": "nearest to 0 first"}.get(better[figure], f"{better[figure]} is better")
        text += [f"### {figure} ({direction})", "", f"| {'runs':<{width}} | mean | n | against the best |"]
        text += ["| --- | --- | --- | --- |"]
        text += [f"| {name:<{width}} | {number(spread)} | {spread.n} | {verdict(p)} |" for name, spread, p in rows]
        text.append("")
    if left_out:
        text += ["### left out", "", *(f"- {folder} {reason}" for folder, reason in left_out.items()), ""]
    return text


def as_csv(tables: dict[str, list[Row]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(("figure", "runs", "mean", "half_width", "n", "p_against_best"))
    for figure, rows in tables.items():
        for name, spread, p in rows:
            half = None if math.isnan(spread.half_width) else spread.half_width
            writer.writerow((figure, name, spread.mean, half, spread.n, None if p is None or math.isnan(p) else p))
    return buffer.getvalue()


def compare(cfg: DictConfig) -> None:
    if cfg.folder is None:
        raise UserError("give the folder of the runs: python -m dcgan.compare FOLDER")
    folder = Path(cfg.folder)
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: give one that has runs below it")
    runs, left_out = find_runs(folder, cfg.full)
    if not runs:
        reasons = "; ".join(f"{place} {reason}" for place, reason in left_out.items())
        raise UserError(f"no run below {folder} can be compared" + (f": {reasons}" if reasons else ""))
    groups = group_runs(runs)
    better = {name: direction for run in runs for name, direction in run.better.items()}
    figures = dict.fromkeys(name for run in runs for name in run.figures)
    tables = {figure: rows_of(groups, figure, better.get(figure, "")) for figure in figures}
    tables = {figure: rows for figure, rows in tables.items() if rows}
    shown = {figure: rows for figure, rows in tables.items() if better.get(figure) in ("lower", "higher", "zero")}

    text = lines(shown, better, left_out)
    Console(soft_wrap=True, highlight=False, markup=False).print("\n".join(text))
    from dcgan.plots import comparison_plot  # matplotlib takes a second

    out = Path(cfg.out) if cfg.out is not None else folder
    for name, content in (("compare.csv", as_csv(tables)), ("compare.md", "\n".join(text))):
        write_text(out / name, content)
    with atomic_path(out / "compare.png") as temporary:
        comparison_plot(shown, better).savefig(temporary, format="png")
    print(f"table        {out / 'compare.md'}, {out / 'compare.csv'}")
    print(f"plot         {out / 'compare.png'}")


def prepare(arguments: list[str]) -> list[str]:
    """The folder may stand alone."""
    named = [f"folder={a}" if "=" not in a and not a.startswith("-") else a for a in arguments]
    return [f"folder={a}" if "=" in a and Path(a).is_dir() else a for a in named]


def main() -> None:
    cli.main("compare", compare, prepare)


if __name__ == "__main__":
    main()
