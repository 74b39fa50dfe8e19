"""Signals, in real processes: the end of the step is waited for, the state saved, and the shell told."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from PIL import Image

from dcgan.interruption import Interruption
from tests.conftest import TINY
from tests.runs import differing, weights
from tests.torture import members

ENDLESS = [*TINY, "hydra.run.dir=run", "max_steps=100000", "samples.steps=[0,10]", "evaluator=none"]


def as_in_a_terminal() -> None:
    """A shell's background job ignores Ctrl-C, and so would what it starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def training(
    folder: Path,
    root: Path,
    *overrides: str,
    command: tuple[str, ...] = ("-m", "dcgan.train"),
    sign: str = "run/samples/step_000010.png",
    **environment: str,
) -> Iterator[subprocess.Popen[str]]:
    """A run of the real command that has written `sign`; nothing of it is left afterwards."""
    process = subprocess.Popen(
        [sys.executable, *command, *ENDLESS, *overrides],
        cwd=folder, env=os.environ | {"DCGAN_DATA_DIR": str(root)} | environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, preexec_fn=as_in_a_terminal,
    )  # fmt: skip
    try:
        wait_for(folder / sign, process)
        yield process
    finally:
        for pid in members(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.communicate(timeout=10)


def wait_for(path: Path, process: subprocess.Popen[str], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, f"{path} does not appear"
        time.sleep(0.05)


def assert_gone(process: subprocess.Popen[str]) -> None:
    """What closes its output may need a moment to end."""
    end = time.monotonic() + 10
    while members(process.pid):
        assert time.monotonic() < end, f"processes {members(process.pid)} are left"
        time.sleep(0.05)


def step(folder: Path) -> int:
    return torch.load(folder / "run" / "checkpoints" / "last.ckpt", weights_only=True)["step"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_an_interrupted_run_saves_and_says_how_to_go_on(tmp_path, mnist_root, number, code):
    with training(tmp_path, mnist_root, "trainer=cpu") as process:
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert step(tmp_path) >= 10
    assert f"interrupted at step {step(tmp_path)}: go on with ckpt_path=" in err
    assert err.count("\n") == 1


def test_a_closed_terminal_ends_no_run_that_was_told_to_ignore_it():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with Interruption().listening():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) not in (signal.SIG_IGN, signal.SIG_DFL)
    finally:
        signal.signal(signal.SIGHUP, before)


# a line of progress at each step
TALKATIVE = "from dcgan import progress, train; progress.LINE_SECONDS = 0; train.main()"


@pytest.mark.parametrize("full", [False, True])
def test_output_that_cannot_be_written_ends_no_training(tmp_path, mnist_root, full):
    """The reader of a pipe has gone, or the disk of a log is full."""
    reader, writer = os.pipe()
    os.close(reader)
    device = os.open("/dev/full", os.O_WRONLY)
    done = subprocess.run(
        [sys.executable, "-c", TALKATIVE, *TINY, "trainer=cpu", "hydra.run.dir=run", "max_steps=30"], cwd=tmp_path,
        stdout=device if full else writer, stderr=subprocess.PIPE, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.returncode == 0
    assert step(tmp_path) == 30
    assert (tmp_path / "run" / "summary.json").exists()


def test_a_signal_that_reaches_the_reading_processes_too_loses_no_step(tmp_path, mnist_root):
    (tmp_path / "pictures").mkdir()
    for i in range(16):
        Image.new("L", (8, 8), 8 * i).save(tmp_path / "pictures" / f"{i}.png")
    folder = ["data=image_folder", "data.root=pictures", "data.image_size=8", "data.workers=2", "trainer=cpu"]
    with training(tmp_path, mnist_root, *folder) as process:
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert f"interrupted at step {step(tmp_path)}: go on with ckpt_path=" in err
    assert err.count("\n") == 1


def test_a_second_ctrl_c_ends_the_run_at_once(tmp_path, mnist_root):
    slow = tmp_path / "slow.py"
    slow.write_text(
        "import time\nfrom dcgan import train\nfrom dcgan.gan import GAN\nstep = GAN.training_step\n"
        "def slow(self, batch, batch_idx):\n    if self.step == 10:\n"
        "        open('asleep', 'w').close()\n        time.sleep(600)\n"
        "    return step(self, batch, batch_idx)\nGAN.training_step = slow\ntrain.main()\n"
    )
    with training(tmp_path, mnist_root, "trainer=cpu", command=("slow.py",)) as process:
        wait_for(tmp_path / "asleep", process)
        process.send_signal(signal.SIGINT)
        time.sleep(1)
        assert process.poll() is None  # the step is not over
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "ended at once and without saving" in err
    assert step(tmp_path) == 0


def test_ctrl_c_before_the_training_leaves_no_traceback(tmp_path):
    """As while the data are read: the library that does it waits in here."""
    late = "import signal, sys\nsys.argv[1:] = ['max_steps=1', 'hydra.run.dir=run']\nfrom dcgan import train\n"
    late += "def wait(*_): signal.raise_signal(signal.SIGINT)\ntrain.run_job = wait\ntrain.main()\n"
    done = subprocess.run(
        [sys.executable, "-c", late], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        preexec_fn=as_in_a_terminal,
    )  # fmt: skip
    assert done.returncode == 130
    assert done.stderr == "error: interrupted\n"


def test_two_processes_that_hear_the_signal_while_they_start_save_too(tmp_path, mnist_root):
    """Lightning's handlers would wait for each other in there, and end with exit code 0."""
    with training(tmp_path, mnist_root, "trainer=ddp_cpu", sign="run/samples/step_000000.png") as process:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert f"interrupted at step {step(tmp_path)}: go on with ckpt_path=" in err
    assert err.count("\n") == 1


def test_a_process_whose_launcher_is_killed_before_they_have_met_ends_too(tmp_path, mnist_root):
    with training(tmp_path, mnist_root, "trainer=ddp_cpu", sign="run/.hydra/lock") as process:
        end = time.monotonic() + 60
        while len(members(process.pid)) < 2 and time.monotonic() < end:
            time.sleep(0.05)
        assert len(members(process.pid)) == 2
        process.kill()
        _, err = process.communicate(timeout=60)
        assert_gone(process)
    assert "the first process of this run" in err
    assert "Traceback" not in err


def test_two_processes_stop_at_the_same_step_also_where_the_second_one_hears_the_signal(tmp_path, mnist_root):
    with training(tmp_path, mnist_root, "trainer=ddp_cpu") as process:
        _, other = members(process.pid)
        os.kill(other, signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert f"interrupted at step {step(tmp_path)}: go on with ckpt_path=" in err
    assert err.count("\n") == 1
    assert "rank_buffers" in torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.mark.parametrize("victim", [0, 1])
def test_one_killed_process_ends_the_job_with_a_message(tmp_path, mnist_root, victim):
    with training(tmp_path, mnist_root, "trainer=ddp_cpu") as process:
        pids = members(process.pid)
        os.kill(pids[victim], signal.SIGKILL)
        _, err = process.communicate(timeout=60)  # to the end of all who write there
        assert_gone(process)
    assert process.returncode in (1, -signal.SIGKILL)
    assert "has lost another one" in err or "is gone: so is this one" in err, err
    assert "Traceback" not in err
    assert step(tmp_path) == 0


SLURM = {f"SLURM_{name}": "0" for name in ("PROCID", "LOCALID", "NODEID")}
SLURM |= {"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "dcgan", "SLURM_JOB_ID": "4711"}


def test_slurm_warns_requeues_and_the_same_command_goes_on(tmp_path, mnist_root, dcgan_train):
    """Lightning's part is its own: it finds SLURM by its variables, saves, and calls scontrol."""
    (tmp_path / "bin").mkdir()
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.write_text(f"#!/bin/sh\necho $@ >> {tmp_path}/requeued\n")
    scontrol.chmod(0o755)
    (tmp_path / "bin" / "srun").symlink_to("/bin/true")
    environment = SLURM | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    with training(tmp_path, mnist_root, "trainer=cpu", "ckpt_path=auto", **environment) as process:
        process.send_signal(signal.SIGUSR1)
        wait_for(tmp_path / "requeued", process)
        assert process.poll() is None  # it uses the time that is left
        os.kill(process.pid, signal.SIGKILL)
    assert (tmp_path / "requeued").read_text() == "requeue 4711\n"
    (saved,) = (tmp_path / "run").glob("hpc_ckpt_*.ckpt")
    at = torch.load(saved, weights_only=True)["step"]
    assert at == step(tmp_path) >= 10
    (tmp_path / "run" / "checkpoints" / "last.ckpt").unlink()  # ours, of the same step
    done = subprocess.run(
        [sys.executable, "-m", "dcgan.train", *ENDLESS, "trainer=cpu", "ckpt_path=auto", f"max_steps={at + 9}"],
        cwd=tmp_path, env=os.environ | {"DCGAN_DATA_DIR": str(mnist_root)} | environment, capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"goes on from {saved}" in done.stdout
    whole = [*ENDLESS, "trainer=cpu", f"max_steps={at + 9}", "hydra.run.dir=whole"]
    assert dcgan_train(*whole).code == 0
    assert differing(weights(tmp_path / "whole"), weights(tmp_path / "run")) == []
