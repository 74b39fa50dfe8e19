import json
import math
from pathlib import Path

import pytest
from scipy import stats

from dcgan.runs.statistics import (
    SeedStatistics,
    WelchTest,
    find_runs,
    group_runs,
    holm_correction,
    p_values_against_best,
    rank_groups,
    welch_test,
)
from tests.runs.summary_files import write_run, write_sweep


def group_sizes(folder: Path) -> dict[str, int]:
    runs, excluded = find_runs(folder, full=False)
    assert excluded == {}
    return {name: len(members) for name, members in group_runs(runs).items()}


def change_summary(folder: Path, **changes) -> None:
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | changes))


def test_runs_are_grouped_by_all_differences_except_the_seed(tmp_path):
    write_sweep(tmp_path)
    assert group_sizes(tmp_path) == {"model=transposed_conv": 3, "model=upsample_conv": 3}


def test_setting_that_older_runs_lack_does_not_split_a_group(tmp_path):
    write_run(tmp_path / "old", 0, {"frechet": 1.0}, discriminator={"dropout": 0})
    write_run(tmp_path / "new", 1, {"frechet": 1.0}, discriminator={"dropout": 0, "pack": 1})
    assert group_sizes(tmp_path) == {"all runs": 2}
    write_run(tmp_path / "packed", 2, {"frechet": 1.0}, discriminator={"dropout": 0, "pack": 2})
    assert "discriminator.pack=2" in group_sizes(tmp_path)


def test_group_names_have_the_fewest_settings_and_prefer_overrides(tmp_path):
    for seed in range(2):
        write_run(tmp_path / f"a{seed}", seed, {"frechet": 1.0}, ("penalty",), optimizer={"lr": 1e-3})
        other = {"penalty": "r1", "discriminator_normalization": "layer"}
        write_run(tmp_path / f"b{seed}", seed, {"frechet": 1.0}, ("penalty",), other, optimizer={"lr": 1e-4})
    assert set(group_sizes(tmp_path)) == {"penalty=none", "penalty=r1"}


def test_groups_ignore_the_machine_but_not_the_precision(tmp_path):
    for seed, (trainer, precision) in enumerate([("cpu", "32-true"), ("auto", "32-true"), ("gpu", "bf16-mixed")]):
        settings = {"accelerator": trainer, "devices": 1, "precision": precision}
        write_run(tmp_path / trainer, seed, {"frechet": 1.0}, choices={"trainer": trainer}, trainer=settings)
    assert group_sizes(tmp_path) == {"trainer.precision=32-true": 2, "trainer.precision=bf16-mixed": 1}


def test_runs_with_different_judges_are_different_groups(tmp_path):
    for seed in range(2):
        write_run(tmp_path / str(seed), seed, {"frechet": 1.0})
    change_summary(tmp_path / "1", judge={"sha256": "1" * 64})
    assert set(group_sizes(tmp_path)) == {"judge=00000000", "judge=11111111"}


def test_run_with_changed_learning_rates_is_a_different_group(tmp_path):
    """Runs of older versions do not record changes: they count as unchanged."""
    for seed in range(4):
        write_run(tmp_path / str(seed), seed, {"frechet": 4.0})
    change_summary(tmp_path / "1", learning_rate_changes=[])
    assert group_sizes(tmp_path) == {"all runs": 4}
    changes = ["step 200: generator 0.0002 -> 0.0001", "step 200: discriminator 0.0002 -> 0.0001"]
    for seed in (2, 3):
        change_summary(tmp_path / str(seed), learning_rate_changes=changes)
    assert group_sizes(tmp_path) == {
        "learning rates changed=-": 2,
        f"learning rates changed={'; '.join(changes)}": 2,
    }


def test_finished_run_with_a_failure_is_excluded(tmp_path):
    """As after a sweep that has rejected the folder of a run with other settings."""
    write_run(tmp_path / "0", 0, {"frechet": 4.0})
    (tmp_path / "0" / "failure.txt").write_text("error: begun with another rate")
    assert find_runs(tmp_path, full=False) == ([], {tmp_path / "0": "failed: error: begun with another rate"})


def test_interval_is_that_of_students_t():
    values = (4.0, 4.5, 5.5, 4.2)
    metric = SeedStatistics(values)
    low, high = stats.t.interval(0.95, 3, loc=metric.mean, scale=stats.sem(values))
    assert metric.mean - metric.half_width == pytest.approx(low)
    assert metric.mean + metric.half_width == pytest.approx(high)
    assert math.isnan(SeedStatistics((4.0,)).half_width)


def test_welch_test_has_the_numbers_of_its_formulas():
    """The means are 5 and 2, the sample variances 26 / 3 and 1."""
    test = welch_test([2.0, 3.0, 7.0, 8.0], [1.0, 2.0, 3.0])
    squared_errors = (26 / 3 / 4, 1 / 3)
    error = math.sqrt(sum(squared_errors))
    freedom = sum(squared_errors) ** 2 / (squared_errors[0] ** 2 / 3 + squared_errors[1] ** 2 / 2)
    assert freedom == pytest.approx(27 / 7)  # Student's test has 5
    assert test.difference == pytest.approx(3)
    assert test.p == pytest.approx(2 * stats.t.sf(3 / error, freedom))
    half_width = stats.t.ppf(0.975, freedom) * error
    assert (test.low, test.high) == pytest.approx((3 - half_width, 3 + half_width))


