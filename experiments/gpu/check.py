"""`make gpu-check`: check and measure every GPU path on one GPU, in at most eight minutes.

`python -m experiments.gpu.check --parts 0,2,4 --seconds 290` runs a selection. Parts that only check correctness run at
the same time, then those that measure time run one by one. Each is a process of its own: one that fails, or takes too
long, does not stop the others. The output folder then has three files: results.jsonl (a row per measurement, written
when it is made), table.md and logs.tar.gz.

`--device cpu` is a dry run with tiny networks. It replaces CUDA graphs by eager training.
"""

import argparse
import os
import platform
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from dcgan.common.provenance import commit, processor_name
from experiments.gpu.context import DRY_RUN_FACTOR
from experiments.gpu.results import RESULTS, TABLE, append_row, count_marks, format_table, read_rows

ROOT = Path(__file__).parents[2]
RESERVE_SECONDS = 5.0  # for the table and the archive of the logs
POLL_SECONDS = 0.1
SHARED_THREADS = 2  # of each process that runs at the same time as others
SHARES = 6  # processes of each kind of equality test


@dataclass(frozen=True)
class Part:
    """A part of the check.

    Args:
        title: The question that it answers.
        module: The script, as `python -m` takes it.
        timeout: Seconds after which its processes are killed; in a dry run, DRY_RUN_FACTOR times as many.
        alone: Nothing else runs at the same time, because it measures time.
        arguments: The arguments of each of its processes.
    """

    title: str
    module: str
    timeout: float
    alone: bool = False
    arguments: Sequence[Sequence[str]] = ((),)


EQUALITY = [
    [f"--share={i}/{SHARES}", *extra] for extra in ([], ["--deterministic"]) for i in range(SHARES)
]  # fmt: skip
# in the order of their value
PARTS = {
    0: Part("Versions, data and imports", "experiments.gpu.versions", 60),
    2: Part("Equality of eager, graph and resumed trainings", "experiments.gpu.equality", 120, arguments=EQUALITY),
    1: Part("The tests that need a GPU", "experiments.gpu.gpu_tests", 120),
    4: Part("Speed", "experiments.gpu.speed", 160, alone=True),
    5: Part("Time of a step on the GPU, kernels and synchronizations", "experiments.gpu.kernels", 80, alone=True),
    6: Part("Time to quality", "experiments.gpu.quality", 150, alone=True),
    7: Part("DDP", "experiments.gpu.ddp", 110),
    3: Part("Losses on the CPU and on the GPU", "experiments.gpu.losses", 60),
    8: Part("Evaluation on the CPU and on the GPU", "experiments.gpu.evaluation", 120),
    9: Part("SIGTERM, resume and too little memory", "experiments.gpu.faults", 100),
    10: Part("Image folder", "experiments.gpu.image_folder", 120),
}


class Job:
    """One process of a part, in a process group of its own.

    Args:
        number: Number of the part.
        command: The command.
        timeout: Seconds after which it is killed.
        threads: Value of OMP_NUM_THREADS, if it is not set; None: torch decides.
        log: The file for its output.
    """

    def __init__(self, number: int, command: Sequence[str], timeout: float, threads: int | None, log: Path) -> None:
        self.number, self.command, self.timeout, self.threads, self.log = number, command, timeout, threads, log
        self.process: subprocess.Popen[bytes] | None = None
        self.started = 0.0

    def start(self) -> None:
        self.started = time.monotonic()
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        if self.threads is not None:
            environment.setdefault("OMP_NUM_THREADS", str(self.threads))
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                self.command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def kill(self) -> None:
        """Kill the process and those that it has started."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def outcome(self, deadline: float) -> tuple[str, bool] | None:
        """Return how the process ended and True if it succeeded, None while it runs. Kill it after its timeout."""
        assert self.process is not None
        code = self.process.poll()
        if code is None:
            if time.monotonic() < deadline and self.seconds < self.timeout:
                return None
            self.kill()
            return f"killed after {self.seconds:.0f} s", False
        self.kill()  # processes that it has left behind
        if code == 0:
            return f"{self.seconds:.0f} s", True
        lines = self.log.read_text(errors="replace").strip().splitlines() or ["no output"]
        return f"exit code {code} after {self.seconds:.0f} s: {lines[-1][:200]}", False


def run_jobs(jobs: Sequence[Job], at_once: int, deadline: float, out: Path) -> None:
    """Run the jobs, at most `at_once` at the same time, and append a row for the end of each.

    Args:
        jobs: The jobs, in the order of their start.
        at_once: Number of jobs that may run at the same time, >= 1.
        deadline: Value of time.monotonic() at which all jobs are killed.
        out: The folder of results.jsonl.
    """
    waiting = list(jobs)
    running: list[Job] = []
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                job = waiting.pop(0)
                if time.monotonic() >= deadline:
                    append_row(out, job.number, f"process {job.log.stem}", "not run: no time left", "ends", False)
                    continue
                job.start()
                running.append(job)
            for job in list(running):
                if outcome := job.outcome(deadline):
                    running.remove(job)
                    append_row(out, job.number, f"process {job.log.stem}", outcome[0], "ends", outcome[1])
                    print(f"{job.log.stem}: {outcome[0]}", flush=True)
            time.sleep(POLL_SECONDS)
    finally:
        for job in running:
            job.kill()


def run_parts(numbers: Sequence[int], device: str, deadline: float, out: Path, work: Path) -> None:
    """Run the parts: first those that check correctness, at the same time, then the others one by one.

    Args:
        numbers: The parts, most valuable first.
        device: "cuda" or "cpu".
        deadline: Value of time.monotonic() at which all of them are killed.
        out: The folder of the results.
        work: The folder of the trainings.
    """
    logs = out / "logs"
    logs.mkdir()
    together: list[Job] = []
    alone: list[Job] = []
    for number in numbers:
        part = PARTS[number]
        shared = [f"--part={number}", f"--device={device}", f"--out={out}", f"--work={work}"]
        for i, arguments in enumerate(part.arguments):
            name = f"part{number}" + (f"-{i}" if len(part.arguments) > 1 else "")
            command = [sys.executable, "-m", part.module, *shared, *arguments]
            timeout = part.timeout * (DRY_RUN_FACTOR if device == "cpu" else 1)
            job = Job(number, command, timeout, None if part.alone else SHARED_THREADS, logs / f"{name}.txt")
            (alone if part.alone else together).append(job)
    run_jobs(together, max(1, os.cpu_count() or 1), deadline, out)
    run_jobs(alone, 1, deadline, out)


def find_gpu() -> str | None:
    """Return name, driver and memory of the first GPU as nvidia-smi reports them, None without a GPU."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return None
    name, driver, memory = (cell.strip() for cell in lines[0].split(","))
    return f"{name}, {memory}, driver {driver}"


