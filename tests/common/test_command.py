from pathlib import Path

import pytest

from dcgan.common.command import clean_override


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
