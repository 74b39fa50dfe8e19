"""Full, read-only and lost disks: the error is one sentence, and the last checkpoint is valid."""

import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dcgan.checkpoints.io import read_checkpoint
from dcgan.common.errors import UserError
from dcgan.data.datamodule import BaseDataModule
from dcgan.losses.adversarial import NonSaturating
from dcgan.training.callbacks import checkpoints
from dcgan.training.callbacks.metrics_logger import MetricsLogger
from tests.conftest import TINY
from tests.run_files import RUN, different_tensors, weights

OFTEN = [*TINY, *RUN, "max_steps=100000", "checkpoints.every_n_steps=2", "evaluator=none", "samples.steps=[0]"]


@contextmanager
def small_disk(folder: Path) -> Iterator[Callable[[int], None]]:
    """Mount `folder` as a disk of its own, and yield a function that shrinks it to a number of free bytes.

    Without the right to mount one, limit the size of each file instead.
    """
    folder.mkdir()
    mounted = (
        os.getuid() == 0 and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=50m", "tmpfs", folder]).returncode == 0
    )
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)

    def shrink(free: int) -> None:
        if mounted:
            used = shutil.disk_usage(folder).used
            subprocess.run(["mount", "-o", f"remount,size={used + free}", folder], check=True)
        else:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # an error instead of a kill
            resource.setrlimit(resource.RLIMIT_FSIZE, (max(free, 10_000), limits[1]))  # the captured stderr grows too

    try:
        yield shrink
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
        if mounted:
            subprocess.run(["umount", "--lazy", folder], check=True)


