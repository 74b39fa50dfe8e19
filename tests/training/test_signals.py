"""Signals, in real processes: the run finishes its step, saves its state and ends with the exit code of the signal."""

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

from dcgan.training.signals import SignalHandler
from tests.conftest import TINY
from tests.processes import OUT, ForkedProcess, ForkedRanks, PythonProcess, members, run_forked
from tests.run_files import different_tensors, weights

ENDLESS = [*TINY, "hydra.run.dir=run", "max_steps=100000", "samples.steps=[0,10]", "evaluator=none"]


@contextmanager
def training(
    folder: Path,
    root: Path,
    *overrides: str,
    command: tuple[str, ...] = ("-m", "dcgan.train"),
    started_file: str = "run/samples/step_000010.png",
    kind: type[PythonProcess] = ForkedProcess,
    **environment: str,
) -> Iterator[PythonProcess]:
    """Run the command and yield its process when it has written `started_file`. Its processes are killed at the end."""
    process = kind([*command, *ENDLESS, *overrides], folder, DCGAN_DATA_DIR=str(root), **environment)
    try:
        wait_for(folder / started_file, process)
        yield process
    finally:
        process.kill_group()


def wait_for(path: Path, process: PythonProcess, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate(timeout=10)
        assert time.monotonic() < end, f"{path} does not appear"
        time.sleep(0.05)


def assert_gone(process: PythonProcess) -> None:
    """Assert that all processes of the run end within 10 seconds."""
    end = time.monotonic() + 10
    while members(process.pid):
        assert time.monotonic() < end, f"processes {members(process.pid)} are left"
        time.sleep(0.05)


def saved_step(folder: Path) -> int:
    return torch.load(folder / "run" / "checkpoints" / "last.ckpt", weights_only=True)["step"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_interrupted_run_saves_and_reports_how_to_resume(tmp_path, mnist_root, number, code):
    with training(tmp_path, mnist_root, "trainer=cpu") as process:
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert saved_step(tmp_path) >= 10
    assert f"interrupted at step {saved_step(tmp_path)}: resume with ckpt_path=" in err
    assert err.count("\n") == 1


def test_nohup_still_ignores_a_closed_terminal():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with SignalHandler().handling():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) not in (signal.SIG_IGN, signal.SIG_DFL)
    finally:
        signal.signal(signal.SIGHUP, before)


PRINT_EACH_STEP = """
from dcgan import train
from dcgan.training.callbacks import progress_bar
progress_bar.LINE_SECONDS = 0
train.main()
"""


# a new interpreter, which must also end without an error
def test_training_continues_if_the_reader_of_its_output_has_ended(tmp_path, mnist_root):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", PRINT_EACH_STEP, *TINY, "trainer=cpu", "hydra.run.dir=run", "max_steps=30"],
        cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=120, check=False,
    )  # fmt: skip
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode == 0
    assert saved_step(tmp_path) == 30
    assert (tmp_path / "run" / "summary.json").exists()


def test_training_continues_if_the_disk_of_its_log_is_full(tmp_path, mnist_root):
    (tmp_path / "print_each_step.py").write_text(PRINT_EACH_STEP)
    (tmp_path / OUT).symlink_to("/dev/full")
    arguments = ["print_each_step.py", *TINY, "trainer=cpu", "hydra.run.dir=run", "max_steps=30"]
    process = ForkedProcess(arguments, tmp_path, DCGAN_DATA_DIR=str(mnist_root))
    try:
        assert process.wait(120) == 0, process.err.read_text()
    finally:
        process.kill_group()
    assert process.err.read_text() == ""
    assert saved_step(tmp_path) == 30
    assert (tmp_path / "run" / "summary.json").exists()


def test_second_ctrl_c_ends_the_run_at_once(tmp_path, mnist_root):
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
    assert "ended at once, without saving" in err
    assert saved_step(tmp_path) == 0


def test_ctrl_c_before_the_training_prints_no_traceback(tmp_path):
    """Such as while the data are read."""
    late = "import signal, sys\nsys.argv[1:] = ['max_steps=1', 'hydra.run.dir=run']\nfrom dcgan import train\n"
    late += "def wait(*_): signal.raise_signal(signal.SIGINT)\ntrain.run_job = wait\ntrain.main()\n"
    (tmp_path / "late.py").write_text(late)
    done = run_forked("late.py", folder=tmp_path)
    assert done.returncode == 130
    assert done.stderr == "error: interrupted\n"


