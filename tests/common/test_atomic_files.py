"""Atomic writes of files and folders, and the errors of writing."""

import errno
import json
import math
import os
import stat
from pathlib import Path

import pytest

from dcgan.common.atomic_files import atomic_folder, atomic_path, nonfinite_to_none, write_errors, write_json
from dcgan.common.errors import UserError


def test_file_is_replaced_when_the_new_one_is_complete(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("old")
    flushed: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink()))
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert temporary.parent.parent == path.parent  # on the same disk
        assert stat.S_IMODE(temporary.parent.stat().st_mode) == 0o700
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert flushed == [temporary, tmp_path]  # the content before the renaming, the folder's entry after it
    with pytest.raises(TypeError), atomic_path(path) as temporary:
        temporary.write_text(b"half")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_link_at_a_guessed_name_is_not_followed(tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "a.png"
    victim.write_text("mine")
    path.symlink_to(victim)
    names = set()
    for _ in range(3):
        with atomic_path(path) as temporary:
            names.add(temporary.parent.name)
            temporary.write_text("picture")
    assert len(names) == 3
    assert victim.read_text() == "mine"
    assert not path.is_symlink()


def test_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "usual").write_text("")
    with atomic_path(tmp_path / "a") as temporary:
        temporary.write_text("")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_folder_appears_when_it_is_complete(tmp_path):
    with atomic_folder(tmp_path / "new") as temporary:
        (temporary / "a").write_text("a")
        assert not (tmp_path / "new").exists()
    assert (tmp_path / "new" / "a").read_text() == "a"
    with pytest.raises(TypeError), atomic_folder(tmp_path / "failed") as temporary:
        (temporary / "a").write_text(b"half")
    assert list(tmp_path.iterdir()) == [tmp_path / "new"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [(OSError(errno.ENOSPC, "No space left on device"), "No space left on device"), (RuntimeError("a\nb"), "a")],
)
def test_write_errors_name_the_path_the_reason_and_an_alternative(error, reason):
    message = f"^a.png cannot be written .{reason}.: free some disk space or choose another out=$"
    with pytest.raises(UserError, match=message), write_errors("a.png", "another out="):
        raise error


def test_other_errors_than_write_errors_pass():
    with pytest.raises(RuntimeError), write_errors("a.png", "another out=", (OSError,)):
        raise RuntimeError


def test_json_has_null_for_nonfinite_numbers(tmp_path):
    values = nonfinite_to_none({"a": 1.5, "b": math.nan, "c": math.inf, "d": -math.inf})
    write_json(tmp_path / "a.json", values)
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1.5, "b": None, "c": None, "d": None}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": math.nan})
