"""The comparisons of a study: each variant with the baseline of its sweep.

`sweep.baseline` is a variant of the same sweep, or SWEEP/VARIANT; `sweep.metrics` are the compared metrics.
"""

import math
import warnings
from collections.abc import Iterable, Mapping
from operator import itemgetter

from omegaconf import DictConfig
from scipy import stats

from dcgan.runs.statistics import CONFIDENCE, SeedStatistics
from experiments.tables import FINISHED, Row

RATIO_METRICS = (
    "frechet",
    "frechet_random_conv",
)  # their spread is proportional to their size; others are compared by differences
MIN_RUNS = 2  # of a variant that is compared
MIN_EXACT_P = 0.001  # smaller p-values are not exact

VariantKey = tuple[str, str]  # sweep and variant


def seed_statistics(rows: Iterable[Row], metric: str) -> dict[VariantKey, SeedStatistics]:
    """Return the metric of each variant that has it, over the seeds."""
    values: dict[VariantKey, list[float]] = {}
    for row in rows:
        if row.get(metric) not in (None, ""):
            values.setdefault((row["sweep"], row["variant"]), []).append(float(row[metric]))
    return {variant: SeedStatistics(tuple(own)) for variant, own in values.items()}


def compare_with_baselines(runs: list[Row], sweeps: Mapping[str, DictConfig]) -> list[Row]:
    """Compare each variant with the baseline of its sweep. Return a row per variant and metric.

    The variants of one sweep are tested together, because a sweep asks one question. Other sweeps do not contribute to
    the estimate of the variance.

    Args:
        runs: The runs of a study. The metrics of failed runs are not used.
        sweeps: The `sweep` section of each sweep's config.
    """
    finished = [row for row in runs if row["outcome"] == FINISHED]
    rows: list[Row] = []
    for sweep, settings in sweeps.items():
        other_sweep, _, name = str(settings.baseline).rpartition("/")
        baseline = (other_sweep or sweep, name)
        variants = dict.fromkeys((sweep, row["variant"]) for row in runs if row["sweep"] == sweep)
        for metric in settings.metrics:
            values = {variant: measured.values for variant, measured in seed_statistics(finished, metric).items()}
            compared = {variant: values.get(variant, ()) for variant in variants if variant != baseline}
            rows += [
                {"sweep": sweep, "variant": variant, "baseline": "/".join(baseline), "metric": metric} | result
                for (_, variant), result in dunnett_test(
                    compared, values.get(baseline, ()), metric in RATIO_METRICS
                ).items()
            ]
    return rows


def dunnett_test(
    variants: Mapping[VariantKey, tuple[float, ...]], baseline: tuple[float, ...], ratios: bool
) -> dict[VariantKey, Row]:
    """Compare several variants with one baseline (Dunnett 1955).

    The 95 % intervals hold for all variants together. One variance is estimated from all values, because a few seeds
    say little about the variance of each variant. The results are NaN if the variant or the baseline has fewer than two
    values.

    Args:
        variants: The values of each variant.
        baseline: The values of the baseline.
        ratios: Estimate ratios of geometric means, not differences of means.
    """
    transform, inverse = (math.log, math.exp) if ratios else (float, float)
    shared = {"effect": "ratio" if ratios else "difference", "n_baseline": len(baseline)}
    tested = {
        variant: [transform(value) for value in values]
        for variant, values in variants.items()
        if min(len(values), len(baseline)) >= MIN_RUNS
    }
    results: dict[VariantKey, Row] = {
        variant: shared | {"n": len(values)} | dict.fromkeys(("estimate", "low", "high", "p"), math.nan)
        for variant, values in variants.items()
    }
    if tested:
        control = [transform(value) for value in baseline]
        with warnings.catch_warnings():  # scipy's, if all values are equal, as counts of modes can be
            warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
            test = stats.dunnett(*tested.values(), control=control, rng=0)
        interval = test.confidence_interval(CONFIDENCE)
        for variant, low, high, p in zip(tested, interval.low, interval.high, test.pvalue, strict=True):
            difference = sum(tested[variant]) / len(tested[variant]) - sum(control) / len(control)
            estimate = {"estimate": inverse(difference), "low": inverse(low), "high": inverse(high), "p": float(p)}
            results[variant] |= estimate
    return results


def comparison_table(rows: list[Row]) -> list[str]:
    """Return the lines of a Markdown table: a row per variant, a column per metric."""
    if not rows:
        return []
    metrics = {row["metric"]: row["effect"] for row in rows}
    lines = [
        f"| sweep | variant | baseline | {' | '.join(f'{metric}, {effect}' for metric, effect in metrics.items())} |",
        f"|{' --- |' * (3 + len(metrics))}",
    ]
    key = itemgetter("sweep", "variant", "baseline")
    for sweep, variant, baseline in dict.fromkeys(map(key, rows)):
        cells = {row["metric"]: format_result(row) for row in rows if key(row) == (sweep, variant, baseline)}
        names = (sweep, variant, baseline.removeprefix(f"{sweep}/"))
        lines.append(f"| {' | '.join((*names, *(cells.get(metric, '') for metric in metrics)))} |")
    return lines


def format_result(row: Row) -> str:
    if math.isnan(row["estimate"]):
        return "too few runs"
    estimate, low, high = (f"{row[name]:.2f}" for name in ("estimate", "low", "high"))
    p = f"p = {row['p']:.2g}" if row["p"] >= MIN_EXACT_P else f"p < {MIN_EXACT_P}"
    return f"{estimate} ({low} to {high}), {p}"
