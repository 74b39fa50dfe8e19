"""Compare finished runs over seeds: collect and group them, and compute confidence intervals and tests."""

import json
import math
import statistics
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar

from scipy import stats

from dcgan.common.errors import UserError
from dcgan.common.overrides import override_key
from dcgan.common.schema import read_json, read_yaml
from dcgan.runs.config_diff import IGNORED_GROUPS, flatten, is_ignored
from dcgan.runs.run_dir import FAILURE, METRICS, PRUNED, SUMMARY, SUMMARY_SCHEMA

CONFIDENCE = 0.95
Key = TypeVar("Key", bound=Hashable)
MISSING = "-"  # value of a setting that a run does not have


@dataclass(frozen=True)
class Run:
    """A finished run: its settings by dotted key (options by their config group), its seed and its metrics."""

    folder: Path
    settings: dict[str, Any]
    override_keys: frozenset[str]  # of its command line
    seed: int
    metrics: dict[str, float | None]
    better: dict[str, str]  # `MetricSpec.better` of each metric


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


@dataclass(frozen=True)
class WelchTest:
    """The difference of two means, with its 95 % confidence interval and p-value (`welch_test`).

    The interval and the p-value are those of this comparison alone. They are not corrected for other comparisons.
    """

    difference: float
    low: float
    high: float
    p: float


Row = tuple[str, SeedStatistics, float | None]  # a group's name, its statistics, and p against the best group
# sort keys for `MetricSpec.better`; the best group comes first
RANKINGS: dict[str, Callable[[SeedStatistics], float]] = {
    "lower": lambda s: s.mean,
    "higher": lambda s: -s.mean,
    "zero": lambda s: statistics.fmean(map(abs, s.values)),
}


def find_runs(folder: Path, full: bool) -> tuple[list[Run], dict[Path, str]]:
    """Return the runs that can be compared, and by folder, why the others cannot.

    Args:
        folder: Searched with its subfolders.
        full: Read the metrics of all runs from last.evaluation.json instead of summary.json.
    """
    runs: list[Run] = []
    excluded: dict[Path, str] = {}
    for run_dir in sorted({path.parent for name in (".hydra", SUMMARY, FAILURE) for path in folder.rglob(name)}):
        try:
            run = read_run(run_dir, full)
            for other in runs:
                if (other.settings, other.seed) == (run.settings, run.seed):
                    raise UserError(f"has the same settings and seed as {other.folder}")
            runs.append(run)
        except UserError as error:
            excluded[run_dir] = str(error)
    return runs, excluded


def read_run(folder: Path, full: bool) -> Run:
    """Read the run of a folder. UserError if it failed, was pruned, is not finished, or was not evaluated."""
    if (folder / FAILURE).exists():
        raise UserError(f"failed: {(folder / FAILURE).read_text(errors='replace').strip()}")
    if (folder / PRUNED).exists():
        raise UserError((folder / PRUNED).read_text(errors="replace").strip())
    if not (folder / SUMMARY).exists():
        raise UserError(f"is not finished (no {SUMMARY})")
    source = summary = read_json(folder / SUMMARY, SUMMARY_SCHEMA)
    if full:
        evaluation = folder / "checkpoints" / "last.evaluation.json"
        if not evaluation.exists():
            command = f"python -m dcgan.evaluate checkpoint={evaluation.with_name('last.ckpt')}"
            raise UserError(f"was not evaluated: {command}")
        source = read_json(evaluation, {**METRICS, "n": int, "checkpoint": {"step": int}})
        if (step := source["checkpoint"]["step"]) != summary["step"]:
            raise UserError(f"was evaluated at step {step} but ended at step {summary['step']}: evaluate it again")
    if all(value is None for value in source["metrics"].values()):
        raise UserError("has no metrics")
    settings = {group: str(option) for group, option in summary["choices"].items() if group not in IGNORED_GROUPS}
    config = {key: value for key, value in flatten(summary["config"]).items() if not is_ignored(key)}
    settings |= {key: json.dumps(value).strip('"') for key, value in config.items()}
    settings["judge"] = str((source["judge"] or {}).get("sha256", "none"))[:8]
    # by a resumed run; summaries of older versions lack the key
    settings["learning rates changed"] = "; ".join(summary.get("learning_rate_changes", ())) or MISSING
    settings |= {"images measured": source["n"]} if full else {}
    overrides = folder / ".hydra" / "overrides.yaml"
    keys = frozenset(override_key(o) for o in (read_yaml(overrides, [str]) if overrides.exists() else ()))
    return Run(folder, settings, keys, summary["config"]["seed"], source["metrics"], source["better"])


