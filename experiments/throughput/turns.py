"""Trainings side by side on one machine that others share: each in a process of its own, all but one standing still.

Neighbours make this project's machines faster and slower by 15 % within minutes, so arms that run one after the other
do not meet the same machine. Turns of seconds do.
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
from dataclasses import dataclass, field
from pathlib import Path

WARM_UP = 100  # steps before the turns: a default run draws eight of its 15 grids in them, which is not its rate
TURN = 3.0  # seconds: some steps of the default's .4
PATIENCE = 600.0  # seconds for the warm-up
AS_STARTED = dict(os.environ)  # what this process sets for itself is not for its arms


class Failed(RuntimeError):
    """An arm ended by itself."""


@dataclass(frozen=True)
class Arm:
    """`python -m experiments.throughput.SCRIPT [overrides]`, which adds a byte to the file $TICKS after each step."""

    script: str
    overrides: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


class Training:
    """An arm in a process group of its own, which others than `turn` leave standing still."""

    def __init__(self, arm: Arm, folder: Path) -> None:
        self.ticks, self.out = folder / "ticks", folder / "out.txt"
        self.ticks.touch()
        command = [sys.executable, "-m", f"experiments.throughput.{arm.script}", *arm.overrides]
        environment = AS_STARTED | arm.environment | {"TICKS": str(self.ticks)}
        self.launched = time.perf_counter()
        with self.out.open("w") as out:
            self.process = subprocess.Popen(
                command, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
        self.seconds = 0.0  # of its turns

    @property
    def steps(self) -> int:
        return self.ticks.stat().st_size

    def reach(self, steps: int) -> float:
        """Wait for so many steps; the seconds from the launch. Failed where the process ends or hangs before."""
        while self.steps < steps:
            self.check()
            time.sleep(0.005)
        return time.perf_counter() - self.launched

    def check(self) -> None:
        hangs = self.seconds == 0 and time.perf_counter() - self.launched > PATIENCE
        if self.process.poll() is not None or hangs:
            what = "hangs" if hangs else f"ended with {self.process.returncode}"
            raise Failed(f"an arm {what}:\n{self.out.read_text()[-2000:]}")

    def stand_still(self) -> None:
        os.killpg(self.process.pid, signal.SIGSTOP)

    def turn(self, seconds: float) -> None:
        os.killpg(self.process.pid, signal.SIGCONT)
        started = time.perf_counter()
        time.sleep(seconds)
        self.stand_still()
        self.seconds += time.perf_counter() - started

    @property
    def peak_mb(self) -> float:
        """Of the training itself, not of processes that read its data."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024

    def end(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def take_turns(arms: Mapping[str, Arm], turns: int, seconds: float = TURN) -> dict[str, dict[str, float]]:
    """By arm: steps per second behind the warm-up, seconds to the first step, peak memory in MB."""
    found: dict[str, dict[str, float]] = {name: {} for name in arms}
    trainings: dict[str, Training] = {}
    with ExitStack() as stack:
        # as Ctrl-C: arms must end
        before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
        stack.callback(signal.signal, signal.SIGTERM, before)
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        for i, (name, arm) in enumerate(arms.items()):
            place = Path(folder, str(i))
            place.mkdir()
            trainings[name] = training = Training(arm, place)
            stack.callback(training.end)
            found[name]["first_step"] = training.reach(1)
            training.reach(WARM_UP)
            training.stand_still()
        warm = {name: training.steps for name, training in trainings.items()}
        for _ in range(turns):
            for training in trainings.values():
                training.turn(seconds)
        for name, training in trainings.items():
            training.check()
            found[name]["steps_per_second"] = (training.steps - warm[name]) / training.seconds
            found[name]["peak_mb"] = training.peak_mb
    return found


def middle(values: Sequence[float], digits: int) -> str:
    """The median and the range."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"
