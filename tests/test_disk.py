"""Full, read-only and lost disks: a sentence, and the last checkpoint is whole."""

import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from dcgan import callbacks, checkpointing
from dcgan.checkpointing import Checkpoints
from dcgan.files import atomic_path
from dcgan.losses import NonSaturating
from dcgan.trained import read_checkpoint
from tests.conftest import TINY
from tests.runs import RUN, differing, weights

OFTEN = [*TINY, *RUN, "max_steps=100000", "checkpoints.every_n_steps=2", "evaluator=none", "samples.steps=[0]"]


@contextmanager
def small_disk(folder: Path) -> Iterator[Callable[[int], None]]:
    """`folder` as a disk of its own, which a call makes so small that only that many bytes are left. Without the right
    to mount one, no file can grow beyond that many bytes instead."""
    folder.mkdir()
    mounted = (
        os.getuid() == 0 and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=50m", "tmpfs", folder]).returncode == 0
    )
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)

    def leave(free: int) -> None:
        if mounted:
            used = shutil.disk_usage(folder).used
            subprocess.run(["mount", "-o", f"remount,size={used + free}", folder], check=True)
        else:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # an error instead of a kill
            resource.setrlimit(resource.RLIMIT_FSIZE, (max(free, 10_000), limits[1]))  # the captured stderr grows too

    try:
        yield leave
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
        if mounted:
            subprocess.run(["umount", "--lazy", folder], check=True)


