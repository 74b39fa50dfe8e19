import csv
import json
import math
from pathlib import Path

import pytest
from scipy import stats

from dcgan import compare
from dcgan.comparison import Spread, against_best, find_runs, group_runs, ranked
from tests.conftest import TINY
from tests.runs import RUN

BETTER = {"frechet": "lower", "coverage": "higher", "cb2": "zero"}


def write_run(folder: Path, seed: int, figures: dict, named: tuple[str, ...] = (), choices=(), **config) -> None:
    """What a finished run leaves that a comparison reads."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text("".join(f"- {key}=x\n" for key in named) or "[]")
    summary = {
        "metrics": figures,
        "step": 5,
        "better": BETTER,
        "judge": {"sha256": "0" * 64},
        "choices": {"model": "transposed_conv", "penalty": "none", "trainer": "auto", **dict(choices)},
        "config": {
            "seed": seed,
            "data": {"root": str(folder), "seed": seed, "batch_size": 8},
            "max_steps": 5,
            **config,
        },
    }
    (folder / "summary.json").write_text(json.dumps(summary))


def sweep(folder: Path) -> None:
    for model, values in {"transposed_conv": (5.0, 5.2, 5.1), "upsample_conv": (4.0, 4.1, 4.2)}.items():
        for seed, value in enumerate(values):
            figures = {"frechet": value, "coverage": 0.7 + seed / 100, "cb2": value - 6, "loss_d": 1.0}
            write_run(folder / f"model={model},seed={seed}", seed, figures, choices={"model": model}.items())


def test_runs_are_grouped_by_what_differs_except_the_seed(tmp_path):
    sweep(tmp_path)
    runs, left_out = find_runs(tmp_path, full=False)
    assert left_out == {}
    groups = group_runs(runs)
    assert {name: len(members) for name, members in groups.items()} == {
        "model=transposed_conv": 3,
        "model=upsample_conv": 3,
    }


def test_a_setting_that_older_runs_lack_does_not_part_them_from_younger_ones(tmp_path):
    write_run(tmp_path / "old", 0, {"frechet": 1.0}, discriminator={"dropout": 0})
    write_run(tmp_path / "young", 1, {"frechet": 1.0}, discriminator={"dropout": 0, "pack": 1})
    assert {name: len(members) for name, members in group_runs(find_runs(tmp_path, full=False)[0]).items()} == {
        "all runs": 2
    }
    write_run(tmp_path / "packed", 2, {"frechet": 1.0}, discriminator={"dropout": 0, "pack": 2})
    assert "discriminator.pack=2" in group_runs(find_runs(tmp_path, full=False)[0])


def test_groups_are_named_by_the_fewest_settings_the_command_lines_own_first(tmp_path):
    for seed in range(2):
        write_run(tmp_path / f"a{seed}", seed, {"frechet": 1.0}, ("penalty",), optimizer={"lr": 1e-3})
        other = {"penalty": "r1", "discriminator_normalization": "layer"}
        write_run(tmp_path / f"b{seed}", seed, {"frechet": 1.0}, ("penalty",), other.items(), optimizer={"lr": 1e-4})
    assert set(group_runs(find_runs(tmp_path, full=False)[0])) == {"penalty=none", "penalty=r1"}


def test_where_a_run_ran_is_no_difference_but_its_precision_is(tmp_path):
    for seed, (trainer, precision) in enumerate([("cpu", "32-true"), ("auto", "32-true"), ("gpu", "bf16-mixed")]):
        settings = {"accelerator": trainer, "devices": 1, "precision": precision}
        write_run(tmp_path / trainer, seed, {"frechet": 1.0}, choices={"trainer": trainer}.items(), trainer=settings)
    groups = group_runs(find_runs(tmp_path, full=False)[0])
    assert {name: len(runs) for name, runs in groups.items()} == {
        "trainer.precision=32-true": 2,
        "trainer.precision=bf16-mixed": 1,
    }


def test_runs_measured_with_different_judges_are_no_group(tmp_path):
    for seed in range(2):
        write_run(tmp_path / str(seed), seed, {"frechet": 1.0})
    summary = json.loads((tmp_path / "1" / "summary.json").read_text())
    summary["judge"] = {"sha256": "1" * 64}
    (tmp_path / "1" / "summary.json").write_text(json.dumps(summary))
    assert set(group_runs(find_runs(tmp_path, full=False)[0])) == {"judge=00000000", "judge=11111111"}


def test_the_interval_is_that_of_students_t():
    values = (4.0, 4.5, 5.5, 4.2)
    spread = Spread(values)
    low, high = stats.t.interval(0.95, 3, loc=spread.mean, scale=stats.sem(values))
    assert spread.mean - spread.half_width == pytest.approx(low)
    assert spread.mean + spread.half_width == pytest.approx(high)
    assert math.isnan(Spread((4.0,)).half_width)


def test_the_best_comes_first_and_is_tested_against_the_others_with_holms_correction():
    a, b, c = Spread((1.0, 1.1, 0.9)), Spread((1.4, 1.6, 1.2)), Spread((5.0, 5.1, 4.9))
    of = ranked({"c": c, "a": a, "b": b}, "lower")
    assert list(of) == ["a", "b", "c"]
    p = against_best(of, "lower")
    raw = {name: stats.ttest_ind(a.values, s.values, equal_var=False).pvalue for name, s in (("b", b), ("c", c))}
    between = stats.ttest_ind(b.values, c.values, equal_var=False).pvalue
    assert raw["c"] < between < raw["b"]
    assert p == pytest.approx({"c": 3 * raw["c"], "b": raw["b"]})  # of three pairs
    assert list(ranked({"c": c, "a": a}, "higher")) == ["c", "a"]
    assert next(iter(ranked({"near": Spread((-0.1,)), "far": Spread((-3.0,))}, "zero"))) == "near"
    # of values around zero the near ones are best, whatever their mean, and those are what is tested
    around = ranked({"far": Spread((-1.0, 1.0, -1.1, 1.1)), "near": Spread((0.3, 0.31, 0.29, 0.3))}, "zero")
    assert list(around) == ["near", "far"]
    assert against_best(around, "zero")["far"] < 0.001
    one = against_best({"a": a, "single": Spread((2.0,))}, "lower")
    assert math.isnan(one["single"])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((700.0, 900.0, 1100.0), "900 ± 497"),
        ((4.0, 4.1, 4.2), "4.10 ± 0.25"),
        ((0.00021, 0.00023), "0.00022 ± 0.00013"),
        ((5.0, 5.0), "5"),
        ((0.1, 0.1, 0.1), "0.1"),
        ((4.12345,), "4.123"),
    ],
)
def test_numbers_have_as_many_decimals_as_their_interval_supports(values, expected):
    assert compare.number(Spread(values)) == expected


def test_equal_values_are_not_told_apart_and_constant_ones_that_differ_are():
    same, other = Spread((1.0, 1.0)), Spread((2.0, 2.0))
    assert against_best({"a": same, "b": same}, "lower") == {"b": 1.0}
    assert against_best({"a": same, "b": other}, "lower") == {"b": 0.0}


def test_the_command_prints_and_writes_table_csv_and_plot(command, tmp_path):
    sweep(tmp_path / "sweep")
    outcome = command(compare, "sweep")
    assert outcome.code == 0, outcome.err
    text = Path("sweep/compare.md").read_text()
    assert text.strip() in outcome.out
    frechet = text.split("### frechet")[1].split("###")[0]
    best, other = [line for line in frechet.splitlines() if line.startswith("| model")]
    assert best.startswith("| model=upsample_conv   | 4.10 ± 0.25 | 3 |")
    assert "worse (p = 0.00" in other
    coverage = text.split("### coverage")[1].split("###")[0]
    assert "not told apart from the best by these seeds (p = 1)" in coverage
    assert "nearest to 0 first" in text
    with Path("sweep/compare.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    (row,) = [r for r in rows if r["figure"] == "frechet" and r["runs"] == "model=upsample_conv"]
    assert (float(row["mean"]), row["n"]) == (pytest.approx(4.1), "3")
    assert {r["figure"] for r in rows} == {"frechet", "coverage", "cb2", "loss_d"}
    assert Path("sweep/compare.png").stat().st_size > 5000
    assert command(compare, "folder=sweep", "out=elsewhere").code == 0
    assert sorted(path.name for path in Path("elsewhere").iterdir()) == ["compare.csv", "compare.md", "compare.png"]


def test_a_run_that_was_rolled_back_is_not_one_of_those_with_its_configs_rates(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / str(seed), seed, {"frechet": 4.0})
    summary = json.loads((tmp_path / "1" / "summary.json").read_text())
    (tmp_path / "1" / "summary.json").write_text(json.dumps(summary | {"rolled_back": 30}))
    assert set(group_runs(find_runs(tmp_path, full=False)[0])) == {"rolled back=False", "rolled back=True"}


def test_a_finished_run_that_was_refused_as_another_one_is_left_out(tmp_path):
    write_run(tmp_path / "0", 0, {"frechet": 4.0})
    (tmp_path / "0" / "failure.txt").write_text("error: began with another rate")
    assert find_runs(tmp_path, full=False) == ([], {tmp_path / "0": "failed: error: began with another rate"})


def test_what_cannot_be_compared_is_listed_with_its_reason(command, tmp_path):
    sweep(tmp_path / "sweep")
    folder = tmp_path / "sweep"
    (folder / "unfinished" / ".hydra").mkdir(parents=True)
    (folder / "failed").mkdir()
    (folder / "failed" / "failure.txt").write_text("error: out of luck")
    write_run(folder / "empty", 7, {"frechet": None})
    write_run(folder / "twin", 0, {"frechet": 9.0})
    (folder / "broken").mkdir()
    (folder / "broken" / "summary.json").write_text("{")
    outcome = command(compare, "sweep")
    assert outcome.code == 0, outcome.err
    listed = outcome.out.split("### left out")[1]
    for name, reason in {
        "unfinished": "is not finished",
        "failed": "failed: error: out of luck",
        "empty": "has no figures",
        "twin": "same settings and seed as",
        "broken": "its files cannot be read",
    }.items():
        assert any(name in line and reason in line for line in listed.splitlines()), name


def test_one_seed_has_no_interval_and_no_verdict(command, tmp_path):
    for model in ("a", "b"):
        write_run(tmp_path / "sweep" / model, 0, {"frechet": 4.0}, choices={"model": model}.items())
    text = command(compare, "sweep").out
    assert "| 4 | 1 |" in text
    assert "one seed: no telling" in text
    assert "±" not in text.split("###")[1]


def test_full_reads_the_evaluations_alone(command, tmp_path):
    sweep(tmp_path / "sweep")
    for i, run in enumerate(sorted((tmp_path / "sweep").iterdir())):
        if i == 0:
            continue
        (run / "checkpoints").mkdir()
        content = {"metrics": {"precision": 0.5 + i}, "better": {"precision": "higher"}, "judge": None, "n": 16}
        content["checkpoint"] = {"step": 4 if i == 1 else 5}
        (run / "checkpoints" / "last.evaluation.json").write_text(json.dumps(content))
    outcome = command(compare, "sweep", "full=true")
    assert outcome.code == 0, outcome.err
    assert "### precision" in outcome.out
    assert "### frechet" not in outcome.out
    assert "was not evaluated: python -m dcgan.evaluate checkpoint=" in outcome.out
    assert "was evaluated at step 4 and is at 5 now: evaluate it again" in outcome.out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "give the folder of the runs"),
        (["nowhere"], "there is no folder nowhere"),
        (["."], "no run below . can be"),
    ],
)
def test_mistakes_end_in_a_sentence(command, arguments, sentence):
    outcome = command(compare, *arguments)
    assert outcome.code == 1
    assert sentence in outcome.err
    assert "Traceback" not in outcome.err


def test_a_real_sweep_is_summed_up(command, dcgan_train):
    sweep_run = [o for o in RUN if not o.startswith("hydra.run.dir")]
    swept = ["sweep.name=s", "model=transposed_conv,upsample_conv", "seed=0,1", "max_steps=2"]
    assert dcgan_train("-m", *TINY, *sweep_run, *swept).code == 0
    outcome = command(compare, "runs/sweeps/s")
    assert outcome.code == 0, outcome.err
    assert "| model=upsample_conv" in outcome.out
    assert "### frechet (lower is better)" in outcome.out
    assert "left out" not in outcome.out


def test_help_of_compare(command):
    assert "Sum up the runs below a folder" in command(compare, "--help").out
