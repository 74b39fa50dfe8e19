"""The comparisons that a study is made for: each arm against the one that its sweep names.

`sweep.against`: an arm of the same sweep, or SWEEP/ARM; `sweep.figures`: what is compared.
"""

import math
import warnings
from collections.abc import Iterable
from operator import itemgetter

from omegaconf import DictConfig
from scipy import stats

from dcgan.runs.statistics import CONFIDENCE, SeedStatistics
from experiments.tables import LEARNED, Row

RATIOS = ("frechet",)  # which spread in proportion to their size; differences of the others
Arm = tuple[str, str]  # its sweep, and what it is called there
FEWEST = 2  # runs of an arm
NONE = SeedStatistics(())
SURE = 0.001  # p-values below are not exact


def seed_statistics(rows: Iterable[Row], figure: str) -> dict[Arm, SeedStatistics]:
    """The figure in each arm of each sweep, over its seeds."""
    values: dict[Arm, list[float]] = {}
    for row in rows:
        if row.get(figure) not in (None, ""):
            values.setdefault((row["sweep"], row["arm"]), []).append(float(row[figure]))
    return {arm: SeedStatistics(tuple(own)) for arm, own in values.items()}


def contrasts(runs: list[Row], sweeps: dict[str, DictConfig]) -> list[Row]:
    """What the seeds say of each arm beside the one that it is compared with, a row an arm and a figure.

    A sweep asks one question: its arms are tested together, and those of other sweeps say nothing of their variance.
    sweeps: the `sweep` settings of each.
    """
    learned = [row for row in runs if row["outcome"] == LEARNED]
    rows = []
    for sweep, settings in sweeps.items():
        other, _, name = str(settings.against).rpartition("/")
        base = (other or sweep, name)
        arms = dict.fromkeys((sweep, row["arm"]) for row in runs if row["sweep"] == sweep)
        for figure in settings.figures:
            measured = seed_statistics(learned, figure)
            of = {arm: measured.get(arm, NONE).values for arm in arms if arm != base}
            rows += [
                {"sweep": sweep, "arm": arm, "against": "/".join(base), "figure": figure} | found
                for (_, arm), found in dunnett(of, measured.get(base, NONE).values, figure in RATIOS).items()
            ]
    return rows


def dunnett(arms: dict[Arm, tuple[float, ...]], base: tuple[float, ...], ratios: bool) -> dict[Arm, Row]:
    """Dunnett's comparison of several arms with one (1955): differences of means, or ratios of geometric ones, with
    intervals that hold for all arms together in 95 % of studies, and the p-values to them. One variance is estimated
    from all, for a few seeds tell little of each arm's own. NaN for an arm with fewer than two values, or a base.
    """
    into, back = (math.log, math.exp) if ratios else (float, float)
    shared = {"as": "ratio" if ratios else "difference", "n_against": len(base)}
    tested = {arm: [into(value) for value in own] for arm, own in arms.items() if min(len(own), len(base)) >= FEWEST}
    found: dict[Arm, Row] = {
        arm: shared | {"n": len(own)} | dict.fromkeys(("found", "low", "high", "p"), math.nan)
        for arm, own in arms.items()
    }
    if tested:
        control = [into(value) for value in base]
        with warnings.catch_warnings():  # scipy's, of counts of modes that are all the same
            warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
            test = stats.dunnett(*tested.values(), control=control, rng=0)
        interval = test.confidence_interval(CONFIDENCE)
        for arm, low, high, p in zip(tested, interval.low, interval.high, test.pvalue, strict=True):
            difference = sum(tested[arm]) / len(tested[arm]) - sum(control) / len(control)
            found[arm] |= {"found": back(difference), "low": back(low), "high": back(high), "p": float(p)}
    return found


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
    for sweep, arm, against in dict.fromkeys(map(who, rows)):
        found = {row["figure"]: cell(row) for row in rows if who(row) == (sweep, arm, against)}
        base = against.removeprefix(f"{sweep}/")
        lines.append(f"| {' | '.join((sweep, arm, base, *(found.get(figure, '') for figure in figures)))} |")
    return lines


def cell(row: Row) -> str:
    if math.isnan(row["found"]):
        return "too few runs"
    found, low, high = (f"{row[name]:.2f}" for name in ("found", "low", "high"))
    p = f"p = {row['p']:.2g}" if row["p"] >= SURE else f"p < {SURE}"
    return f"{found} ({low} to {high}), {p}"