@contextmanager
def finish(out: Path, header: dict[str, str], titles: dict[int, str]) -> Iterator[None]:
    """Write the table and the archive of the logs at the end of the context, however it ends."""
    started = time.monotonic()
    try:
        yield
    finally:
        header["seconds"] = f"{time.monotonic() - started:.0f}"
        (out / TABLE).write_text(format_table(read_rows(out), header, titles))
        with tarfile.open(out / "logs.tar.gz", "w:gz") as archive:
            archive.add(out / "logs", "logs")
        shutil.rmtree(out / "logs")


def parse_parts(text: str) -> list[int]:
    """Return the numbers of a list such as 0,2,4. ArgumentTypeError if one is not a part."""
    numbers = [int(number) if number.isdecimal() else -1 for number in text.split(",")]
    if not set(numbers) <= PARTS.keys():
        raise argparse.ArgumentTypeError(f"must be of {','.join(map(str, sorted(PARTS)))}, got {text}")
    return list(dict.fromkeys(numbers))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = ",".join(map(str, PARTS))
    help_parts = "; ".join(f"{number} {part.title}" for number, part in sorted(PARTS.items()))
    parser.add_argument("--parts", type=parse_parts, default=default, help=f"default: {default}. {help_parts}")
    parser.add_argument("--seconds", type=float, default=480, help="after which the check ends (default: 480)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a dry run")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu-check"), help="default: runs/gpu-check")
    return parser.parse_args()


def main() -> None:
    started = time.monotonic()
    args = parse_arguments()
    gpu = find_gpu() if args.device == "cuda" else processor_name()
    if gpu is None:
        sys.exit("error: the GPU check needs an NVIDIA GPU, and nvidia-smi finds none; --device cpu is a dry run")
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    for name in (RESULTS, TABLE, "logs.tar.gz"):
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(out / "logs", ignore_errors=True)
    header = {
        "device": gpu,
        "torch": version("torch"),
        "python": platform.python_version(),
        # the files of a checkout may have been copied without .git
        "commit": commit() or os.environ.get("DCGAN_COMMIT") or "unknown",
        "command": f"python -m experiments.gpu.check {' '.join(sys.argv[1:])}",
    }
    if args.device == "cpu":
        header["note"] = "a dry run on the CPU with tiny networks, eager instead of CUDA graphs"
    titles = {number: PARTS[number].title for number in args.parts}
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # the table is still written
    deadline = started + args.seconds - RESERVE_SECONDS
    with finish(out, header, titles), tempfile.TemporaryDirectory() as work:
        run_parts(args.parts, args.device, deadline, out, Path(work))
    rows = read_rows(out)
    failed = [row for row in rows if row["held"] is False]
    for row in failed:
        print(f"NOT HELD  {row['part']}: {row['name']}: {row['value']} (mark: {row['mark']})")
    print(f"{count_marks(rows)} {out / TABLE}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
