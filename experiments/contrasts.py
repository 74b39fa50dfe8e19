"""The comparisons that a study is made for, decided before its runs: each arm against the one that its sweep names.

`sweep.against`: an arm of the same sweep, or SWEEP/ARM; `sweep.figures`: what is compared.
"""

import math
from collections.abc import Iterable
from itertools import groupby
from operator import itemgetter

from omegaconf import DictConfig
from scipy import stats

from dcgan.comparison import CONFIDENCE, holm
from experiments.tables import LEARNED, Row

RATIOS = ("frechet",)  # which spread in proportion to their size; differences of the others


def values(runs: Iterable[Row], sweep: str, arm: str, figure: str) -> list[float]:
    """The figure of the arm's runs that have learned and have it, one a seed."""
    own = [row for row in runs if (row["sweep"], row["arm"], row["outcome"]) == (sweep, arm, LEARNED)]
    return [float(row[figure]) for row in own if row.get(figure) not in (None, "")]


def contrasts(runs: list[Row], sweeps: dict[str, DictConfig]) -> list[Row]:
    """What each arm's seeds say of its figures beside those of the arm it is compared with: the ratio of geometric
    means or the difference of means, its 95 % interval, and Welch's test, Holm-corrected over all arms of the study.

    sweeps: the `sweep` settings of each.
    """
    rows: list[Row] = []
    for sweep, settings in sweeps.items():
        other, _, base = str(settings.against).rpartition("/")
        arms = dict.fromkeys(row["arm"] for row in runs if row["sweep"] == sweep)
        rows += [
            {"sweep": sweep, "arm": arm, "against": settings.against, "figure": figure}
            | contrast(figure, values(runs, sweep, arm, figure), values(runs, other or sweep, base, figure))
            for figure in settings.figures
            for arm in arms
            if (arm, sweep) != (base, other or sweep)
        ]
    rows.sort(key=itemgetter("figure"))
    for _, same in groupby(rows, itemgetter("figure")):
        tested = list(same)
        for row, p in zip(tested, holm([row["p"] for row in tested]), strict=True):
            row["p_holm"] = p
    return rows


def contrast(figure: str, own: list[float], base: list[float]) -> Row:
    """The arm's values against the base's: NaN where one of them has fewer than two."""
    row: Row = {"n": len(own), "n_against": len(base), "as": "ratio" if figure in RATIOS else "difference"}
    if min(len(own), len(base)) < 2:
        return row | dict.fromkeys(("found", "low", "high", "p"), math.nan)
    into, back = (math.log, math.exp) if figure in RATIOS else (float, float)
    a, b = ([into(value) for value in of] for of in (own, base))
    test = stats.ttest_ind(a, b, equal_var=False)
    low, high = test.confidence_interval(CONFIDENCE)
    found = sum(a) / len(a) - sum(b) / len(b)
    return row | {"found": back(found), "low": back(low), "high": back(high), "p": float(test.pvalue)}


def as_markdown(rows: list[Row]) -> list[str]:
    """A line for each arm, a column for each figure."""
    if not rows:
        return []
    figures = {row["figure"]: row["as"] for row in rows}
    lines = [
        f"| sweep | arm | against | {' | '.join(f'{figure}, {how}' for figure, how in figures.items())} |",
        f"|{' --- |' * (3 + len(figures))}",
    ]
    who = itemgetter("sweep", "arm", "against")
    for arm in dict.fromkeys(map(who, rows)):
        found = {row["figure"]: cell(row) for row in rows if who(row) == arm}
        lines.append(f"| {' | '.join((*arm, *(found.get(figure, '') for figure in figures)))} |")
    return lines


def cell(row: Row) -> str:
    if math.isnan(row["found"]):
        return "too few runs"
    found, low, high = (f"{row[name]:.2f}" for name in ("found", "low", "high"))
    return f"{found} ({low} to {high}), p = {row['p_holm']:.2g}"
