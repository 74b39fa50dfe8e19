"""The launchers on submitit: jobs as processes of this machine, and as jobs of a SLURM that the tests bring along."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from submitit.core.utils import UncompletedJobError

from dcgan.common.command import CONF
from dcgan.common.errors import explain
from dcgan.runs.submitit_launchers import result_of
from tests.conftest import TINY
from tests.processes import ForkedProcess, ForkedRanks, run_forked
from tests.run_files import different_tensors, weights
from tests.slurm import slurm_commands

JOBS = [*TINY, "evaluator=none", "samples.steps=[0,10,100]", "sweep.name=mine"]
SWEEP = Path("runs/sweeps/mine")
LOCAL = "hydra/launcher=submitit_local"
SLURM = "hydra/launcher=submitit_slurm"

# the real command, whose jobs need no imports: a new interpreter is a fork
FORKED = """
import os, subprocess, sys
from dcgan import train
from tests.processes import run_python

class Fork:
    def __init__(self, command, stdout, stderr, env):
        self.returncode = None
        self.pid = os.fork()
        if self.pid == 0:
            os.environ.clear()
            os.environ.update(env)
            for descriptor, file in ((1, stdout), (2, stderr)):
                if file is not None:
                    os.dup2(file.fileno(), descriptor)
            run_python([argument for argument in command[1:] if argument != "-u"])
    def poll(self):
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode
    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

popen = subprocess.Popen
def fork_python(command, *args, **kwargs):
    if command[0] == sys.executable:
        return Fork(command, kwargs.get("stdout"), kwargs.get("stderr"), kwargs["env"])
    return popen(command, *args, **kwargs)
subprocess.Popen = fork_python
train.main()
"""


def wait_until(condition, process: ForkedProcess, seconds: float = 300):
    """Return the first value of condition() that is true."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert process.poll() is None, process.communicate(10)
        assert time.monotonic() < end
        time.sleep(0.05)
    return value


def log(sweep: Path, end: str = "_0_log.out") -> str:
    """Return the text of all logs of the jobs."""
    return "".join(path.read_text() for path in sorted((sweep / ".submitit").glob(f"*{end}")))


def resumed_steps(sweep: Path) -> list[int]:
    return [int(step) for step in re.findall(r"^resume .* step (\d+)$", log(sweep), re.MULTILINE)]


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


