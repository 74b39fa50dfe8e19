"""GPU leases: each job takes a free GPU, and gives it back however it ends. The GPUs of these tests are names."""

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from dcgan.common.cache import cache_dir
from dcgan.common.errors import UserError
from dcgan.runs import gpu_leases
from dcgan.runs.gpu_leases import lease_gpu
from tests.conftest import TINY, compose_config
from tests.processes import ForkedProcess

RUN = Path("runs/sweeps/mine/seed=0")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DCGAN_CACHE_DIR", str(tmp_path / "cache"))


def show_gpus(monkeypatch: pytest.MonkeyPatch, *uuids: str) -> None:
    """Let this process see these GPUs."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: len(uuids))
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda i: SimpleNamespace(uuid=uuids[i]))


class FullError(Exception):
    """The job would wait."""


@pytest.fixture
def no_waiting(monkeypatch):
    def sleep(seconds):
        raise FullError

    monkeypatch.setattr(gpu_leases, "time", SimpleNamespace(sleep=sleep))


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize(("jobs_per_gpu", "expected"), [(1, [0, 1, 2]), (2, [0, 1, 2, 0, 1, 2])])
def test_jobs_take_free_gpus(monkeypatch, jobs_per_gpu, expected):
    show_gpus(monkeypatch, "a", "b", "c")
    config = compose_config("trainer=gpu", f"jobs_per_gpu={jobs_per_gpu}")
    with ExitStack() as others:
        assert [others.enter_context(lease_gpu(config, RUN)) for _ in expected] == expected
        with pytest.raises(FullError), lease_gpu(config, RUN):
            pass
    with lease_gpu(config, RUN) as first, lease_gpu(config, RUN):
        assert first == 0


@pytest.mark.usefixtures("no_waiting")
def test_job_that_has_ended_gives_its_gpu_to_the_next_one(monkeypatch):
    show_gpus(monkeypatch, "a", "b", "c")
    config = compose_config("trainer=auto")
    with ExitStack() as others:
        others.enter_context(lease_gpu(config, RUN))
        with lease_gpu(config, RUN):
            others.enter_context(lease_gpu(config, RUN))
        assert others.enter_context(lease_gpu(config, RUN)) == 1


@pytest.mark.usefixtures("no_waiting")
def test_gpus_are_known_by_their_uuids(monkeypatch):
    """With CUDA_VISIBLE_DEVICES, index 0 of two jobs may be two GPUs, or two indices the same GPU."""
    config = compose_config("trainer=gpu")
    show_gpus(monkeypatch, "a", "b")
    with lease_gpu(config, RUN) as a, lease_gpu(config, RUN) as b:
        assert (a, b) == (0, 1)
        show_gpus(monkeypatch, "b")
        with pytest.raises(FullError), lease_gpu(config, RUN):
            pass
        show_gpus(monkeypatch, "b", "c")
        with lease_gpu(config, RUN) as c:
            assert c == 1


@pytest.mark.parametrize("trainer", [["trainer=cpu"], ["trainer=ddp"], ["trainer=gpu", "trainer.devices=[2]"]])
def test_job_without_a_gpu_of_its_choice_takes_no_lease(monkeypatch, trainer):
    show_gpus(monkeypatch, "a", "b", "c")
    with lease_gpu(compose_config(*trainer), RUN) as gpu:
        assert gpu is None
    show_gpus(monkeypatch)
    with lease_gpu(compose_config("trainer=auto"), RUN) as gpu:
        assert gpu is None
    assert not cache_dir().exists()


def test_unwritable_cache_is_reported(monkeypatch, tmp_path):
    show_gpus(monkeypatch, "a")
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(UserError, match=r"cache/gpus cannot be written .* another DCGAN_CACHE_DIR"):
        lease_gpu(compose_config("trainer=gpu"), RUN).__enter__()


def test_each_job_of_a_sweep_gets_a_lease(dcgan_train, monkeypatch):
    """Also after one that failed. A run that is no job of a sweep gets none."""
    used = []

    def train(cfg, run_dir, choices, gpu, resume):
        used.append(gpu)
        if cfg.seed == 1:
            raise UserError("this one fails")
        return {}

    show_gpus(monkeypatch, "a", "b")
    monkeypatch.setattr("dcgan.training.run.train", train)
    with lease_gpu(compose_config("trainer=gpu"), RUN) as other:
        assert dcgan_train("-m", *TINY, "seed=0,1,2").code == 1
        assert dcgan_train(*TINY).code == 0
    assert (other, used) == (0, [1, 1, 1, None])


def test_bad_number_of_jobs_is_rejected(dcgan_train):
    outcome = dcgan_train("-m", *TINY, "trainer=cpu", "max_steps=1", "jobs_per_gpu=0")
    assert outcome.code == 1
    assert "jobs_per_gpu must be an integer >= 1, got 0" in outcome.err
    assert "Traceback" not in outcome.err


LEASE = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
import torch
from dcgan.runs.gpu_leases import lease_gpu
from tests.conftest import compose_config

torch.cuda.device_count = lambda: 2
torch.cuda.get_device_properties = lambda i: SimpleNamespace(uuid="ab"[i])
name = sys.argv[1]
with lease_gpu(compose_config("trainer=gpu"), Path(name)) as gpu:
    Path(name).write_text(str(gpu))
    time.sleep(600)
"""


def wait_for(path: Path, text: str, process: ForkedProcess) -> None:
    """Wait until the process has written the text."""
    end = time.monotonic() + 120
    while not (path.exists() and text in path.read_text()):
        assert process.poll() is None, process.communicate(10)
        assert time.monotonic() < end
        time.sleep(0.02)


def test_job_waits_until_another_is_killed(tmp_path):
    (tmp_path / "lease.py").write_text(LEASE)
    with ExitStack() as running:

        def start(name: str) -> ForkedProcess:
            process = ForkedProcess(["lease.py", name], tmp_path, suffix=name)
            running.callback(process.kill_group)
            return process

        jobs = []
        for name in ("first", "second"):
            jobs.append(start(name))
            wait_for(tmp_path / name, str(len(jobs) - 1), jobs[-1])
        third = start("third")
        line = f"waiting      third: no GPU is free (GPU 0 has first in process {jobs[0].pid}, GPU 1 has second in "
        line += f"process {jobs[1].pid}); jobs_per_gpu=N lets N share one\n"
        wait_for(third.out, line, third)
        assert not (tmp_path / "third").exists()
        os.kill(jobs[1].pid, signal.SIGKILL)
        wait_for(tmp_path / "third", "1", third)
        assert third.out.read_text() == line
