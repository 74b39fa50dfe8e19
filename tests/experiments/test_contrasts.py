"""The comparisons of a study's variants with their baselines."""

import math

import numpy as np
import pytest
from omegaconf import OmegaConf
from scipy import stats

from experiments.contrasts import compare_with_baselines, comparison_table


def test_variants_are_compared_with_their_baseline_by_ratios_and_differences():
    def runs_of(sweep, variant, *distances):
        shared = {"sweep": sweep, "variant": variant, "outcome": "finished"}
        return [shared | {"seed": i, "frechet": d, "cb2": d - 1} for i, d in enumerate(distances)]

    base, near, far = (1.0, 2.0, 4.0), (1.2, 2.0, 4.1), (6.0, 7.0, 9.0)
    runs = runs_of("s", "base", *base) + runs_of("s", "far", *far) + runs_of("s", "near", *near)
    runs += runs_of("t", "alone", *near) + runs_of("t", "one", 1.0)
    runs += runs_of("u", "apart", *far)
    failed = {"outcome": "no digits", "seed": 3, "frechet": 900.0, "cb2": 80.0}
    runs += [failed | {"sweep": "s", "variant": "far"}, failed | {"sweep": "u", "variant": "apart"}]
    settings = {
        "s": OmegaConf.create({"baseline": "base", "metrics": ["frechet", "cb2"]}),
        "t": OmegaConf.create({"baseline": "s/base", "metrics": ["frechet"]}),
        "u": OmegaConf.create({"baseline": "s/base", "metrics": ["cb2"]}),
    }
    rows = compare_with_baselines(runs, settings)
    compared = {(row["variant"], row["metric"]): row for row in rows}
    expected = (("far", "frechet"), ("near", "frechet"), ("far", "cb2"), ("near", "cb2"), ("alone", "frechet"))
    assert tuple(compared) == (*expected, ("one", "frechet"), ("apart", "cb2"))

    apart = compared["apart", "cb2"]  # the only variant of its sweep: nothing to correct for
    test = stats.ttest_ind(far, base, equal_var=False)
    assert (apart["effect"], apart["n"], apart["n_baseline"]) == ("difference", 3, 3)  # without the failed run
    assert apart["estimate"] == pytest.approx(22 / 3 - 7 / 3)
    assert apart["p"] == pytest.approx(test.pvalue)
    assert (apart["low"], apart["high"]) == pytest.approx(tuple(test.confidence_interval(0.95)))

    ratio = compared["far", "frechet"]  # the smaller p-value of two
    test = stats.ttest_ind(np.log(far), np.log(base), equal_var=False)
    assert (ratio["effect"], ratio["n"], ratio["n_baseline"]) == ("ratio", 3, 3)
    assert ratio["estimate"] == pytest.approx((6 * 7 * 9) ** (1 / 3) / 2)
    assert ratio["p"] == pytest.approx(2 * test.pvalue)
    assert (ratio["low"], ratio["high"]) == pytest.approx(tuple(np.exp(test.confidence_interval(0.95))))
    assert ratio["low"] < ratio["estimate"] < ratio["high"]
    near_alone = stats.ttest_ind(np.log(near), np.log(base), equal_var=False)
    assert compared["near", "frechet"]["p"] == pytest.approx(near_alone.pvalue)  # the larger one

    difference = compared["near", "cb2"]
    assert difference["effect"] == "difference"
    assert difference["estimate"] == pytest.approx(7.3 / 3 - 7 / 3)

    alone = compared["alone", "frechet"]  # the only one of its sweep with enough runs
    assert alone["p"] == pytest.approx(near_alone.pvalue)
    assert (alone["low"], alone["high"]) == pytest.approx(tuple(np.exp(near_alone.confidence_interval(0.95))))
    assert math.isnan(compared["one", "frechet"]["p"])

    lines = comparison_table(rows)
    assert lines[0] == "| sweep | variant | baseline | frechet, ratio | cb2, difference |"
    assert lines[2].startswith("| s | far | base | 3.62 (")
    assert lines[5] == "| t | one | s/base | too few runs |  |"


def test_variance_of_another_variant_does_not_change_a_comparison():
    def compare(other):
        values = {"base": (1.0, 1.1, 0.9), "near": (1.3, 1.4, 1.2), "other": other}
        runs = [
            {"sweep": "s", "variant": variant, "outcome": "finished", "seed": seed, "cb2": cb2}
            for variant, own in values.items()
            for seed, cb2 in enumerate(own)
        ]
        near, _ = compare_with_baselines(runs, {"s": OmegaConf.create({"baseline": "base", "metrics": ["cb2"]})})
        return near

    assert compare((1.0, 1.1, 0.9)) == compare((-50.0, 1.0, 53.0))


def test_variant_with_equal_runs_is_compared(recwarn):
    runs = [
        {"sweep": "s", "variant": variant, "outcome": "finished", "seed": seed, "modes": modes}
        for variant, all_modes in (("all", (1000, 1000, 1000)), ("few", (400, 500, 600)))
        for seed, modes in enumerate(all_modes)
    ]
    (few,) = compare_with_baselines(runs, {"s": OmegaConf.create({"baseline": "all", "metrics": ["modes"]})})
    # the baseline's mean has no error: t = -500 / (100 / sqrt(3)), with 2 degrees of freedom
    assert (few["estimate"], few["p"]) == (-500, pytest.approx(2 * stats.t.sf(5 * math.sqrt(3), 2)))
    assert not recwarn
