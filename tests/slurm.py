"""A SLURM for the tests: sbatch, srun, sacct, scontrol and scancel, whose jobs are processes of this machine.

The commands are scripts that send their arguments to a server and print its answer. The server runs the batch scripts
in bash. The tasks that these start with srun are forks of the server, which need no imports.
"""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from tests.processes import ForkedProcess, run_python

COMMANDS = ("sbatch", "srun", "sacct", "scontrol", "scancel")
PARTITION = "debug"  # the only one
FIRST_ID = 7001
KILL_SECONDS = 10  # from SIGTERM to SIGKILL
CLIENT = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({path!r})
    request = [os.path.basename(sys.argv[0]), sys.argv[1:], dict(os.environ), os.getcwd()]
    server.sendall(json.dumps(request).encode() + b"\\n")
    code, out, err = json.loads(server.makefile().readline())
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(code)
"""


@dataclass
class Job:
    """A job, or one element of an array."""

    name: str  # such as 7001, or 7001_0
    raw_id: int
    script: str
    options: dict[str, str]
    environment: dict[str, str]
    folder: str
    state: str = "PENDING"
    restarts: int = 0
    requeue: bool = False
    batch: subprocess.Popen | None = None
    tasks: dict[int, int | None] = field(default_factory=dict)  # exit code by process ID
    srun: socket.socket | None = None  # waits for the answer
    kill_at: float = float("inf")

    def format(self, path: str, task: int = 0) -> str:
        array, _, element = self.name.partition("_")
        for pattern, value in (("%j", self.raw_id), ("%A", array), ("%a", element), ("%t", task)):
            path = path.replace(pattern, str(value))
        return path

    def signal_tasks(self, number: int) -> None:
        for pid, code in self.tasks.items():
            if code is None:
                os.kill(pid, number)

    def stop(self) -> None:
        self.signal_tasks(signal.SIGTERM)
        self.kill_at = time.monotonic() + KILL_SECONDS


class Server:
    """Runs the jobs.

    Args:
        path: Of the socket.
    """

    def __init__(self, path: str) -> None:
        self.jobs: list[Job] = []
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(path)
        self.socket.listen()
        self.socket.settimeout(0.02)

    def serve(self) -> NoReturn:
        while True:
            with suppress(TimeoutError):
                client, _ = self.socket.accept()
                self.handle(client)
            self.start_jobs()
            self.collect()

    def handle(self, client: socket.socket) -> None:
        command, arguments, environment, folder = json.loads(client.makefile().readline())
        if command == "srun":
            self.srun(client, arguments, environment, folder)
            return
        answer = getattr(self, command)(arguments, environment, folder)
        self.answer(client, *(answer if isinstance(answer, tuple) else (0, answer or "", "")))

    def answer(self, client: socket.socket, code: int, out: str = "", err: str = "") -> None:
        client.sendall(json.dumps([code, out, err]).encode() + b"\n")
        client.close()

    # --- the commands

    def sbatch(self, arguments: list[str], environment: dict[str, str], folder: str) -> str | tuple[int, str, str]:
        script = Path(folder, arguments[0]).read_text()
        flags = (shlex.split(line)[0] for line in re.findall(r"^#SBATCH --(.*)$", script, re.MULTILINE))
        options = {name: value for name, _, value in (flag.partition("=") for flag in flags)}
        if options.get("partition", PARTITION) != PARTITION:
            words = (
                f"invalid partition specified: {options['partition']}",
                "Batch job submission failed: Invalid partition",
            )
            return 1, "", "".join(f"sbatch: error: {line}\n" for line in words)
        first = max((job.raw_id for job in self.jobs), default=FIRST_ID - 1) + 1
        last = int(re.match(r"0-(\d+)", options["array"])[1]) if "array" in options else 0
        for i in range(last + 1):
            name = f"{first}_{i}" if "array" in options else str(first)
            self.jobs.append(Job(name, first + i, script, options, environment, folder))
        return f"Submitted batch job {first}\n"

    def srun(self, client: socket.socket, arguments: list[str], environment: dict[str, str], folder: str) -> None:
        job = next(job for job in self.jobs if str(job.raw_id) == environment["SLURM_JOB_ID"])
        out, err = (arguments[arguments.index(flag) + 1] for flag in ("--output", "--error"))
        command = arguments[arguments.index(sys.executable) + 1 :]
        per_node = int(job.options["ntasks-per-node"])
        job.srun = client
        for task in range(int(environment["SLURM_NTASKS"])):
            ids = {"SLURM_PROCID": task, "SLURM_LOCALID": task % per_node, "SLURM_NODEID": task // per_node}
            pid = os.fork()
            if pid == 0:
                os.environ.clear()
                os.environ.update(environment | {name: str(value) for name, value in ids.items()})
                os.chdir(folder)
                for descriptor, path in ((1, out), (2, err)):
                    os.dup2(os.open(job.format(path, task), os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
                run_python([argument for argument in command if argument != "-u"])
            job.tasks[pid] = None

    def sacct(self, arguments: list[str], *_: object) -> str:
        rows = [f"{job.name}|{job.state}|localhost\n" for job in self.jobs if job.name.partition("_")[0] in arguments]
        return "".join(["JobID|State|NodeList\n", *rows])

    def scontrol(self, arguments: list[str], *_: object) -> None:
        """`requeue JOB`, or `warn JOB`, which SLURM does by itself some time before it ends a job."""
        action, name = arguments
        job = next(job for job in self.jobs if job.name == name)
        if action == "warn":
            job.signal_tasks(signal.Signals[f"SIG{job.options['signal'].partition('@')[0]}"])
        elif "requeue" in job.options:
            job.requeue = True
            job.stop()

    def scancel(self, arguments: list[str], *_: object) -> None:
        for job in self.jobs:
            if arguments[0] in (job.name, job.name.partition("_")[0]):
                job.state = "CANCELLED by 0" if job.state in ("PENDING", "RUNNING") else job.state
                job.stop()

    # --- the jobs

    def start_jobs(self) -> None:
        for job in self.jobs:
            array = job.name.partition("_")[0]
            running = sum(other.state == "RUNNING" and other.name.partition("_")[0] == array for other in self.jobs)
            limit = int(job.options["array"].partition("%")[2]) if "array" in job.options else 1
            if job.state == "PENDING" and running < limit:
                self.start(job)

    def start(self, job: Job) -> None:
        nodes, per_node = job.options["nodes"], job.options["ntasks-per-node"]
        array, _, element = job.name.partition("_")
        variables = {
            "JOB_ID": job.raw_id, "JOB_NAME": job.options["job-name"], "JOB_NUM_NODES": nodes, "NNODES": nodes,
            "NTASKS": int(nodes) * int(per_node), "NTASKS_PER_NODE": per_node,
            "JOB_NODELIST": "localhost", "NODELIST": "localhost",
        }  # fmt: skip
        if element:
            variables |= {"ARRAY_JOB_ID": array, "ARRAY_TASK_ID": element}
        if job.restarts:
            variables["RESTART_COUNT"] = job.restarts
        environment = job.environment | {f"SLURM_{name}": str(value) for name, value in variables.items()}
        with Path(job.format(job.options["output"])).open("a") as out:
            job.batch = subprocess.Popen(
                ["bash", "-c", job.script],
                cwd=job.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        job.state, job.tasks, job.kill_at, job.requeue = "RUNNING", {}, float("inf"), False

    def collect(self) -> None:
        """Answer srun when all tasks of a job have ended, and set the state of a job whose script has ended."""
        for job in self.jobs:
            if job.batch is None:
                continue
            for pid in [pid for pid, code in job.tasks.items() if code is None]:
                ended, status = os.waitpid(pid, os.WNOHANG)
                job.tasks[pid] = os.waitstatus_to_exitcode(status) if ended else None
            if time.monotonic() > job.kill_at:
                job.signal_tasks(signal.SIGKILL)
            if job.srun is not None and job.tasks and None not in job.tasks.values():
                self.answer(job.srun, max(abs(code) for code in job.tasks.values()))
                job.srun = None
            if job.batch.poll() is not None:
                if job.requeue:
                    job.state, job.restarts = "PENDING", job.restarts + 1
                elif job.state == "RUNNING":
                    job.state = "FAILED" if job.batch.returncode else "COMPLETED"
                job.batch = None


@contextmanager
def slurm_commands(folder: Path) -> Iterator[Path]:
    """Within the context, the commands of SLURM are in the yielded folder. Its jobs are killed at the end."""
    path = folder / "slurm.socket"
    for command in COMMANDS:
        script = folder / "bin" / command
        script.parent.mkdir(exist_ok=True)
        script.write_text(CLIENT.format(python=sys.executable, path=str(path)))
        script.chmod(0o755)
    server = ForkedProcess(["-m", "tests.slurm", str(path)], folder, suffix="_slurm")
    try:
        while not path.exists():
            assert server.poll() is None, server.err.read_text()
            time.sleep(0.02)
        yield folder / "bin"
    finally:
        server.kill_group()


if __name__ == "__main__":
    Server(sys.argv[1]).serve()
