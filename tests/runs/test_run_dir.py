import threading
from pathlib import Path

import pytest
from filelock import FileLock
from omegaconf import OmegaConf

from dcgan.common.atomic_files import write_text
from dcgan.common.errors import UserError
from dcgan.runs.run_dir import lock_run_dir, reject_changed_settings, remove_if_empty
from tests.conftest import TINY
from tests.run_files import RUN, different_tensors, weights


def test_second_training_in_a_folder_is_rejected(dcgan_train, monkeypatch):
    monkeypatch.setattr("dcgan.runs.run_dir.LOCK_SECONDS", 0.1)
    with lock_run_dir(Path("run")):
        outcome = dcgan_train(*TINY, *RUN, "max_steps=1")
    assert outcome.code == 1
    assert "run: stop it, or choose another hydra.run.dir" in outcome.err
    assert not Path("run/.hydra/config.yaml").exists()
    assert dcgan_train(*TINY, *RUN, "max_steps=1").code == 0


def test_training_waits_for_the_lock(tmp_path, capsys):
    (tmp_path / ".hydra").mkdir()
    lock = FileLock(tmp_path / ".hydra" / "lock", thread_local=False)
    lock.acquire()
    threading.Timer(1, lock.release).start()
    with lock_run_dir(tmp_path):
        assert not lock.is_locked
    assert f"another training writes to {tmp_path}: waiting for it to end" in capsys.readouterr().err


def test_temporary_files_of_a_killed_training_are_removed(tmp_path):
    evaluation = tmp_path / "checkpoints" / ".last.evaluation.json.2.tmp"  # another process may still be writing it
    for name in ("checkpoints/.last.ckpt.1.tmp", "samples/.step_000001.png.1.tmp", ".metrics.csv.1.tmp", evaluation):
        write_text(tmp_path / name / "file", "half")
    with lock_run_dir(tmp_path):
        assert list(tmp_path.rglob("*.tmp")) == [evaluation]


def test_run_in_a_folder_with_checkpoints_is_rejected(dcgan_train, trained_run):
    trained_run("max_steps=1")
    before = weights()
    outcome = dcgan_train(*TINY, *RUN, "max_steps=2", "seed=1")
    assert outcome.code == 1
    assert "run already holds checkpoints: resume with ckpt_path=" in outcome.err
    assert different_tensors(before, weights()) == []
    assert "seed: 0" in Path("run/.hydra/config.yaml").read_text()
    # also if it resumes from another folder
    trained_run("max_steps=1", folder="other")
    outcome = dcgan_train("ckpt_path=other/checkpoints/last.ckpt", "hydra.run.dir=run", "max_steps=2")
    assert outcome.code == 1
    assert different_tensors(before, weights()) == []


def test_changed_option_is_rejected(tmp_path):
    """Also if its settings have no key in common with those of the previous option."""
    record = {"config": {"penalty": None}, "hydra": {"hydra": {"runtime": {"choices": {"penalty": "none"}}}}}
    for name, content in record.items():
        write_text(tmp_path / ".hydra" / f"{name}.yaml", OmegaConf.to_yaml(OmegaConf.create(content)))
    cfg = OmegaConf.create({"penalty": {"weight": 10}, "trainer": {}})
    reject_changed_settings(tmp_path, cfg, {"penalty": "none", "trainer": "gpu", "experiment": "fast"})
    with pytest.raises(UserError, match="was begun with penalty=none, but now penalty=r1"):
        reject_changed_settings(tmp_path, cfg, {"penalty": "r1"})


def test_folder_of_another_training_is_not_removed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_dir = tmp_path / "a" / "run"
    write_text(run_dir / ".hydra" / "config.yaml", "seed: 0")
    with FileLock(run_dir / ".hydra" / "lock"):
        remove_if_empty(run_dir)
        assert (run_dir / ".hydra" / "config.yaml").exists()
    remove_if_empty(run_dir)
    assert list(tmp_path.iterdir()) == []


def test_working_directory_and_folders_with_results_are_not_removed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    remove_if_empty(Path())
    assert tmp_path.is_dir()
    write_text(tmp_path / "run" / "metrics.csv", "step")
    remove_if_empty(tmp_path / "run")
    assert (tmp_path / "run" / "metrics.csv").exists()
