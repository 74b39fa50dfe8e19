"""The GPU check: its deadline, failing parts, and its table. No timings are tested.

No name here contains "gpu", because the check itself runs the tests whose name does.
"""

import json
import sys
import tarfile
from pathlib import Path

import pytest
import torch

from experiments.gpu import callbacks, check, context
from experiments.gpu.check import Part, parse_parts
from experiments.gpu.context import CheckContext
from experiments.gpu.equality import largest_difference
from experiments.gpu.results import append_row, format_table, read_rows

PART = """
from experiments.gpu.context import parse_context
context = parse_context()
context.record("index", context.share[0], "0 or 1", context.share[0] in (0, 1))
"""
HANG = (
    PART
    + """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
context.record("child", child.pid)
time.sleep(600)
"""
)
MODULES = {"part_ok": PART, "part_crash": PART + "raise RuntimeError('broken')", "part_hang": HANG}


@pytest.fixture
def run_check(tmp_path, monkeypatch):
    """Run the check with these parts: run_check(parts, *arguments) returns its exit code and its rows."""
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{check.ROOT}")
    monkeypatch.setattr(check, "RESERVE_SECONDS", 0.0)
    monkeypatch.setattr(check, "DRY_RUN_FACTOR", 1)
    monkeypatch.setattr(check.signal, "signal", lambda *_: None)

    def run(parts, *arguments):
        monkeypatch.setattr(check, "PARTS", parts)
        numbers = ",".join(map(str, parts))
        options = ["--device", "cpu", "--out", str(tmp_path / "out"), "--parts", numbers]
        monkeypatch.setattr(sys, "argv", ["check", *options, *arguments])
        with pytest.raises(SystemExit) as end:
            check.main()
        return end.value.code, read_rows(tmp_path / "out")

    return run


def process_values(rows):
    """Return how the process of each part ended."""
    return {row["part"]: row["value"] for row in rows if row["name"].startswith("process")}


def test_part_that_crashes_or_hangs_does_not_stop_the_others(run_check, tmp_path):
    parts = {
        0: Part("Crash", "part_crash", 60),
        1: Part("Hang", "part_hang", 5),
        2: Part("Shares", "part_ok", 60, arguments=[["--share=0/2"], ["--share=1/2"]]),
        3: Part("Alone", "part_ok", 60, alone=True),
    }
    code, rows = run_check(parts)
    assert code == 1
    assert sorted(row["part"] for row in rows if row["name"] == "index") == [0, 1, 2, 2, 3]
    ends = process_values(rows)
    assert "exit code 1" in ends[0]
    assert ends[0].endswith("RuntimeError: broken")
    assert ends[1].startswith("killed after")
    child = next(row["value"] for row in rows if row["name"] == "child")
    assert not Path("/proc", child).exists() or "Z" in Path("/proc", child, "stat").read_text()
    assert rows[-1]["part"] == 3
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"results.jsonl", "table.md", "logs.tar.gz"}
    with tarfile.open(tmp_path / "out" / "logs.tar.gz") as archive:
        logs = {Path(name).name for name in archive.getnames()}
    assert logs == {"logs", "part0.txt", "part1.txt", "part2-0.txt", "part2-1.txt", "part3.txt"}


def test_deadline_ends_all_parts_and_reports_those_that_have_not_run(run_check, tmp_path):
    parts = {0: Part("Hang", "part_hang", 600, alone=True), 1: Part("Waits", "part_ok", 600, alone=True)}
    code, rows = run_check(parts, "--seconds", "5")
    assert code == 1
    ends = process_values(rows)
    assert ends[0].startswith("killed after")
    assert ends[1] == "not run: no time left"
    table = (tmp_path / "out" / "table.md").read_text()
    assert "| process part1 | not run: no time left | ends | NOT HELD |" in table
    assert "- commit: " in table


def test_check_in_which_all_marks_are_held_succeeds(run_check):
    code, rows = run_check({7: Part("Fine", "part_ok", 60)})
    assert code == 0
    assert [row["held"] for row in rows] == [True, True]


