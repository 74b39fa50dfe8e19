"""The comparisons of a study: each variant with the baseline of its sweep.

`sweep.baseline` is a variant of the same sweep, or SWEEP/VARIANT; `sweep.metrics` are the compared metrics.

The test is Welch's t-test, because variances differ between variants. The p-values are corrected by Holm's method over
the variants of a sweep: one metric of one sweep is a family of tests. The 95 % intervals are Welch's. Each is that of a
single comparison, so that an interval can exclude "no difference" where the corrected p-value is above 0.05.
"""

import math
from collections.abc import Iterable, Mapping
from operator import itemgetter

from omegaconf import DictConfig

from dcgan.runs.statistics import SeedStatistics, holm_correction, welch_test
from experiments.tables import FINISHED, Row

RATIO_METRICS = (
    "frechet",
    "frechet_random_conv",
)  # their spread is proportional to their size; others are compared by differences
MIN_PRINTED_P = 0.001  # of smaller p-values only this bound is printed

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

    The p-values of a metric are corrected over the variants of one sweep, because a sweep asks one question. Other
    metrics and other sweeps are families of their own.

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
                for (_, variant), result in welch_tests(
                    compared, values.get(baseline, ()), metric in RATIO_METRICS
                ).items()
            ]
    return rows


def welch_tests(
    variants: Mapping[VariantKey, tuple[float, ...]], baseline: tuple[float, ...], ratios: bool
) -> dict[VariantKey, Row]:
    """Compare several variants with one baseline by Welch's t-test, each with the variance of its own values.

    `low` and `high` are the 95 % confidence interval of a single comparison. `p` is Holm-corrected over the variants;
    those that cannot be tested do not count. The results are NaN if the variant or the baseline has fewer than two
    values.

    Args:
        variants: The values of each variant.
        baseline: The values of the baseline.
        ratios: Compare the logarithms of the values, and return ratios of geometric means, not differences of means.
    """
    transform, inverse = (math.log, math.exp) if ratios else (float, float)
    effect = "ratio" if ratios else "difference"
    control = [transform(value) for value in baseline]
    tests = {variant: welch_test([transform(v) for v in values], control) for variant, values in variants.items()}
    corrected = holm_correction({variant: test.p for variant, test in tests.items()})
    return {
        variant: {
            "effect": effect,
            "n_baseline": len(baseline),
            "n": len(variants[variant]),
            "estimate": inverse(test.difference),
            "low": inverse(test.low),
            "high": inverse(test.high),
            "p": corrected[variant],
        }
        for variant, test in tests.items()
    }


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
    p = f"p = {row['p']:.2g}" if row["p"] >= MIN_PRINTED_P else f"p < {MIN_PRINTED_P}"
    return f"{estimate} ({low} to {high}), {p}"
