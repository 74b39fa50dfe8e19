"""Compare finished runs over seeds: collect and group them, and compute confidence intervals and tests."""

import json
import math
import statistics
import warnings
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from scipy import stats

from dcgan.common.overrides import override_key
from dcgan.runs.config_diff import IGNORED_GROUPS, flatten, is_ignored
from dcgan.runs.run_dir import FAILURE, SUMMARY

CONFIDENCE = 0.95


class IncomparableRun(Exception):
    """A run cannot be compared. The message is the reason, to be printed after the run's folder."""


@dataclass(frozen=True)
class Run:
    """A finished run: its settings by dotted key (options by their config group), its seed and its metrics."""

    folder: Path
    settings: dict[str, Any]
    override_keys: frozenset[str]  # of its command line
    seed: int
    metrics: dict[str, float | None]
    better: dict[str, str]


@dataclass(frozen=True)
class SeedStatistics:
    """The values of a metric in runs that differ only in their seed."""

    values: tuple[float, ...]

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def half_width(self) -> float:
        """Half the width of the mean's 95 % confidence interval (Student's t); NaN for one run."""
        if self.n < 2:
            return math.nan
        t = float(stats.t.ppf((1 + CONFIDENCE) / 2, self.n - 1))
        return t * statistics.stdev(self.values) / math.sqrt(self.n)


Row = tuple[str, SeedStatistics, float | None]  # a group's name, its metric, and p against the best group


def find_runs(folder: Path, full: bool) -> tuple[list[Run], dict[Path, str]]:
    """Return the runs below a folder that can be compared, and the reason for each other run that it cannot.

    Args:
        folder: Searched with its subfolders.
        full: Read the metrics of all runs from last.evaluation.json instead of summary.json.
    """
    runs: list[Run] = []
    excluded: dict[Path, str] = {}
    for run_dir in sorted({path.parent for name in (".hydra", SUMMARY, FAILURE) for path in folder.rglob(name)}):
        try:
            run = read_run(run_dir, full)
        except FileNotFoundError as error:
            excluded[run_dir] = missing_file_reason(Path(error.filename))
        except IncomparableRun as error:
            excluded[run_dir] = str(error)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            excluded[run_dir] = f"its files cannot be read ({type(error).__name__}: {error})"
        else:
            twin = next((other for other in runs if (other.settings, other.seed) == (run.settings, run.seed)), None)
            if twin is not None:
                excluded[run_dir] = f"has the same settings and seed as {twin.folder}"
            elif all(value is None for value in run.metrics.values()):
                excluded[run_dir] = "has no metrics"
            else:
                runs.append(run)
    return runs, excluded


def read_run(folder: Path, full: bool) -> Run:
    if (folder / FAILURE).exists():
        raise IncomparableRun(f"failed: {(folder / FAILURE).read_text().strip()}")
    summary = json.loads((folder / SUMMARY).read_text())
    source = json.loads((folder / "checkpoints" / "last.evaluation.json").read_text()) if full else summary
    if full and (step := source["checkpoint"]["step"]) != summary["step"]:
        raise IncomparableRun(f"was evaluated at step {step} but ended at step {summary['step']}: evaluate it again")
    settings = {group: option for group, option in summary["choices"].items() if group not in IGNORED_GROUPS}
    config = {key: value for key, value in flatten(summary["config"]).items() if not is_ignored(key)}
    settings |= {key: json.dumps(value).strip('"') for key, value in config.items()}
    settings["judge"] = (source["judge"] or {}).get("sha256", "none")[:8]
    settings["rolled back"] = bool(summary.get("rolled_back"))  # its learning rates are lower than the config's
    settings |= {"images measured": source["n"]} if full else {}
    overrides = folder / ".hydra" / "overrides.yaml"
    keys = frozenset(override_key(str(o)) for o in (OmegaConf.load(overrides) if overrides.exists() else ()))
    return Run(folder, settings, keys, summary["config"]["seed"], source["metrics"], source["better"])


def missing_file_reason(path: Path) -> str:
    if path.name != SUMMARY:
        return f"was not evaluated: python -m dcgan.evaluate checkpoint={path.parent / 'last.ckpt'}"
    return f"is not finished (no {SUMMARY})"


def group_by(runs: list[Run], keys: list[str]) -> dict[tuple[Any, ...], list[Run]]:
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(run.settings.get(key, "-") for key in keys), []).append(run)
    return groups


def group_runs(runs: list[Run]) -> dict[str, list[Run]]:
    """Group runs by the settings that differ between them, except the seed.

    A group's name lists only settings that are needed to distinguish the groups: preferably keys that a command line
    overrides, then config groups, then other keys.
    """
    all_keys = list(dict.fromkeys(key for run in runs for key in run.settings))
    # a key that some runs lack is newer than they are, or belongs to an option that differs, too
    differing = [key for key in all_keys if len({run.settings[key] for run in runs if key in run.settings}) > 1]
    overridden = frozenset().union(*(run.override_keys for run in runs))
    keys = sorted(differing, key=lambda key: key not in overridden)  # stable: else in the order of the summary
    n_groups = len(group_by(runs, keys))
    for key in reversed(keys):
        fewer = [other for other in keys if other != key]
        if len(group_by(runs, fewer)) == n_groups:
            keys = fewer
    return {
        " ".join(f"{k}={v}" for k, v in zip(keys, values, strict=True)) or "all runs": members
        for values, members in group_by(runs, keys).items()
    }


def seed_statistics(groups: dict[str, list[Run]], metric: str) -> dict[str, SeedStatistics]:
    """Return the metric's values in each group that has any."""
    metrics = {name: [run.metrics.get(metric) for run in members] for name, members in groups.items()}
    by_group = {name: SeedStatistics(tuple(v for v in m if v is not None)) for name, m in metrics.items()}
    return {name: values for name, values in by_group.items() if values.n}


def rank_groups(groups: dict[str, SeedStatistics], better: str) -> dict[str, SeedStatistics]:
    """Sort groups, best first; "zero" means by mean absolute value. Other values of `better` leave them unsorted."""
    order = {
        "lower": lambda s: s.mean,
        "higher": lambda s: -s.mean,
        "zero": lambda s: statistics.fmean(map(abs, s.values)),
    }
    return dict(sorted(groups.items(), key=lambda item: order[better](item[1]))) if better in order else groups


def p_values_against_best(groups: dict[str, SeedStatistics], better: str) -> dict[str, float]:
    """Return the p-value of each group's difference to the best group, which is the first one (see `rank_groups`).

    Welch's t-test (of absolute values if better is "zero"), Holm-corrected over all pairs of groups, because the best
    group is selected by the same values. NaN if one of the two groups has a single run.
    """
    values = {name: [abs(v) if better == "zero" else v for v in s.values] for name, s in groups.items()}
    raw = {(a, b): welch_test(values[a], values[b]) for a, b in combinations(values, 2)}
    tested = sorted((p, pair) for pair, p in raw.items() if not math.isnan(p))
    corrected, largest = dict(raw), 0.0
    for i, (p, pair) in enumerate(tested):
        largest = max(largest, min(1.0, p * (len(tested) - i)))
        corrected[pair] = largest
    best, *others = groups
    return {name: corrected[best, name] for name in others}


def welch_test(a: list[float], b: list[float]) -> float:
    """Return the p-value of Welch's t-test, NaN if it is undefined."""
    if min(len(a), len(b)) < 2:
        return math.nan
    if len(set(a)) == len(set(b)) == 1:
        return 1.0 if a[0] == b[0] else 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # scipy's, of nearly equal values
        return float(stats.ttest_ind(a, b, equal_var=False).pvalue)