def test_missing_device_is_reported_in_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(check.shutil, "which", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["check", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as end:
        check.main()
    sentence = "error: the GPU check needs an NVIDIA GPU, and nvidia-smi finds none; --device cpu is a dry run"
    assert end.value.code == sentence  # Python prints it and exits with code 1
    assert not (tmp_path / "out").exists()


def test_table_has_a_section_per_part_and_counts_the_marks(tmp_path):
    append_row(tmp_path, 4, "graph", "90,000 images/s")
    append_row(tmp_path, 0, "a|b", "1\n2", "1", False)
    append_row(tmp_path, 4, "ratio", 0.95, ">= 0.9", True)
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"part": 4, "na')  # of a killed process
    titles = {0: "Versions", 4: "Speed", 5: "Kernels"}
    columns = "| measurement | value | mark | |\n| --- | --- | --- | --- |\n"
    assert format_table(read_rows(tmp_path), {"device": "H200"}, titles) == (
        "# GPU check\n\n- device: H200\n\n1 of 2 marks are held.\n"
        f"\n## 0. Versions\n\n{columns}| a/b | 1 2 | 1 | NOT HELD |\n"
        f"\n## 4. Speed\n\n{columns}"
        "| graph | 90,000 images/s |  |  |\n| ratio | 0.95 | >= 0.9 | held |\n"
    )


def test_list_of_parts_is_parsed_and_unknown_ones_are_rejected():
    assert parse_parts("2,0,2") == [2, 0]
    for text in ("11", "0,", "x"):
        with pytest.raises(check.argparse.ArgumentTypeError, match="must be of 0,1,2,3,4,5,6,7,8,9,10, got"):
            parse_parts(text)


def test_difference_of_weights_is_relative_for_large_tensors(tmp_path):
    states = [{"small": torch.tensor([0.1]), "large": torch.tensor([100.0])}] * 2
    states[1] = {"small": torch.tensor([0.2]), "large": torch.tensor([101.0])}
    for name, state in zip("ab", states, strict=True):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        torch.save({"state_dict": state}, tmp_path / name / "checkpoints" / "last.ckpt")
    assert largest_difference(tmp_path / "a", tmp_path / "b") == pytest.approx(0.1, rel=1e-6)


@pytest.fixture
def dry_run(tmp_path, monkeypatch):
    """The context of a part in a dry run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs").mkdir()
    monkeypatch.setattr(context, "TINY", [o for o in context.TINY if not o.startswith("data.limit")])  # of 64 images
    return CheckContext(4, "cpu", tmp_path, tmp_path / "work")


def test_equality_of_a_configuration_is_recorded(dry_run, monkeypatch):
    from experiments.gpu import equality

    monkeypatch.setattr(equality, "STEPS", 4)
    equality.compare(dry_run, "adamw", ["optimizer=adamw", "scheduler=cosine", "scheduler.steps=4"])
    (row,) = read_rows(dry_run.out)
    assert (row["name"], row["held"]) == ("adamw, default algorithms", True)
    assert row["value"] == "eager again 0, graph 0, 20 + 20 steps 0"
    equality.compare(dry_run, "bad", ["loss=none"])
    assert read_rows(dry_run.out)[-1]["value"].startswith("eager: ")
    assert read_rows(dry_run.out)[-1]["held"] is False


def test_speed_and_synchronizations_of_a_training_are_recorded(dry_run, monkeypatch):
    from experiments.gpu import kernels, speed

    assert speed.measure_training(dry_run, "graph, TF32", seconds=0.1, warm_up_steps=2) > 0
    kernels.count_synchronizations(dry_run, graph=False)
    rows = read_rows(dry_run.out)
    assert rows[0]["name"] == "dcgan.train, graph, TF32"
    assert json.loads((dry_run.work / "sync-False.json").read_text()) == {"steps": 3, "lines": {}}


@pytest.mark.parametrize("name", ["Stopwatch", "SyncCounter"])
def test_measuring_does_not_make_each_batch_one_step(name):
    assert getattr(callbacks, name).is_due(None, 1) is False