def group_by(runs: list[Run], keys: list[str]) -> dict[tuple[Any, ...], list[Run]]:
    """Group runs by the values of the settings `keys`."""
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(run.settings.get(key, MISSING) for key in keys), []).append(run)
    return groups


def group_runs(runs: list[Run]) -> dict[str, list[Run]]:
    """Group runs by the settings that differ between them, except the seed.

    A group's name has the fewest settings that distinguish it from the others. It prefers keys that a command line
    overrides, then config groups, then other keys.
    """
    all_keys = list(dict.fromkeys(key for run in runs for key in run.settings))
    # a key that some runs lack is newer than they are, or belongs to an option that also differs
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
    values = {
        name: tuple(value for run in members if (value := run.metrics.get(metric)) is not None)
        for name, members in groups.items()
    }
    return {name: SeedStatistics(group) for name, group in values.items() if group}


def rank_groups(groups: dict[str, SeedStatistics], better: str) -> dict[str, SeedStatistics]:
    """Sort groups, best first; unchanged if `better` is not in `RANKINGS`."""
    return dict(sorted(groups.items(), key=lambda item: RANKINGS[better](item[1]))) if better in RANKINGS else groups


def comparison_rows(groups: dict[str, list[Run]], metric: str, better: str) -> list[Row]:
    """Return a row per group, best first and tested against the best if the metric has a direction."""
    ranked = rank_groups(seed_statistics(groups, metric), better)
    p = p_values_against_best(ranked, better) if better in RANKINGS and len(ranked) > 1 else {}
    return [(name, values, p.get(name)) for name, values in ranked.items()]


def p_values_against_best(groups: dict[str, SeedStatistics], better: str) -> dict[str, float]:
    """Return the p-value of each group's difference from the first group, which must be the best (`rank_groups`).

    Welch's t-test (of absolute values if `better` is "zero"), Holm-corrected over all pairs of groups, because the best
    group was selected by the same values. NaN if one of the two groups has a single run.
    """
    values = {name: [abs(v) if better == "zero" else v for v in s.values] for name, s in groups.items()}
    corrected = holm_correction({(a, b): welch_test(values[a], values[b]).p for a, b in combinations(values, 2)})
    best, *others = groups
    return {name: corrected[best, name] for name in others}


def welch_test(a: Sequence[float], b: Sequence[float]) -> WelchTest:
    """Test the difference of two means by Welch's t-test, which does not assume equal variances.

    With s_i^2 the sample variance (divisor n_i - 1) and v_i = s_i^2 / n_i:
    t = (mean_a - mean_b) / sqrt(v_a + v_b) has Student's distribution with
    (v_a + v_b)^2 / (v_a^2 / (n_a - 1) + v_b^2 / (n_b - 1)) degrees of freedom (Welch-Satterthwaite).

    Source: B. L. Welch, The generalization of "Student's" problem when several different population variances are
    involved, Biometrika 34 (1947).

    Args:
        a: The values of one group.
        b: The values of the other group.

    Returns:
        The result for mean_a - mean_b. All numbers are NaN if a group has fewer than two values. If neither group
        varies, p is 1 for equal means and 0 otherwise, and the interval has no width.
    """
    if min(len(a), len(b)) < 2:
        return WelchTest(math.nan, math.nan, math.nan, math.nan)
    difference = statistics.fmean(a) - statistics.fmean(b)
    if len(set(a)) == len(set(b)) == 1:
        return WelchTest(difference, difference, difference, 1.0 if a[0] == b[0] else 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # scipy warns of nearly equal values
        test = stats.ttest_ind(a, b, equal_var=False)
        interval = test.confidence_interval(CONFIDENCE)
    return WelchTest(difference, float(interval.low), float(interval.high), float(test.pvalue))


def holm_correction(p_values: Mapping[Key, float]) -> dict[Key, float]:
    """Correct the p-values of a family of tests, so that its family-wise error rate holds.

    With the m p-values in ascending order, the i-th (from 1) becomes max over j <= i of min(1, (m - j + 1) p_j).

    Source: S. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6
    (1979).

    Args:
        p_values: The p-value of each test. NaN is a test that was not made: it stays NaN and does not count.

    Returns:
        The corrected p-values, in the order of the argument.
    """
    tested = sorted((key for key, p in p_values.items() if not math.isnan(p)), key=lambda key: p_values[key])
    corrected, largest = dict(p_values), 0.0
    for i, key in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - i) * p_values[key]))
        corrected[key] = largest
    return corrected
