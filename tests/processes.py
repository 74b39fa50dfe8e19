"""Real processes that run `python ARGUMENTS`: new interpreters, or forks of one that has imported torch and Lightning.

These imports take eight seconds of CPU time, and a fork does without them. Use a fork for a test of signals, kills,
exit codes or several ranks. Start a new interpreter for a test of its start or its end, of a signal to its whole
process group, of torchrun, of the wheel, or of what a user types.
"""

import atexit
import gc
import json
import os
import runpy
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

ROOT = Path(__file__).parents[1]
OUT, ERR = "process_out.txt", "process_err.txt"


def members(group: int) -> list[int]:
    """Return the IDs of the running processes of a process group, in increasing order."""
    pids = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(pgrp) == group and state != "Z":
            pids.append(int(stat.parent.name))
    return sorted(pids)


def kill_group(group: int) -> None:
    for pid in members(group):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def accept_ctrl_c() -> None:
    """Restore the handler of a terminal: a background job of a shell ignores Ctrl-C, and so do its children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


# --- the server, which is the process that is forked


def serve() -> None:
    """Answer requests, which are lines on stdin, on stdout: fork a process, or return the exit code of one.

    At the end of stdin the tests have ended or were killed: kill the forks that are still running.
    """
    import dcgan.train
    import dcgan.training.run  # noqa: F401

    gc.freeze()  # a collection in a forked process would copy all memory
    running = set()
    for line in sys.stdin:
        request = json.loads(line)
        if "poll" in request:
            pid, status = os.waitpid(request["poll"], os.WNOHANG)
            running.discard(pid)
            print(os.waitstatus_to_exitcode(status) if pid else "running", flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            run_main(**request)
        running.add(pid)
        print(pid, flush=True)
    for pid in running:
        kill_group(pid)


def run_main(
    arguments: list[str], folder: str, environment: dict[str, str], out: str, err: str, with_rank_1: bool = False
) -> NoReturn:
    """Run `python ARGUMENTS` in this process, which gets a process group of its own.

    Args:
        arguments: What follows `python` on the command line.
        folder: The working directory.
        environment: All environment variables.
        out: The file of stdout.
        err: The file of stderr.
        with_rank_1: Fork rank 1 of a distributed training too.
    """
    os.setsid()
    os.chdir(folder)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for descriptor, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    accept_ctrl_c()
    if with_rank_1:
        fork_rank_1()
    run_python(arguments)


def run_python(arguments: list[str]) -> NoReturn:
    """Run `python ARGUMENTS` in this process and end it as the interpreter would."""
    code = 0
    try:
        if arguments[0] == "-m":
            sys.argv = arguments[1:]
            sys.modules.pop(arguments[1], None)  # runpy warns if it is imported already
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = arguments
            runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    # as at the end of an interpreter, without the release of all memory, which takes two seconds
    threading._shutdown()
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
    except OSError:
        code = 120
    sys.stderr.flush()
    os._exit(code)


def fork_rank_1() -> None:
    """Fork a child process that becomes rank 1 when Lightning's launcher starts it. It ends if that never happens."""
    from lightning.pytorch.strategies.launchers import subprocess_script

    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(reader)
        subprocess_script.subprocess = SimpleNamespace(Popen=partial(Rank1, pid, writer))
        return
    os.close(writer)
    with os.fdopen(reader) as pipe:
        request = pipe.read()
    if not request:
        os._exit(0)
    arguments, environment, folder = json.loads(request)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    run_python(arguments)


class Rank1:
    """Start the forked rank 1, with the methods of `subprocess.Popen` that Lightning uses."""

    def __init__(self, pid: int, writer: int, command: list[str], env: dict[str, str], cwd: str | None) -> None:
        self.pid, self.returncode = pid, None
        with os.fdopen(writer, "w") as pipe:
            json.dump((command[1:], dict(env), cwd or "."), pipe)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