def when(step: int, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Act once when the run comes to that step."""
    monitor = callbacks.Monitor.on_train_batch_end

    def spied(self, trainer, gan, *args):
        if gan.step == step:
            act()
        monitor(self, trainer, gan, *args)

    monkeypatch.setattr(callbacks.Monitor, "on_train_batch_end", spied)


def assert_whole(run: Path, least: int) -> int:
    checkpoint = read_checkpoint(run / "checkpoints" / "last.ckpt")
    assert checkpoint["step"] >= least
    assert not list(run.rglob("*.tmp"))
    return checkpoint["step"]


@pytest.mark.parametrize("free", [0, 30_000])
def test_a_disk_that_fills_up_is_told_and_the_run_goes_on_when_there_is_room(dcgan_train, monkeypatch, tmp_path, free):
    with small_disk(tmp_path / "disk") as leave:
        run = tmp_path / "disk" / "run"
        with monkeypatch.context() as patch:
            when(7, lambda: leave(free), patch)
            outcome = dcgan_train(*OFTEN, f"hydra.run.dir={run}")
            assert outcome.code == 1
            assert "Traceback" not in outcome.err
            assert "cannot be written" in outcome.err
            assert outcome.err.count("\n") == 1
        assert assert_whole(run, 6) < 1000
        leave(40_000_000)
        outcome = dcgan_train("ckpt_path=auto", "max_steps=9", f"hydra.run.dir={run}")
        assert outcome.code == 0, outcome.err
        dcgan_train(*OFTEN, "max_steps=9", "hydra.run.dir=whole")
        assert differing(weights("whole"), weights(run)) == []


def test_a_full_disk_from_the_start_is_told_before_the_work(dcgan_train, tmp_path):
    with small_disk(tmp_path / "disk") as leave:
        leave(20_000)
        outcome = dcgan_train(*OFTEN, f"hydra.run.dir={tmp_path}/disk/run")
    assert outcome.code == 1
    assert "cannot be written" in outcome.err
    assert outcome.err.count("\n") == 1


def test_a_folder_that_cannot_be_written_to_is_told(dcgan_train, tmp_path):
    if os.getuid() == 0:
        folder = Path("/proc/self")  # that not even root can
    else:
        folder = tmp_path / "locked"
        folder.mkdir(mode=0o500)
    outcome = dcgan_train(*OFTEN, f"hydra.run.dir={folder}/run")
    assert outcome.code == 1
    assert f"{folder}/run cannot be read or written" in outcome.err
    assert outcome.err.count("\n") == 1


def test_a_run_folder_that_vanishes_is_told_and_what_is_in_memory_is_saved(dcgan_train, monkeypatch):
    when(11, lambda: shutil.rmtree("run"), monkeypatch)
    outcome = dcgan_train(*OFTEN, "checkpoints.every_n_steps=1000")
    assert outcome.code == 1
    assert "Traceback" not in outcome.err
    assert "the run folder" in outcome.err
    assert "is gone (moved, deleted, or on a disk that is): what was in memory is saved again; mend" in outcome.err
    at = assert_whole(Path("run"), 11)
    assert f"last.ckpt, which holds step {at}" in outcome.err


def test_any_error_behind_a_step_leaves_that_step_saved(dcgan_train, monkeypatch):
    def fail():
        raise LookupError("a bug")

    with monkeypatch.context() as patch:
        when(7, fail, patch)
        with pytest.raises(LookupError):
            dcgan_train(*TINY, *RUN, "max_steps=12", "metrics.every_n_steps=5")
    assert assert_whole(Path("run"), 7) == 7
    outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt")
    assert outcome.code == 0, outcome.err
    dcgan_train(*TINY, *RUN, "max_steps=12", "metrics.every_n_steps=5", "hydra.run.dir=whole")
    assert differing(weights("whole"), weights()) == []


def test_an_error_within_a_step_leaves_the_last_complete_one_saved(dcgan_train, monkeypatch, capfd):
    monkeypatch.setattr(checkpointing, "REMEMBER_EVERY_N_STEPS", 5)
    generator, calls = NonSaturating.generator, []

    def fail(self, fake_logits):
        calls.append(1)
        if len(calls) == 8:  # D has made its update of that step
            raise LookupError("a bug")
        return generator(self, fake_logits)

    with monkeypatch.context() as patch:
        patch.setattr(NonSaturating, "generator", fail)
        with pytest.raises(LookupError):
            dcgan_train(*TINY, *RUN, "max_steps=12")
    assert "note: mend that and go on with ckpt_path=" in capfd.readouterr().err
    assert assert_whole(Path("run"), 5) < 8
    assert dcgan_train("ckpt_path=run/checkpoints/last.ckpt").code == 0
    dcgan_train(*TINY, *RUN, "max_steps=12", "hydra.run.dir=whole")
    assert differing(weights("whole"), weights()) == []


def test_an_error_between_steps_leaves_the_last_one_saved_and_no_batch_is_left_out(dcgan_train):
    """A picture that cannot be read, in a batch that the loader has counted as delivered."""
    folder = Path("pictures")
    folder.mkdir()
    for i in range(40):
        Image.new("L", (8, 8), 6 * i).save(folder / f"{i:02d}.png")
    where = ["data=image_folder", "data.root=pictures", "data.workers=0"]
    common = [*TINY, *RUN, *where, "data.image_size=8", "max_epochs=2"]
    assert dcgan_train(*common, "hydra.run.dir=whole").code == 0
    whole = (folder / "30.png").read_bytes()
    (folder / "30.png").write_bytes(bytes(len(whole)))  # of the same size, and not among those of the preview
    outcome = dcgan_train(*common)
    assert outcome.code == 1
    assert "pictures/30.png cannot be read" in outcome.err
    at = assert_whole(Path("run"), 1)
    assert at < 5
    assert f"last.ckpt, which holds step {at}" in outcome.err
    (folder / "30.png").write_bytes(whole)
    assert dcgan_train("ckpt_path=run/checkpoints/last.ckpt", *where).code == 0
    assert differing(weights("whole"), weights()) == []


def test_a_slow_disk_is_told(dcgan_train, monkeypatch):
    monkeypatch.setattr(checkpointing, "SLOW_SECONDS", -1)
    outcome = dcgan_train(*TINY, *RUN, "max_steps=1")
    assert outcome.code == 0
    assert "last.ckpt took 0 s, the disk is slow: choose another hydra.run.dir or a larger" in outcome.err


def test_minutes_and_steps_both_save(dcgan_train, monkeypatch):
    saved = []
    save = Checkpoints.save
    monkeypatch.setattr(
        Checkpoints, "save", lambda self, trainer, gan: saved.append(gan.step) or save(self, trainer, gan)
    )
    monkeypatch.setattr(checkpointing, "LOOK_EVERY_N_STEPS", 4)
    dcgan_train(*TINY, *RUN, "max_steps=9", "checkpoints.every_n_minutes=1e-9", "checkpoints.every_n_steps=null")
    assert saved == [0, 4, 8, 9]
    saved.clear()
    never = "checkpoints.every_n_minutes=1000"
    dcgan_train(*TINY, *RUN, "max_steps=9", never, "checkpoints.every_n_steps=3", "hydra.run.dir=other")
    assert saved == [0, 3, 6, 9]


def test_a_file_is_the_old_one_until_the_new_one_is_whole(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("old")
    done: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: done.append(Path(f"/proc/self/fd/{descriptor}").readlink()))
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert temporary.parent == path.parent
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert done == [temporary, tmp_path]  # the content before, the name after the renaming
    with pytest.raises(TypeError), atomic_path(path) as temporary:
        temporary.write_text(b"half")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
