"""Shared by the parts of the GPU check: their arguments, their rows, and commands that run in their process."""

import argparse
import io
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from experiments.gpu.results import append_row

TINY = ["model.base_channels=4", "model.latent_dim=8", "hidden_width=16", "data.batch_size=8", "data.limit=512"]
DRY_RUN_FACTOR = 3  # of all timeouts: the machine of a dry run may have few cores


@dataclass(frozen=True)
class Outcome:
    """Exit code and output (stdout and stderr) of a command."""

    code: int
    output: str

    @property
    def last_line(self) -> str:
        return (self.output.strip().splitlines() or ["no output"])[-1][:200]


@dataclass(frozen=True)
class CheckContext:
    """The arguments of a part, and what it does with them.

    Args:
        part: Number of the part.
        device: "cuda" or "cpu".
        out: The folder of results.jsonl.
        work: The folder of the trainings.
        share: Index and number of the processes that share the part's work.
        deterministic: Use deterministic algorithms.
    """

    part: int
    device: str
    out: Path
    work: Path
    share: tuple[int, int] = (0, 1)
    deterministic: bool = False

    @property
    def on_gpu(self) -> bool:
        return self.device == "cuda"

    def record(self, name: str, value: object, mark: str = "", held: bool | None = None) -> None:
        """Append a row to results.jsonl: see `append_row`."""
        text = str(value).replace(f"{self.work}/", "")  # no folder of one machine in the results
        print(f"{name}: {text} (mark: {mark or 'none'}; held: {held})", flush=True)
        append_row(self.out, self.part, name, text, mark, held)

    def record_end(self, name: str, outcome: Outcome) -> bool:
        """Append a row for a command that must succeed. Return True if it has."""
        succeeded = outcome.code == 0
        value = "exit code 0" if succeeded else f"exit code {outcome.code}: {outcome.last_line}"
        self.record(name, value, "exit code 0", succeeded)
        return succeeded

    @property
    def sizes(self) -> list[str]:
        """Overrides that make a dry run on the CPU fast; none on a GPU."""
        return [] if self.on_gpu else TINY

    def overrides(self, graph: bool) -> list[str]:
        """Return the overrides of dcgan.train that choose the device, the sizes and the CUDA graph."""
        cuda_graph = "true" if graph and self.on_gpu else "false"
        return [f"trainer={'gpu' if self.on_gpu else 'cpu'}", f"cuda_graph={cuda_graph}", *self.sizes]

    def train(self, *overrides: str) -> Outcome:
        """Run dcgan.train in this process."""
        from dcgan import train

        return run_in_process(train, *overrides)

    def measure(self, name: str, path: Path, *overrides: str) -> dict[str, Any] | None:
        """Run dcgan.train with a callback that writes the JSON file `path`, and return its content.

        A training that fails is recorded under `name`, and None is returned.
        """
        path.unlink(missing_ok=True)
        outcome = self.train(*overrides)
        if outcome.code != 0 or not path.exists():
            self.record(name, outcome.last_line, "exit code 0", False)
            return None
        return json.loads(path.read_text())

    def start(self, name: str, *arguments: str, environment: Mapping[str, str] | None = None) -> "ChildProcess":
        """Start `python -m ARGUMENTS` with its output in logs/NAME.txt."""
        log = self.out / "logs" / f"part{self.part}-{name}.txt"
        return ChildProcess(log, arguments, environment or {}, 1 if self.on_gpu else DRY_RUN_FACTOR)


class ChildProcess:
    """A command in a process of its own, in the process group of this one.

    Args:
        log: The file for its output.
        arguments: Of `python -m`.
        environment: Added to that of this process.
        patience: Factor of all timeouts.
    """

    def __init__(
        self, log: Path, arguments: tuple[str, ...], environment: Mapping[str, str], patience: float = 1
    ) -> None:
        self.log, self.patience = log, patience
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                env=os.environ | dict(environment),
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def wait(self, seconds: float) -> Outcome:
        """Wait for its end. It is killed after `seconds`; its exit code is then -9."""
        try:
            self.process.wait(self.patience * seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        return Outcome(self.process.returncode, self.log.read_text(errors="replace"))


def run_in_process(module: ModuleType, *arguments: str) -> Outcome:
    """Run a command of this project in this process, which saves the seconds of its imports."""
    from hydra.core.hydra_config import HydraConfig

    output, code, argv = io.StringIO(), 0, sys.argv
    sys.argv = [module.__name__, *arguments]
    with redirect_stdout(output), redirect_stderr(output):
        try:
            module.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except Exception:
            code = 1
            traceback.print_exc()
        finally:
            sys.argv = argv
            HydraConfig.instance().cfg = None
    print(f"$ {module.__name__} {' '.join(arguments)}\n{output.getvalue()}exit code {code}", flush=True)
    return Outcome(code, output.getvalue())


def parse_context() -> CheckContext:
    """Return the context that `experiments.gpu.check` gives to this part on its command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--part", type=int, required=True)
    parser.add_argument("--device", choices=("cuda", "cpu"), required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--share", default="0/1")
    parser.add_argument("--deterministic", action="store_true")
    args = parser.parse_args()
    index, _, n = args.share.partition("/")
    return CheckContext(args.part, args.device, args.out, args.work, (int(index), int(n)), args.deterministic)