@cache
def server() -> subprocess.Popen[str]:
    """Start the server. It ends with this process, which closes its stdin."""
    return subprocess.Popen(
        [sys.executable, "-c", "from tests.processes import serve; serve()"],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip


def ask(**request: Any) -> int | None:
    """Send a request to the server. Return its answer, None for a process that is running."""
    process = server()
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()
    answer = process.stdout.readline().strip()
    return None if answer == "running" else int(answer)


# --- what the tests use


class PythonProcess:
    """A new interpreter, with the methods of `subprocess.Popen` that the tests use. It leads a process group.

    Args:
        arguments: What follows `python` on the command line.
        folder: The working directory, which also gets two files with the output.
        suffix: The end of the names of these files.
        environment: Variables in addition to those of this process.
    """

    def __init__(self, arguments: Sequence[str], folder: Path, suffix: str = "", **environment: str) -> None:
        self.out, self.err = folder / (OUT + suffix), folder / (ERR + suffix)
        self.returncode: int | None = None
        self.pid = self.start(list(arguments), folder, os.environ | environment)

    def start(self, arguments: list[str], folder: Path, environment: dict[str, str]) -> int:
        """Start the process and return its ID."""
        with self.out.open("w") as out, self.err.open("w") as err:
            self.popen = subprocess.Popen(
                [sys.executable, *arguments], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=out,
                stderr=err, start_new_session=True, preexec_fn=accept_ctrl_c,
            )  # fmt: skip
        return self.popen.pid

    def exit_code(self) -> int | None:
        """Return the exit code, None if the process is running."""
        return self.popen.poll()

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self.exit_code()
        return self.returncode

    def wait(self, timeout: float) -> int:
        end = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("python", timeout)
            time.sleep(0.02)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def communicate(self, timeout: float) -> tuple[str, str]:
        """Wait for all processes of the group to end. Return what was written to stdout and stderr."""
        end = time.monotonic() + timeout
        self.wait(timeout)
        while members(self.pid):
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("the process group of python", timeout)
            time.sleep(0.02)
        return self.out.read_text(), self.err.read_text()

    def kill_group(self) -> None:
        kill_group(self.pid)
        self.wait(10)


class ForkedProcess(PythonProcess):
    """The same as `PythonProcess` without the imports: a fork of the server."""

    with_rank_1 = False

    def start(self, arguments: list[str], folder: Path, environment: dict[str, str]) -> int:
        return ask(
            arguments=arguments, folder=str(folder), environment=environment, out=str(self.out), err=str(self.err),
            with_rank_1=self.with_rank_1,
        )  # fmt: skip

    def exit_code(self) -> int | None:
        return ask(poll=self.pid)


class ForkedRanks(ForkedProcess):
    """A fork that trains with trainer=ddp_cpu: Lightning's launcher starts another fork."""

    with_rank_1 = True


def run_forked(
    *arguments: str, folder: Path, timeout: float = 120, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `python ARGUMENTS` in a fork to its end."""
    process = ForkedProcess(arguments, folder, **environment)
    try:
        return subprocess.CompletedProcess(arguments, process.wait(timeout), *process.communicate(10))
    finally:
        process.kill_group()


CLIENT = """#!{python} -S
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    server.sendall(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode() + b"\\n")
    code, out, err = json.load(server.makefile())
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(code)
"""


class RunForked(socketserver.StreamRequestHandler):
    """Answers the requests of `CLIENT`."""

    def handle(self) -> None:
        arguments, folder, environment = json.loads(self.rfile.readline())
        done = run_forked(*arguments, folder=Path(folder), **environment)
        self.wfile.write(json.dumps([done.returncode, done.stdout, done.stderr]).encode())


@contextmanager
def forking_python(folder: Path) -> Iterator[None]:
    """Write a command `python` into the folder. Within the context, it runs its arguments in a fork."""
    address = str(folder / "socket")
    (folder / "python").write_text(CLIENT.format(python=sys.executable, address=address))
    (folder / "python").chmod(0o755)
    with socketserver.UnixStreamServer(address, RunForked) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@contextmanager
def two_nodes(folder: Path, script: str, *arguments: str, **environment: str) -> Iterator[list[ForkedProcess]]:
    """Run a script on two nodes of one process each. Yield the agents of torchrun, of which the first one is the host.

    A node is a process group. What it writes is in the files with the suffixes 0 and 1. All are killed at the end.
    """
    torchrun = ["-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1", "--start-method=fork"]
    torchrun += ["--rdzv_backend=c10d", f"--rdzv_endpoint=127.0.0.1:{free_port()}", "--rdzv_id=test"]
    settings = ["trainer=ddp_cpu", "trainer.devices=1", "trainer.num_nodes=2"]
    nodes = []
    try:
        for node in range(2):
            command = [*torchrun, f"--rdzv_conf=is_host={1 - node}", "--run-path", script, *arguments, *settings]
            nodes.append(ForkedProcess(command, folder, suffix=str(node), OMP_NUM_THREADS="1", **environment))
        yield nodes
    finally:
        for agent in nodes:
            agent.kill_group()


def run_two_ranks(
    *arguments: str, folder: Path, timeout: float = 120, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `python ARGUMENTS` as two ranks, with the variables of torchrun. Return rank 0's exit code and all output."""
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    shared |= {"MASTER_PORT": str(free_port()), "TORCHELASTIC_RUN_ID": "test"} | environment
    ranks = [
        ForkedProcess(arguments, folder, suffix=str(rank), RANK=str(rank), LOCAL_RANK=str(rank), **shared)
        for rank in range(2)
    ]
    try:
        codes = [rank.wait(timeout) for rank in ranks]
        out, err = ("".join(texts) for texts in zip(*(rank.communicate(10) for rank in ranks), strict=True))
        return subprocess.CompletedProcess(arguments, codes[0], out, err)
    finally:
        for rank in ranks:
            rank.kill_group()