def test_welch_test_is_that_of_scipy_and_turns_its_sign_with_the_groups():
    a, b = (1.0, 2.0, 4.0), (6.0, 7.0, 9.0, 30.0)
    expected = stats.ttest_ind(a, b, equal_var=False)
    test, reverse = welch_test(a, b), welch_test(b, a)
    assert test.p == pytest.approx(expected.pvalue)
    assert test.p == reverse.p
    assert (test.low, test.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert (test.difference, test.low, test.high) == pytest.approx((-reverse.difference, -reverse.high, -reverse.low))
    assert abs(test.p - stats.ttest_ind(a, b).pvalue) > 0.01  # not the pooled variance


def test_welch_test_of_single_and_constant_values(recwarn):
    assert all(map(math.isnan, vars(welch_test([1.0], [1.0, 2.0])).values()))
    assert all(map(math.isnan, vars(welch_test([1.0, 2.0], [])).values()))
    assert welch_test([1.0, 1.0], [1.0, 1.0, 1.0]) == WelchTest(0.0, 0.0, 0.0, 1.0)
    assert welch_test([3.0, 3.0], [1.0, 1.0, 1.0]) == WelchTest(2.0, 2.0, 2.0, 0.0)
    one_varies = welch_test([400.0, 500.0, 600.0], [1000.0, 1000.0])
    # that of one sample against 1,000: t = -500 / (100 / sqrt(3)), with 2 degrees of freedom
    alone = stats.ttest_1samp([400, 500, 600], 1000)
    assert one_varies.p == pytest.approx(alone.pvalue)
    low, high = alone.confidence_interval(0.95)
    assert (one_varies.low, one_varies.high) == pytest.approx((low - 1000, high - 1000))
    assert not recwarn


def test_holm_correction_of_a_worked_example():
    """The factors are 4, 3, 2 and 1. 2 * 0.03 = 0.06 is above 0.04 * 1, which is raised to it."""
    p = {"b": 0.04, "a": 0.01, "none": math.nan, "d": 0.005, "c": 0.03}
    corrected = holm_correction(p)
    assert list(corrected) == list(p)
    assert math.isnan(corrected.pop("none"))  # and does not count as a test
    assert corrected == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})
    assert holm_correction({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}
    assert holm_correction({"alone": 0.03}) == {"alone": 0.03}
    assert holm_correction({}) == {}


def test_holm_correction_keeps_the_order_and_lowers_no_p_value():
    p = dict(enumerate(stats.uniform.rvs(size=50, random_state=0) ** 4))
    corrected = holm_correction(p)
    order = sorted(p, key=p.__getitem__)
    assert [corrected[i] for i in order] == sorted(corrected.values())
    assert all(p[i] <= corrected[i] <= min(1, 50 * p[i]) for i in p)  # at most Bonferroni's
    assert corrected[order[0]] == pytest.approx(50 * p[order[0]])


def test_groups_are_ranked_and_tested_with_holms_correction():
    a, b, c = SeedStatistics((1.0, 1.1, 0.9)), SeedStatistics((1.4, 1.6, 1.2)), SeedStatistics((5.0, 5.1, 4.9))
    ranked = rank_groups({"c": c, "a": a, "b": b}, "lower")
    assert list(ranked) == ["a", "b", "c"]
    p = p_values_against_best(ranked, "lower")
    raw = {name: stats.ttest_ind(a.values, s.values, equal_var=False).pvalue for name, s in (("b", b), ("c", c))}
    between = stats.ttest_ind(b.values, c.values, equal_var=False).pvalue
    assert raw["c"] < between < raw["b"]
    assert p == pytest.approx({"c": 3 * raw["c"], "b": raw["b"]})  # of three pairs
    assert list(rank_groups({"c": c, "a": a}, "higher")) == ["c", "a"]


def test_zero_ranks_and_tests_absolute_values():
    assert next(iter(rank_groups({"far": SeedStatistics((-3.0,)), "near": SeedStatistics((-0.1,))}, "zero"))) == "near"
    # both means are about zero
    far, near = SeedStatistics((-1.0, 1.0, -1.1, 1.1)), SeedStatistics((0.3, 0.31, 0.29, 0.3))
    ranked = rank_groups({"far": far, "near": near}, "zero")
    assert list(ranked) == ["near", "far"]
    assert p_values_against_best(ranked, "zero")["far"] < 0.001


def test_p_values_of_equal_constant_and_single_values():
    same, other = SeedStatistics((1.0, 1.0)), SeedStatistics((2.0, 2.0))
    assert p_values_against_best({"a": same, "b": same}, "lower") == {"b": 1.0}
    assert p_values_against_best({"a": same, "b": other}, "lower") == {"b": 0.0}
    assert math.isnan(p_values_against_best({"a": same, "single": SeedStatistics((2.0,))}, "lower")["single"])
