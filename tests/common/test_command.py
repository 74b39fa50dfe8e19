import os
import subprocess
import sys
from pathlib import Path

import pytest

from dcgan.common.command import clean_override, run


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("max_steps=1e3", "max_steps=1000"),
        ("max_steps=2.5e3", "max_steps=2500"),
        ("max_steps=1.5e0", "max_steps=1.5e0"),  # rejected later: not a whole number
        ("optimizer.lr=1e3", "optimizer.lr=1e3"),
        ("max_steps=1e999999999", "max_steps=1e999999999"),
        ("out=a=b.png", "out='a=b.png'"),
        ("out='a b.png'", "out='a b.png'"),
        ("out=it's.png", "out='it\\'s.png'"),
        ("ckpt_path=null", "ckpt_path=null"),
        ("ckpt_path=auto", "ckpt_path='auto'"),
        ("checkpoint=no/run", "checkpoint='no/run'"),
        ("~penalty", "~penalty"),
    ],
)
def test_override_is_cleaned(argument, expected):
    assert clean_override(argument) == expected


def test_run_folder_is_its_last_checkpoint(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    assert clean_override(f"checkpoint={tmp_path}") == f"checkpoint='{tmp_path}'"
    last = tmp_path / "checkpoints" / "last.ckpt"
    last.touch()
    assert clean_override(f"checkpoint={tmp_path}") == f"checkpoint='{last}'"
    assert clean_override(f"out={tmp_path}") == f"out='{tmp_path}'"


def test_tilde_is_the_home_folder():
    assert clean_override("data.root=~/pictures") == f"data.root='{Path.home() / 'pictures'}'"


@pytest.mark.parametrize(("given", "used"), [("", None), ("~/sets", str(Path.home() / "sets")), ("sets", "sets")])
def test_data_folder_of_the_environment(monkeypatch, given, used):
    monkeypatch.setenv("DCGAN_DATA_DIR", given)
    run(lambda: None, "train")
    assert os.environ.get("DCGAN_DATA_DIR") == used


def test_interrupt_of_imports_is_reported_in_one_line():
    code = "import sys; sys.argv = ['-m']; import dcgan; raise {}"

    def stderr(error: str) -> list[str]:
        command = [sys.executable, "-c", code.format(error)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stderr.splitlines()

    assert stderr("KeyboardInterrupt") == ["error: interrupted"]
    assert stderr("ValueError")[0].startswith("Traceback")
