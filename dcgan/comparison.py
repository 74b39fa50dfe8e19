"""Runs that differ in more than their seed, summed up: what is the same, what differs, and what the seeds support."""

import json
import math
import statistics
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from scipy import stats

from dcgan.run_folder import FAILURE, SUMMARY
from dcgan.settings import ASIDE_GROUPS, aside, flatten

CONFIDENCE = 0.95


class Unfit(Exception):
    """Why a run cannot be compared, behind its folder's name."""


@dataclass(frozen=True)
class Run:
    """A finished run: its settings by dotted key (the chosen options by their group), its seed and its figures."""

    folder: Path
    settings: dict[str, Any]
    named: frozenset[str]  # settings that its command line named
    seed: int
    figures: dict[str, float | None]
    better: dict[str, str]


@dataclass(frozen=True)
class Spread:
    """A figure of n runs that differ in their seed alone."""

    values: tuple[float, ...]

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def half_width(self) -> float:
        """Of the 95 % interval of the mean (Student's t); NaN for one run."""
        if self.n < 2:
            return math.nan
        t = float(stats.t.ppf((1 + CONFIDENCE) / 2, self.n - 1))
        return t * statistics.stdev(self.values) / math.sqrt(self.n)


def find_runs(folder: Path, full: bool) -> tuple[list[Run], dict[Path, str]]:
    """The runs below a folder that can be compared, and why each of the others cannot.

    full: take the figures of last.evaluation.json, else those of summary.json; never some of each.
    """
    runs: list[Run] = []
    left_out: dict[Path, str] = {}
    for place in sorted({path.parent for name in (".hydra", SUMMARY, FAILURE) for path in folder.rglob(name)}):
        try:
            run = read_run(place, full)
        except FileNotFoundError as error:
            left_out[place] = why_missing(Path(error.filename))
            continue
        except Unfit as error:
            left_out[place] = str(error)
            continue
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            left_out[place] = f"its files cannot be read ({type(error).__name__}: {error})"
            continue
        twin = next((other for other in runs if (other.settings, other.seed) == (run.settings, run.seed)), None)
        if twin is not None:
            left_out[place] = f"same settings and seed as {twin.folder}, so no run of its own"
        elif all(value is None for value in run.figures.values()):
            left_out[place] = "has no figures"
        else:
            runs.append(run)
    return runs, left_out


def read_run(folder: Path, full: bool) -> Run:
    if (folder / FAILURE).exists():
        raise Unfit(f"failed: {(folder / FAILURE).read_text().strip()}")
    summary = json.loads((folder / SUMMARY).read_text())
    source = json.loads((folder / "checkpoints" / "last.evaluation.json").read_text()) if full else summary
    if full and (at := source["checkpoint"]["step"]) != summary["step"]:
        raise Unfit(f"was evaluated at step {at} and is at {summary['step']} now: evaluate it again")
    settings = {group: option for group, option in summary["choices"].items() if group not in ASIDE_GROUPS}
    config = {key: value for key, value in flatten(summary["config"]).items() if not aside(key)}
    settings |= {key: json.dumps(value).strip('"') for key, value in config.items()}
    settings["judge"] = (source["judge"] or {}).get("sha256", "none")[:8]
    settings["rolled back"] = bool(summary.get("rolled_back"))  # to lower rates than the config's
    settings |= {"images measured": source["n"]} if full else {}
    overrides = folder / ".hydra" / "overrides.yaml"
    named = {str(o).partition("=")[0].lstrip("+~") for o in (OmegaConf.load(overrides) if overrides.exists() else ())}
    return Run(folder, settings, frozenset(named), summary["config"]["seed"], source["metrics"], source["better"])


def why_missing(path: Path) -> str:
    if path.name != SUMMARY:
        return f"was not evaluated: python -m dcgan.evaluate checkpoint={path.parent / 'last.ckpt'}"
    return f"is not finished (no {SUMMARY})"


def distinct(runs: Iterable[Run], keys: Iterable[str]) -> dict[tuple[Any, ...], list[Run]]:
    groups: dict[tuple[Any, ...], list[Run]] = {}
    chosen = list(keys)
    for run in runs:
        groups.setdefault(tuple(run.settings.get(key, "-") for key in chosen), []).append(run)
    return groups


def group_runs(runs: list[Run]) -> dict[str, list[Run]]:
    """The runs by what differs between them except the seed, under the fewest settings that tell the groups apart;
    those that a command line named come first, then config groups, then plain keys."""
    keys = list(dict.fromkeys(key for run in runs for key in run.settings))
    # a key that some runs lack is younger than they are, or goes with a choice that differs, too
    differing = [key for key in keys if len({run.settings[key] for run in runs if key in run.settings}) > 1]
    named = frozenset().union(*(run.named for run in runs))
    kept = sorted(differing, key=lambda key: key not in named)  # stable: the order within both is that of the summary
    number = len(distinct(runs, kept))
    for key in reversed(kept):
        fewer = [other for other in kept if other != key]
        if len(distinct(runs, fewer)) == number:
            kept = fewer
    return {
        " ".join(f"{k}={v}" for k, v in zip(kept, values, strict=True)) or "all runs": members
        for values, members in distinct(runs, kept).items()
    }


def spreads(groups: dict[str, list[Run]], figure: str) -> dict[str, Spread]:
    """The figure's spread in each group that has it."""
    found = {name: [run.figures.get(figure) for run in members] for name, members in groups.items()}
    kept = {name: tuple(v for v in values if v is not None) for name, values in found.items()}
    return {name: Spread(values) for name, values in kept.items() if values}


def ranked(of: dict[str, Spread], better: str) -> dict[str, Spread]:
    """Best first: the lowest, the highest or, for "zero", the one whose values lie nearest to it."""
    order = {
        "lower": lambda s: s.mean,
        "higher": lambda s: -s.mean,
        "zero": lambda s: statistics.fmean(map(abs, s.values)),
    }
    return dict(sorted(of.items(), key=lambda item: order[better](item[1]))) if better in order else of


def against_best(of: dict[str, Spread], better: str) -> dict[str, float]:
    """For each group but the first (the best) of `ranked`: Welch's t-test that its mean is another one, with Holm's
    correction for all pairs of groups, for the best of them is known by these very values. NaN where a group has a
    single run."""
    values = {name: [abs(v) if better == "zero" else v for v in spread.values] for name, spread in of.items()}
    raw = {(a, b): welch(values[a], values[b]) for a, b in combinations(values, 2)}
    tested = sorted((p, pair) for pair, p in raw.items() if not math.isnan(p))
    corrected, largest = dict(raw), 0.0
    for i, (p, pair) in enumerate(tested):
        largest = max(largest, min(1.0, p * (len(tested) - i)))
        corrected[pair] = largest
    best, *others = of
    return {name: corrected[best, name] for name in others}


def welch(a: list[float], b: list[float]) -> float:
    if min(len(a), len(b)) < 2:
        return math.nan
    if len(set(a)) == len(set(b)) == 1:
        return 1.0 if a[0] == b[0] else 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # values that are nearly the same
        return float(stats.ttest_ind(a, b, equal_var=False).pvalue)