TWO_RANKS = ["trainer=ddp_cpu", "max_steps=200", "ema.decay=0.9"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, mnist_root) -> Path:
    """A run of two ranks that Lightning's own launcher has started."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    command = ["-m", "dcgan.train", *JOBS, *TWO_RANKS, "hydra.run.dir=run"]
    process = ForkedRanks(command, folder, DCGAN_DATA_DIR=str(mnist_root))
    try:
        assert process.wait(300) == 0, process.err.read_text()
    finally:
        process.kill_group()
    return folder / "run"


@pytest.fixture
def slurm(tmp_path, mnist_root):
    """Start a sweep on SLURM: slurm(*overrides). slurm.command(...) runs one of its commands."""
    with slurm_commands(tmp_path) as folder:

        def start(*overrides: str) -> ForkedProcess:
            command = ["-m", "dcgan.train", "-m", *JOBS, SLURM, *overrides]
            path = f"{folder}:{os.environ['PATH']}"
            return ForkedProcess(command, tmp_path, DCGAN_DATA_DIR=str(mnist_root), PATH=path)

        def command(*arguments: str) -> str:
            return subprocess.run(
                [folder / arguments[0], *arguments[1:]], check=True, capture_output=True, text=True
            ).stdout

        start.command = command
        yield start


def finish(process: ForkedProcess) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.CompletedProcess([], process.wait(300), *process.communicate(10))
    finally:
        process.kill_group()


# --- SLURM


def test_sweep_is_an_array_of_slurm_whose_failed_job_is_listed(tmp_path, slurm):
    sweep = tmp_path / SWEEP
    settings = ["trainer=cpu", "max_steps=4", "hydra.launcher.n_jobs=2"]
    settings += ["hydra.launcher.sbatch.partition=debug", "+hydra.launcher.sbatch.mail_user=me@lab.org"]
    done = finish(slurm(*settings, "seed=0,1,-1"))
    assert done.returncode == 1, done.stderr
    assert "submitted    7001: number of jobs 3, 2 at a time" in done.stdout
    assert done.stdout.count("finished     seed=") == 2
    assert done.stderr == "failed       seed=-1: seed must be an integer >= 0, got -1\n"
    (script,) = sweep.glob(".submitit/7001_submission.sh")
    options = {line.removeprefix("#SBATCH --") for line in script.read_text().splitlines()}
    assert options >= {"array=0-2%2", "signal=USR1@180", "time=240", "nodes=1", "ntasks-per-node=1", "requeue"}
    assert options >= {"partition=debug", "mail-user=me@lab.org", "job-name=mine", "cpus-per-task=4", "mem=16G"}
    assert not any("gpus" in option for option in options)
    before = {seed: (sweep / f"seed={seed}/summary.json").read_bytes() for seed in (0, 1)}
    done = finish(slurm(*settings, "seed=0,1,2"))  # as with the basic launcher
    assert done.returncode == 1
    assert done.stderr.count("already holds checkpoints") == 2
    done = finish(slurm(*settings, "seed=0,1,2", "skip_finished=true"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("finished     seed=") == 3
    assert before == {seed: (sweep / f"seed={seed}/summary.json").read_bytes() for seed in (0, 1)}


def test_slurm_job_of_two_ranks_is_saved_requeued_and_resumed_exactly(tmp_path, slurm, uninterrupted):
    """First by SLURM itself, such as for a job of higher priority, then by submitit after a warning."""
    process = slurm(*TWO_RANKS)
    run = tmp_path / SWEEP / "single"
    try:
        wait_until((run / "samples/step_000010.png").exists, process)
        slurm.command("scontrol", "requeue", "7001")
        wait_until((run / "samples/step_000100.png").exists, process)
        slurm.command("scontrol", "warn", "7001")
        done = finish(process)
    finally:
        process.kill_group()
    assert done.returncode == 0, done.stderr + log(tmp_path / SWEEP, ".err")
    first, second = resumed_steps(tmp_path / SWEEP)
    assert 10 <= first <= 100 <= second
    assert not (run / "failure.txt").exists()
    assert json.loads((run / "summary.json").read_text())["step"] == 200
    assert different_tensors(weights(uninterrupted), weights(run)) == []


def test_unknown_partition_is_reported_in_the_words_of_sbatch(slurm):
    done = finish(slurm("trainer=cpu", "seed=0,1", "hydra.launcher.sbatch.partition=nope"))
    assert done.returncode == 1
    assert done.stderr.startswith(
        "error: SLURM does not accept the jobs (sbatch: error: invalid partition specified: nope;"
    )
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("trainer", "nodes", "tasks", "gpus"),
    [("ddp", 2, 4, 4), ("gpu", 1, 1, 1), ("ddp_cpu", 1, 2, None), ("cpu", 1, 1, None), ("auto", 1, 1, None)],
)
def test_resources_of_slurm_follow_the_trainer(trainer, nodes, tasks, gpus):
    settings = ["trainer.devices=4", "trainer.num_nodes=2"] if trainer == "ddp" else []
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", [f"trainer={trainer}", *settings, SLURM], return_hydra_config=True)
    launcher = config.hydra.launcher
    assert (launcher.nodes, launcher.tasks_per_node, launcher.sbatch.gpus_per_node) == (nodes, tasks, gpus)


# --- this machine


def test_local_jobs_run_in_processes_of_their_own(tmp_path, mnist_root):
    (tmp_path / "forked.py").write_text(FORKED)
    command = ["forked.py", "-m", *JOBS, "trainer=cpu", "max_steps=4", LOCAL, "hydra.launcher.n_jobs=2"]
    done = run_forked(*command, "seed=0,1,-1", folder=tmp_path, DCGAN_DATA_DIR=str(mnist_root))
    assert done.returncode == 1, done.stderr
    assert done.stdout.count("finished     seed=") == 2
    assert done.stderr == "failed       seed=-1: seed must be an integer >= 0, got -1\n"
    assert log(tmp_path / SWEEP).count("step 4/4") == 2


def test_local_job_of_two_ranks_is_requeued_ends_with_its_sweep_and_is_resumed(tmp_path, mnist_root, uninterrupted):
    (tmp_path / "forked.py").write_text(FORKED)
    run = tmp_path / SWEEP / "single"
    command = ["forked.py", "-m", *JOBS, *TWO_RANKS, LOCAL]
    process = ForkedProcess(command, tmp_path, DCGAN_DATA_DIR=str(mnist_root))
    try:
        wait_until((run / "samples/step_000010.png").exists, process)
        (controller,) = children(process.pid)
        for rank in children(controller):
            os.kill(rank, signal.SIGUSR1)
        (step,) = wait_until(lambda: resumed_steps(tmp_path / SWEEP), process)
        assert step >= 10
        ranks = wait_until(lambda: children(controller), process)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        end = time.monotonic() + 60
        while any(Path(f"/proc/{pid}").exists() for pid in ranks):
            assert time.monotonic() < end, "the ranks have not ended"
            time.sleep(0.05)
    finally:
        process.kill_group()
    done = run_forked(*command, "skip_finished=true", folder=tmp_path, DCGAN_DATA_DIR=str(mnist_root))
    assert done.returncode == 0, done.stderr
    assert "finished     single" in done.stdout
    assert different_tensors(weights(uninterrupted), weights(run)) == []


# --- jobs without a result, and mistakes


def killed_job(folder: Path, lines: str | None):
    def result():
        raise UncompletedJobError("a long text")

    stderr = folder / "7001_0_0_log.err"
    if lines is not None:
        stderr.write_text(lines)
    task = SimpleNamespace(paths=SimpleNamespace(stderr=stderr), result=result)
    return SimpleNamespace(job_id="7001_0", state="OUT_OF_MEMORY", task=lambda number: task)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (None, "job 7001_0 has ended (OUT_OF_MEMORY) without a log: can all nodes read and write "),
        ("", "job 7001_0 has ended (OUT_OF_MEMORY) without a result: it is empty (log: "),
        ("note: x\nerror: interrupted\nsrun: y\n", "without a result: interrupted (log: "),
        ("note: x\nsrun: Killed\n", "without a result: srun: Killed (log: "),
    ],
)
def test_reason_of_a_killed_job_is_left_in_its_folder(tmp_path, lines, expected):
    assert result_of(killed_job(tmp_path, lines), tmp_path / "run").return_value == float("inf")
    assert expected in (tmp_path / "run" / "failure.txt").read_text()


def test_job_that_may_not_be_requeued_again_has_a_reason():
    assert "hydra.launcher.max_num_timeout" in explain(UncompletedJobError("Job not requeued because: ..."))


def test_job_that_was_killed_after_its_end_has_not_failed(tmp_path, capsys):
    (tmp_path / "summary.json").write_text("{}")
    result_of(killed_job(tmp_path, ""), tmp_path)
    assert not (tmp_path / "failure.txt").exists()
    assert capsys.readouterr().out == f"finished     {tmp_path.name}\n"


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([SLURM], "hydra/launcher=submitit_slurm needs sbatch, srun and sacct, which are not found"),
        ([LOCAL, "trainer=ddp"], "tasks_per_node (trainer.devices if not given) must be an integer >= 1, got -1"),
        ([LOCAL, "hydra.launcher.n_jobs=0"], "hydra.launcher.n_jobs must be >= 1, or -1 for the number of CPUs, got 0"),
        ([LOCAL, "model=transposed_conv,nope"], "there is no model=nope"),
        ([LOCAL, "hydra.launcher.partition=gpu"], "there is no key hydra.launcher.partition"),
    ],
)  # fmt: skip
def test_mistakes_end_in_one_sentence_before_any_job_starts(dcgan_train, overrides, expected):
    outcome = dcgan_train("-m", *JOBS, "seed=0,1", *overrides)
    assert outcome.code == 1
    assert expected in outcome.err
    assert outcome.err.count("\n") == 1
    assert not list(Path().glob("runs/sweeps/mine/*/.hydra"))


def test_missing_submitit_is_reported_with_the_command_that_installs_it(dcgan_train, monkeypatch):
    monkeypatch.setattr("dcgan.runs.submitit_launchers.find_spec", lambda name: None)
    outcome = dcgan_train("-m", *JOBS, "seed=0,1", LOCAL)
    assert outcome.code == 1
    assert outcome.err == "error: this launcher needs submitit: pip install 'dcgan[submitit]'\n"


def test_preset_replaces_the_config_of_the_published_plugin(dcgan_train, monkeypatch):
    monkeypatch.setattr("dcgan.runs.submitit_launchers.find_spec", lambda name: None)
    stored = {"_target_": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher", "timeout_min": 60}
    ConfigStore.instance().store(group="hydra/launcher", name="submitit_local", node=stored)
    assert "needs submitit" in dcgan_train("-m", *JOBS, LOCAL).err  # without a warning, which would be an error


def test_folder_that_cannot_be_written_is_named(dcgan_train, tmp_path):
    (tmp_path / "file").touch()
    outcome = dcgan_train("-m", *JOBS, "seed=0,1", LOCAL, "hydra.launcher.folder=file/logs")
    assert outcome.code == 1
    assert outcome.err == "error: file/logs cannot be read or written: Not a directory\n"