def call_at_step(step: int, function: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Call the function once, after the training step with this number."""
    on_train_batch_end = MetricsLogger.on_train_batch_end

    def patched(self, trainer, gan, *args):
        if gan.step == step:
            function()
        on_train_batch_end(self, trainer, gan, *args)

    monkeypatch.setattr(MetricsLogger, "on_train_batch_end", patched)


def saved_step(run: Path) -> int:
    """Return the step of last.ckpt. Assert that it is valid and that there are no temporary files."""
    checkpoint = read_checkpoint(run / "checkpoints" / "last.ckpt")
    assert not list(run.rglob("*.tmp"))
    return checkpoint["step"]


@pytest.mark.parametrize("free", [0, 30_000])
def test_full_disk_is_reported_and_the_run_can_be_resumed(dcgan_train, monkeypatch, tmp_path, free, trained_run):
    with small_disk(tmp_path / "disk") as shrink:
        run = tmp_path / "disk" / "run"
        with monkeypatch.context() as patch:
            call_at_step(7, lambda: shrink(free), patch)
            outcome = dcgan_train(*OFTEN, f"hydra.run.dir={run}")
            assert outcome.code == 1
            assert "Traceback" not in outcome.err
            assert "cannot be written" in outcome.err
            assert outcome.err.count("\n") == 1
        assert 6 <= saved_step(run) < 1000
        shrink(40_000_000)
        outcome = dcgan_train("ckpt_path=auto", "max_steps=9", f"hydra.run.dir={run}")
        assert outcome.code == 0, outcome.err
        trained_run("max_steps=9", folder="uninterrupted")
        assert different_tensors(weights("uninterrupted"), weights(run)) == []


def test_full_disk_is_reported_before_the_first_step(dcgan_train, tmp_path):
    with small_disk(tmp_path / "disk") as shrink:
        shrink(20_000)
        outcome = dcgan_train(*OFTEN, f"hydra.run.dir={tmp_path}/disk/run")
    assert outcome.code == 1
    assert "cannot be written" in outcome.err
    assert outcome.err.count("\n") == 1


def test_unwritable_folder_is_reported(dcgan_train, tmp_path):
    if os.getuid() == 0:
        folder = Path("/proc/self")  # not even root can write to it
    else:
        folder = tmp_path / "locked"
        folder.mkdir(mode=0o500)
    outcome = dcgan_train(*OFTEN, f"hydra.run.dir={folder}/run")
    assert outcome.code == 1
    assert f"{folder}/run cannot be read or written" in outcome.err
    assert outcome.err.count("\n") == 1


def test_missing_run_folder_is_reported_and_the_state_in_memory_is_saved(dcgan_train, monkeypatch):
    call_at_step(11, lambda: shutil.rmtree("run"), monkeypatch)
    outcome = dcgan_train(*OFTEN, "checkpoints.every_n_steps=1000")
    assert outcome.code == 1
    assert "Traceback" not in outcome.err
    assert "the run folder" in outcome.err
    assert "is gone (moved, deleted, or on a disk that is): what was in memory is saved again; fix" in outcome.err
    step = saved_step(Path("run"))
    assert step >= 11
    assert f"last.ckpt, which holds step {step}" in outcome.err


def test_step_is_saved_if_an_error_follows_it(dcgan_train, monkeypatch, trained_run):
    def fail():
        raise LookupError("a bug")

    with monkeypatch.context() as patch:
        call_at_step(7, fail, patch)
        with pytest.raises(LookupError):
            dcgan_train(*TINY, *RUN, "max_steps=12", "metrics.every_n_steps=5")
    assert saved_step(Path("run")) == 7
    outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt")
    assert outcome.code == 0, outcome.err
    trained_run("max_steps=12", folder="uninterrupted")
    assert different_tensors(weights("uninterrupted"), weights()) == []


def test_last_complete_step_is_saved_if_an_error_interrupts_the_next_one(dcgan_train, monkeypatch, capfd, trained_run):
    monkeypatch.setattr(checkpoints, "COPY_EVERY_N_STEPS", 5)
    generator, calls = NonSaturating.generator, []

    def fail(self, fake_logits):
        calls.append(1)
        if len(calls) == 8:  # D is already updated
            raise LookupError("a bug")
        return generator(self, fake_logits)

    with monkeypatch.context() as patch:
        patch.setattr(NonSaturating, "generator", fail)
        with pytest.raises(LookupError):
            dcgan_train(*TINY, *RUN, "max_steps=12")
    assert "note: fix that and resume with ckpt_path=" in capfd.readouterr().err
    assert 5 <= saved_step(Path("run")) < 8
    assert dcgan_train("ckpt_path=run/checkpoints/last.ckpt").code == 0
    trained_run("max_steps=12", folder="uninterrupted")
    assert different_tensors(weights("uninterrupted"), weights()) == []


def test_last_step_is_saved_and_no_batch_is_skipped_if_an_error_occurs_between_steps(
    dcgan_train, monkeypatch, trained_run
):
    """The loader has counted the batch as delivered."""
    encode, calls = BaseDataModule.on_after_batch_transfer, []

    def fail(self, batch, dataloader_idx):
        calls.append(1)
        if len(calls) == 4:
            raise UserError("the batch is lost")
        return encode(self, batch, dataloader_idx)

    with monkeypatch.context() as patch:
        patch.setattr(BaseDataModule, "on_after_batch_transfer", fail)
        outcome = dcgan_train(*TINY, *RUN, "max_steps=6")
    assert outcome.code == 1
    assert "the batch is lost" in outcome.err
    step = saved_step(Path("run"))
    assert 1 <= step < 4
    assert f"last.ckpt, which holds step {step}" in outcome.err
    assert dcgan_train("ckpt_path=run/checkpoints/last.ckpt").code == 0
    trained_run("max_steps=6", folder="uninterrupted")
    assert different_tensors(weights("uninterrupted"), weights()) == []


def test_slow_disk_is_reported(dcgan_train, monkeypatch):
    monkeypatch.setattr(checkpoints, "SLOW_SECONDS", -1)
    outcome = dcgan_train(*TINY, *RUN, "max_steps=1")
    assert outcome.code == 0
    assert "last.ckpt took 0 s, the disk is slow: choose another hydra.run.dir or a larger" in outcome.err
