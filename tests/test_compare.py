import csv
import json
from pathlib import Path

import pytest

from dcgan import compare
from dcgan.runs.statistics import SeedStatistics
from tests.conftest import TINY
from tests.run_files import RUN
from tests.runs.summary_files import write_run, write_sweep


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
def test_mean_has_the_decimals_of_its_interval(values, expected):
    assert compare.format_mean(SeedStatistics(values)) == expected


def test_table_csv_and_plot_are_written(command, tmp_path):
    write_sweep(tmp_path / "sweep")
    outcome = command(compare, "sweep")
    assert outcome.code == 0, outcome.err
    text = Path("sweep/compare.md").read_text()
    assert text.strip() in outcome.out
    frechet = text.split("### frechet")[1].split("###")[0]
    best, other = [line for line in frechet.splitlines() if line.startswith("| model")]
    assert best.startswith("| model=upsample_conv   | 4.10 ± 0.25 | 3 |")
    assert "worse (p = 0.00" in other
    coverage = text.split("### coverage")[1].split("###")[0]
    assert "no significant difference to the best (p = 1)" in coverage
    assert "### cb2 (closer to 0 is better)" in text
    with Path("sweep/compare.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    (row,) = [r for r in rows if r["figure"] == "frechet" and r["runs"] == "model=upsample_conv"]
    assert (float(row["mean"]), row["n"]) == (pytest.approx(4.1), "3")
    assert {r["figure"] for r in rows} == {"frechet", "coverage", "cb2", "loss_d"}
    assert Path("sweep/compare.png").stat().st_size > 5000
    assert command(compare, "folder=sweep", "out=elsewhere").code == 0
    assert sorted(path.name for path in Path("elsewhere").iterdir()) == ["compare.csv", "compare.md", "compare.png"]


def test_excluded_runs_are_listed_with_their_reasons(command, tmp_path):
    folder = tmp_path / "sweep"
    write_sweep(folder)
    (folder / "unfinished" / ".hydra").mkdir(parents=True)
    (folder / "failed").mkdir()
    (folder / "failed" / "failure.txt").write_text("error: out of luck")
    write_run(folder / "empty", 7, {"frechet": None})
    write_run(folder / "twin", 0, {"frechet": 9.0})
    (folder / "broken").mkdir()
    (folder / "broken" / "summary.json").write_text("{")
    outcome = command(compare, "sweep")
    assert outcome.code == 0, outcome.err
    lines = outcome.out.split("### excluded")[1].splitlines()
    for name, reason in {
        "unfinished": "is not finished",
        "failed": "failed: error: out of luck",
        "empty": "has no metrics",
        "twin": "has the same settings and seed as",
        "broken": "summary.json cannot be read (Expecting property name",
    }.items():
        assert any(name in line and reason in line for line in lines), name


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"metrics": {"frechet": "x"}}, "metrics.frechet must be of type float or null, got 'x'"),
        ({"metrics": {"frechet": 1e999}}, "the number Infinity is not finite"),
        ({"metrics": None}, "metrics must be of type dict, got None"),
        ({"better": {"frechet": 5}}, "better.frechet must be of type str, got 5"),
        ({"choices": {"model": {}}}, "choices.model must be of type str or list or null, got {}"),
        ({"config": []}, "config must be of type dict, got []"),
        ({"config": {"seed": "x"}}, "config.seed must be of type int, got 'x'"),
        ({"judge": "x"}, "judge must be of type dict or null, got 'x'"),
        ({"step": None}, "step must be of type int, got None"),
        ({"learning_rate_changes": [1]}, "learning_rate_changes[0] must be of type str, got 1"),
    ],
)
def test_summary_with_other_content_is_left_out_with_its_reason(command, tmp_path, change, reason):
    write_sweep(tmp_path / "sweep")
    path = sorted((tmp_path / "sweep").rglob("summary.json"))[0]
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    outcome = command(compare, "sweep")
    assert outcome.code == 0, outcome.err
    assert reason in outcome.out.split("### excluded")[1]


@pytest.mark.parametrize("text", ["", "a: b", "{[", "- [1]", "5"])
def test_overrides_that_cannot_be_read_leave_a_run_out(command, tmp_path, text):
    write_sweep(tmp_path / "sweep")
    sorted((tmp_path / "sweep").rglob("overrides.yaml"))[0].write_text(text)
    outcome = command(compare, "sweep")
    assert outcome.code == 0, outcome.err
    assert "overrides.yaml cannot be read" in outcome.out.split("### excluded")[1]


def test_single_seed_has_no_interval_and_no_test(command, tmp_path):
    for model in ("a", "b"):
        write_run(tmp_path / "sweep" / model, 0, {"frechet": 4.0}, choices={"model": model})
    text = command(compare, "sweep").out
    assert "| 4 | 1 |" in text
    assert "one seed: no test" in text
    assert "±" not in text.split("###")[1]


def test_full_reads_only_evaluations(command, tmp_path):
    write_sweep(tmp_path / "sweep")
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
    assert "was evaluated at step 4 but ended at step 5: evaluate it again" in outcome.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give the folder of the runs"),
        (["nowhere"], "there is no folder nowhere"),
        (["."], "no run below . can be compared"),
    ],
)
def test_invalid_arguments_are_rejected(command, arguments, message):
    outcome = command(compare, *arguments)
    assert outcome.code == 1
    assert message in outcome.err
    assert "Traceback" not in outcome.err


def test_trained_sweep_is_compared(command, dcgan_train):
    overrides = [o for o in RUN if not o.startswith("hydra.run.dir")]
    swept = ["sweep.name=s", "model=transposed_conv,upsample_conv", "seed=0,1", "max_steps=2"]
    assert dcgan_train("-m", *TINY, *overrides, *swept).code == 0
    outcome = command(compare, "runs/sweeps/s")
    assert outcome.code == 0, outcome.err
    assert "| model=upsample_conv" in outcome.out
    assert "### frechet (lower is better)" in outcome.out
    assert "excluded" not in outcome.out


def test_help_describes_the_command(command):
    assert "Compare the runs below a folder" in command(compare, "--help").out
