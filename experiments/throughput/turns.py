"""Trainings that take turns on a shared machine: each in its own process, and all but one stopped.

The speed of this project's machines changes by 15 % within minutes. Trainings that run one after the other would meet
different conditions; trainings that take turns of seconds meet the same.
"""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

WARM_UP_STEPS = 100  # a default run saves eight of its 15 sample grids in them, more than later
WARM_UP_TIMEOUT = 600.0  # seconds
TURN_SECONDS = 3.0  # several steps of the defaults, which take 0.4 s
ENVIRONMENT = dict(os.environ)  # without the variables that this process sets later


class TrainingEnded(RuntimeError):
    """A training has ended or hangs."""


@dataclass(frozen=True)
class Variant:
    """A training script: `python -m experiments.throughput.SCRIPT OVERRIDES`.

    The script adds a byte to the file $STEP_LOG after each step.
    """

    script: str
    overrides: Sequence[str] = ()


class TrainingProcess:
    """A variant in its own process group, which trains only during `run_for` after `pause` was called.

    Args:
        variant: The training script.
        folder: For its output.
    """

    def __init__(self, variant: Variant, folder: Path) -> None:
        self.step_log, self.output = folder / "steps", folder / "out.txt"
        self.step_log.touch()
        command = [sys.executable, "-m", f"experiments.throughput.{variant.script}", *variant.overrides]
        environment = ENVIRONMENT | {"STEP_LOG": str(self.step_log)}
        self.started = time.perf_counter()
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        self.seconds = 0.0  # total time of its turns

    @property
    def steps(self) -> int:
        return self.step_log.stat().st_size

    def wait_for_step(self, step: int) -> float:
        """Wait for a step and return the seconds since the start. TrainingEnded if it is not reached."""
        while self.steps < step:
            self.check_running()
            time.sleep(0.005)
        return time.perf_counter() - self.started

    def check_running(self) -> None:
        """Raise TrainingEnded if the process has ended, or the warm-up takes too long."""
        hangs = self.seconds == 0 and time.perf_counter() - self.started > WARM_UP_TIMEOUT
        if self.process.poll() is not None or hangs:
            reason = "hangs" if hangs else f"ended with exit code {self.process.returncode}"
            raise TrainingEnded(f"a training {reason}:\n{self.output.read_text()[-2000:]}")

    def pause(self) -> None:
        os.killpg(self.process.pid, signal.SIGSTOP)

    def run_for(self, seconds: float) -> None:
        os.killpg(self.process.pid, signal.SIGCONT)
        started = time.perf_counter()
        time.sleep(seconds)
        self.pause()
        self.seconds += time.perf_counter() - started

    @property
    def peak_mb(self) -> float:
        """The peak memory of the training process, without its data loader's workers."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def train_in_turns(
    variants: Mapping[str, Variant], turns: int, seconds: float = TURN_SECONDS, warm_up_steps: int = WARM_UP_STEPS
) -> dict[str, dict[str, float]]:
    """Return per variant: seconds to the first step, steps per second after the warm-up, and peak memory in MB.

    Args:
        variants: The training scripts.
        turns: Turns of each variant.
        seconds: Length of a turn.
        warm_up_steps: Steps of each variant before the first turn.

    Raises:
        TrainingEnded: A training has ended or hangs.
    """
    results: dict[str, dict[str, float]] = {name: {} for name in variants}
    trainings: dict[str, TrainingProcess] = {}
    with ExitStack() as stack:
        # SIGTERM raises SystemExit, so that the trainings are killed
        previous = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
        stack.callback(signal.signal, signal.SIGTERM, previous)
        root = stack.enter_context(tempfile.TemporaryDirectory())
        for i, (name, variant) in enumerate(variants.items()):
            folder = Path(root, str(i))
            folder.mkdir()
            trainings[name] = training = TrainingProcess(variant, folder)
            stack.callback(training.kill)
            results[name]["first_step"] = training.wait_for_step(1)
            training.wait_for_step(warm_up_steps)
            training.pause()
        warm_up = {name: training.steps for name, training in trainings.items()}
        for _ in range(turns):
            for training in trainings.values():
                training.run_for(seconds)
        for name, training in trainings.items():
            training.check_running()
            results[name]["steps_per_second"] = (training.steps - warm_up[name]) / training.seconds
            results[name]["peak_mb"] = training.peak_mb
    return results


def format_median(values: Sequence[float], digits: int) -> str:
    """Return the median and the range."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"