def test_two_ranks_save_after_a_signal_during_their_start(tmp_path, mnist_root):
    """Lightning's own handlers would wait for each other, and end with exit code 0."""
    first_file = "run/samples/step_000000.png"
    with training(tmp_path, mnist_root, "trainer=ddp_cpu", started_file=first_file, kind=ForkedRanks) as process:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert f"interrupted at step {saved_step(tmp_path)}: resume with ckpt_path=" in err
    assert err.count("\n") == 1


# rank 1 is a new interpreter, which takes seconds to get there
def test_rank_ends_if_its_launcher_is_killed_before_they_are_connected(tmp_path, mnist_root):
    with training(tmp_path, mnist_root, "trainer=ddp_cpu", started_file="run/.hydra/lock") as process:
        end = time.monotonic() + 60
        while len(members(process.pid)) < 2 and time.monotonic() < end:
            time.sleep(0.05)
        assert len(members(process.pid)) == 2
        process.send_signal(signal.SIGKILL)
        _, err = process.communicate(timeout=60)
        assert_gone(process)
    assert "rank 0 of this run" in err
    assert "Traceback" not in err


def test_two_ranks_stop_at_the_same_step_after_a_signal_to_rank_1(tmp_path, mnist_root):
    with training(tmp_path, mnist_root, "trainer=ddp_cpu", kind=ForkedRanks) as process:
        _, other = members(process.pid)
        os.kill(other, signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert f"interrupted at step {saved_step(tmp_path)}: resume with ckpt_path=" in err
    assert err.count("\n") == 1
    assert "rank_buffers" in torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.mark.parametrize("victim", [0, 1])
def test_killed_rank_ends_the_job_with_a_message(tmp_path, mnist_root, victim):
    with training(tmp_path, mnist_root, "trainer=ddp_cpu", kind=ForkedRanks) as process:
        pids = members(process.pid)
        os.kill(pids[victim], signal.SIGKILL)
        _, err = process.communicate(timeout=60)  # until all processes have closed it
        assert_gone(process)
    assert process.returncode in (1, -signal.SIGKILL)
    assert "has lost another rank" in err or "has died, so this rank ends" in err, err
    assert "Traceback" not in err
    assert saved_step(tmp_path) == 0


SLURM = {f"SLURM_{name}": "0" for name in ("PROCID", "LOCALID", "NODEID")}
SLURM |= {"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "dcgan", "SLURM_JOB_ID": "4711"}


def test_slurm_job_is_requeued_and_the_same_command_resumes(tmp_path, mnist_root, dcgan_train):
    """Lightning finds SLURM by its variables, saves a checkpoint of its own, and calls scontrol."""
    (tmp_path / "bin").mkdir()
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.write_text(f"#!/bin/sh\necho $@ >> {tmp_path}/requeued\n")
    scontrol.chmod(0o755)
    (tmp_path / "bin" / "srun").symlink_to("/bin/true")
    environment = SLURM | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    with training(tmp_path, mnist_root, "trainer=cpu", "ckpt_path=auto", **environment) as process:
        process.send_signal(signal.SIGUSR1)
        wait_for(tmp_path / "requeued", process)
        assert process.poll() is None  # it trains until SLURM ends it
        os.kill(process.pid, signal.SIGKILL)
    assert (tmp_path / "requeued").read_text() == "requeue 4711\n"
    (saved,) = (tmp_path / "run").glob("hpc_ckpt_*.ckpt")
    at = torch.load(saved, weights_only=True)["step"]
    assert at == saved_step(tmp_path) >= 10
    (tmp_path / "run" / "checkpoints" / "last.ckpt").unlink()  # this project's, of the same step
    again = ["-m", "dcgan.train", *ENDLESS, "trainer=cpu", "ckpt_path=auto", f"max_steps={at + 9}"]
    done = run_forked(*again, folder=tmp_path, DCGAN_DATA_DIR=str(mnist_root), **environment)
    assert done.returncode == 0, done.stderr
    assert f"resume       {saved}, step {at}" in done.stdout
    overrides = [*ENDLESS, "trainer=cpu", f"max_steps={at + 9}", "hydra.run.dir=uninterrupted"]
    assert dcgan_train(*overrides).code == 0
    assert different_tensors(weights(tmp_path / "uninterrupted"), weights(tmp_path / "run")) == []
