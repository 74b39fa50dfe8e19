"""Success rates of vector arithmetic, with a generator and a judge whose outputs are known."""

import pytest

from dcgan.common.errors import UserError
from dcgan.sampling.arithmetic import Pool, parse_expression
from dcgan.sampling.base import SampleSource
from experiments.semantic import arithmetic_success
from experiments.semantic.arithmetic_success import ALONE, SHUFFLED, format_rate, measure_arithmetic, success_rates
from tests.sampling.test_arithmetic import AlternatingJudge, fake_source

TERMS = parse_expression("thick 7 - thin 7 + thin 1")


@pytest.fixture(scope="module")
def pool() -> Pool:
    return Pool.generate(fake_source(), 2000, seed=0)


def test_success_rate_is_high_with_arithmetic_and_low_for_the_controls(pool):
    rates = success_rates(fake_source(), pool, TERMS, 300, (0.0,))
    assert rates["0.0"] > 0.7
    assert rates[SHUFFLED] < rates["0.0"] - 0.2
    assert rates[ALONE] < 0.1  # thin 1s


def test_noise_lowers_the_success_rate(pool):
    rates = success_rates(fake_source(), pool, TERMS, 300, (0.0, 3.0), noise="normal")
    assert rates["3.0"] < rates["0.0"] - 0.2


def test_invalid_counts_and_missing_images_are_rejected(pool):
    with pytest.raises(ValueError, match="draws must be"):
        success_rates(fake_source(), pool, TERMS, 0, (0.0,))
    with pytest.raises(UserError, match="only 0 of 2,000 images are 5"):
        success_rates(fake_source(), pool, parse_expression("5 - 5 + 1"), 10, (0.0,))


def test_measured_rates_are_in_percent_and_expressions_without_images_are_skipped(monkeypatch, capsys):
    monkeypatch.setattr(arithmetic_success, "EXPRESSIONS", ("thick 7 - thin 7 + thin 1", "5 - 5 + 1"))
    monkeypatch.setattr(arithmetic_success, "SCALES", (0.0, 50.0))
    monkeypatch.setattr(arithmetic_success, "DRAWS", 300)
    monkeypatch.setattr(arithmetic_success, "POOL", 2000)
    plain, noisy, alone, shuffled = (row["success_percent"] for row in measure_arithmetic(fake_source()))
    assert plain > 70
    assert 10 < noisy < 60  # by chance
    assert alone < 10
    assert alone < shuffled < plain - 20
    assert "skipped" in capsys.readouterr().out


def test_rate_is_formatted_with_wilson_interval():
    assert format_rate(0.5, 100) == "50.0% of 100 draws (95 % CI 40.4% to 59.6%)"
    assert format_rate(0.0, 1000).endswith("(95 % CI 0.0% to 0.4%)")


def test_rates_of_one_checkpoint_are_printed(plain_run, monkeypatch, capsys):
    monkeypatch.setattr(SampleSource, "judge", AlternatingJudge())
    monkeypatch.setattr("sys.argv", ["arithmetic_success", str(plain_run), "7 - 7 + 1", "--draws=10", "--pool=100"])
    arithmetic_success.main()
    title, *rates = capsys.readouterr().out.splitlines()
    assert title == "7 - 7 + 1 = 1"
    assert [line[:24].strip() for line in rates] == ["noise 0.0", "noise 0.25", ALONE, SHUFFLED]
    assert all("of 10 draws (95 % CI" in line for line in rates)
