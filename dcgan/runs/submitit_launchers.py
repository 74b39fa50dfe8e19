"""Hydra launchers on submitit: the jobs of a sweep run as processes of this machine, or as jobs of SLURM.

The plugin that is published for Hydra stops at the first job that is killed, and starts all local jobs at once. Each
command imports this module when Hydra looks for plugins, so it imports nothing that takes long.
"""

import math
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from dcgan.common.arg_checks import check_int
from dcgan.common.atomic_files import write_text
from dcgan.common.distributed import end_after, is_running
from dcgan.common.errors import UserError
from dcgan.runs.run_dir import FAILURE, SUMMARY

if TYPE_CHECKING:
    from submitit import Job
    from submitit.core.utils import DelayedSubmission

RESUME = "skip_finished=true"
POLL_SECONDS = 0.5
# the signal of a cluster's warning that dcgan.training.signals handles; submitit reads this variable on import
WARNING = {"SUBMITIT_PREEMPT_SIGNAL": "USR1"}

Call = tuple[list[str], int, dict[type, Any]]  # the arguments of a job: its overrides, its number, Hydra's singletons


class SubmititLauncher(Launcher):
    """Run each job of a sweep in processes of its own, one per rank. Jobs that fail or are killed do not stop others.

    A job that is warned before it ends saves its state, is requeued, and resumes.

    Args:
        folder: Of logs and of the files that submitit exchanges with the jobs, which must be able to read and write it.
        n_jobs: Jobs at a time, >= 1, or -1: as many as CPUs.
        tasks_per_node: Processes of a job on each node, >= 1: its ranks.
        timeout_min: Time limit of a job in minutes, >= 1.
        max_num_timeout: How often a job that reaches its time limit is requeued, >= 0.
        setup: Shell commands to run before the job.
    """

    def __init__(
        self, folder: str, n_jobs: int, tasks_per_node: int, timeout_min: int, max_num_timeout: int, setup: list[str]
    ) -> None:
        check_int("hydra.launcher.n_jobs", n_jobs, -1)
        if n_jobs == 0:
            raise ValueError("hydra.launcher.n_jobs must be >= 1, or -1 for the number of CPUs, got 0")
        check_int("hydra.launcher.tasks_per_node (trainer.devices if not given)", tasks_per_node, 1)
        check_int("hydra.launcher.timeout_min", timeout_min, 1)
        check_int("hydra.launcher.max_num_timeout", max_num_timeout, 0)
        self.folder, self.tasks_per_node, self.commands = Path(folder), tasks_per_node, setup
        self.n_jobs = n_jobs if n_jobs > 0 else max((os.cpu_count() or 1) // tasks_per_node, 1)
        self.timeout_min, self.max_num_timeout = timeout_min, max_num_timeout

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        if find_spec("submitit") is None:
            raise UserError("this launcher needs submitit: pip install 'dcgan[submitit]'")
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Run the jobs and return the results of their ranks 0. That of a failed job is infinity."""
        os.environ.update(WARNING)
        sweeps = [self.job_config(list(overrides)).hydra.sweep for overrides in job_overrides]
        run_dirs = [Path(sweep.dir, sweep.subdir) for sweep in sweeps]
        calls = [
            (list(overrides), number, Singleton.get_state())
            for number, overrides in enumerate(job_overrides, initial_job_idx)
        ]
        self.folder.mkdir(parents=True, exist_ok=True)
        return [result_of(job, run_dir) for job, run_dir in zip(self.submit(calls), run_dirs, strict=True)]

    def submit(self, calls: list[Call]) -> list["Job[JobReturn]"]:
        """Start a job for each call."""
        raise NotImplementedError

    def __call__(self, overrides: list[str], number: int, singletons: dict[type, Any]) -> JobReturn:
        """Run a job. This is called in each of its processes."""
        from submitit.helpers import JobEnvironment, TorchDistributedEnvironment

        Singleton.set_state(singletons)
        setup_globals()
        job = JobEnvironment()
        # as torchrun does: Lightning starts no processes, whether it finds SLURM or not
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        os.environ.update(GROUP_RANK=str(job.node), TORCHELASTIC_RUN_ID=job.job_id)
        config = self.job_config(overrides)
        with open_dict(config.hydra.job):
            config.hydra.job.id, config.hydra.job.num = job.job_id, number
        return run_job(
            task_function=self.task_function,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
            hydra_context=self.hydra_context,
        )

    def checkpoint(self, overrides: list[str], number: int, singletons: dict[type, Any]) -> "DelayedSubmission":
        """Return the call that a requeued job makes. submitit calls this after the job has saved its state."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, [*overrides, RESUME], number, singletons)

    def job_config(self, overrides: list[str]) -> DictConfig:
        return self.hydra_context.config_loader.load_sweep_config(self.config, overrides)


class LocalLauncher(SubmititLauncher):
    """Run each job in processes of this machine, which end with the sweep."""

    def submit(self, calls: list[Call]) -> list["Job[JobReturn]"]:
        from submitit import LocalExecutor

        executor = LocalExecutor(self.folder, self.max_num_timeout)
        executor.update_parameters(
            tasks_per_node=self.tasks_per_node, timeout_min=self.timeout_min, setup=self.commands
        )
        self.sweep, self.gpus = os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES")
        print(f"submitted    number of jobs {len(calls)}, {self.n_jobs} at a time; logs in {self.folder}")
        jobs: list[Job[JobReturn]] = []
        for call in calls:
            while sum(not job.done() for job in jobs) >= self.n_jobs:
                time.sleep(POLL_SECONDS)
            jobs.append(executor.submit(self, *call))
        return jobs

    def __call__(self, overrides: list[str], number: int, singletons: dict[type, Any]) -> JobReturn:
        end_after(lambda: not is_running(self.sweep))
        os.setpgid(0, 0)  # Ctrl-C in the terminal reaches the job once, from submitit: a second one does not save
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # submitit has hidden all GPUs
        if self.gpus is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpus
        threads = (os.cpu_count() or 1) // (self.n_jobs * self.tasks_per_node)
        os.environ.setdefault("OMP_NUM_THREADS", str(max(threads, 1)))
        return super().__call__(overrides, number, singletons)


class SlurmLauncher(SubmititLauncher):
    """Run each job as a job of SLURM; several are an array.

    Args: those of SubmititLauncher, and
        nodes: Number of nodes of a job, >= 1, which share the folder.
        signal_delay_s: How long before the time limit a job is warned, in seconds, >= 1.
        sbatch: Further options of sbatch, by name; null: not given, true: without a value.
        srun_args: Further arguments of srun.
    """

    def __init__(
        self,
        folder: str,
        n_jobs: int,
        nodes: int,
        tasks_per_node: int,
        timeout_min: int,
        max_num_timeout: int,
        signal_delay_s: int,
        setup: list[str],
        sbatch: dict[str, Any],
        srun_args: list[str],
    ) -> None:
        super().__init__(folder, n_jobs, tasks_per_node, timeout_min, max_num_timeout, setup)
        check_int("hydra.launcher.nodes", nodes, 1)
        check_int("hydra.launcher.signal_delay_s", signal_delay_s, 1)
        self.nodes, self.signal_delay_s, self.srun_args = nodes, signal_delay_s, srun_args
        self.sbatch = {name: value for name, value in sbatch.items() if value is not None}

    def submit(self, calls: list[Call]) -> list["Job[JobReturn]"]:
        from submitit import SlurmExecutor

        with submission_errors():
            executor = SlurmExecutor(self.folder, self.max_num_timeout)
            executor.update_parameters(
                nodes=self.nodes,
                ntasks_per_node=self.tasks_per_node,
                time=self.timeout_min,
                signal_delay_s=self.signal_delay_s,
                array_parallelism=self.n_jobs,
                setup=self.commands,
                srun_args=self.srun_args,
                additional_parameters=self.sbatch,
            )
            jobs = executor.map_array(self, *zip(*calls, strict=True))
        job_id = jobs[0].job_id.partition("_")[0]
        print(f"submitted    {job_id}: number of jobs {len(jobs)}, {self.n_jobs} at a time; logs in {self.folder}")
        print(f"             Ctrl-C does not end them; scancel {job_id} does, and they save their state")
        return jobs

    def __call__(self, overrides: list[str], number: int, singletons: dict[type, Any]) -> JobReturn:
        # requeued by SLURM itself, such as after the failure of a node
        restarted = int(os.environ.get("SLURM_RESTART_COUNT", 0)) > 0
        return super().__call__([*overrides, RESUME] if restarted else overrides, number, singletons)


def result_of(job: "Job[JobReturn]", run_dir: Path) -> JobReturn:
    """Wait for a job to end and return its result. If it has none, because it was killed, leave the reason."""
    from submitit.core.utils import UncompletedJobError

    try:
        result = job.task(0).result()
    except UncompletedJobError:
        if not (run_dir / SUMMARY).exists():
            write_text(run_dir / FAILURE, why_killed(job))
        result = JobReturn(status=JobStatus.COMPLETED)
        result.return_value = math.inf
    if (run_dir / SUMMARY).exists():
        print(f"finished     {run_dir.name}")
    return result


@contextmanager
def submission_errors() -> Iterator[None]:
    """Within the context, errors of sbatch become a UserError with sbatch's own words."""
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    if any(shutil.which(command) is None for command in ("sbatch", "srun", "sacct")):
        raise UserError(
            "hydra/launcher=submitit_slurm needs sbatch, srun and sacct, which are not found: run it on a machine from "
            "which jobs are submitted, or with hydra/launcher=submitit_local"
        )
    try:
        with redirect_stderr(StringIO()):  # submitit prints what it raises
            yield
    except (FailedJobError, FailedSubmissionError) as error:
        words = "; ".join(line.strip() for line in str(error).splitlines())
        raise UserError(f"SLURM does not accept the jobs ({words}): change hydra.launcher.sbatch") from error


def why_killed(job: "Job[JobReturn]") -> str:
    """Return one sentence about a job that has ended without a result."""
    log = job.task(0).paths.stderr
    if not log.exists():
        return f"job {job.job_id} has ended ({job.state}) without a log: can all nodes read and write {log.parent}?"
    lines = log.read_text(errors="replace").strip().splitlines() or ["it is empty"]
    last = next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1]).removeprefix("error: ")
    return f"job {job.job_id} has ended ({job.state}) without a result: {last} (log: {log})"
