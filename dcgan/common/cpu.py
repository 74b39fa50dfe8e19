"""The CPU: whether it computes with bfloat16, and how many of its cores other programs use."""

import os
import time
from pathlib import Path

MIN_SECONDS = 0.3  # Linux counts in hundredths of a second
TICKS_PER_SECOND = 100
CPU_INFO = Path("/proc/cpuinfo")
BF16_FLAGS = {"amx_bf16", "avx512_bf16"}


def computes_bf16() -> bool:
    """Return True if the CPU multiplies matrices of bfloat16 faster than those of float32.

    ONEDNN_MAX_CPU_ISA, which keeps torch's library of convolutions from using such instructions, is respected.
    """
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper()
    if limit not in ("ALL", "DEFAULT") and "BF16" not in limit and "AMX" not in limit:
        return False
    try:
        flags = next(line for line in CPU_INFO.read_text().splitlines() if line.startswith("flags"))
    except (OSError, StopIteration):
        return False
    return bool(BF16_FLAGS & set(flags.split()))


class CoreUsage:
    """Measures how many of the cores of this process other programs use, from now on.

    The load average of the system is no substitute: it contains this process and those that ended a minute ago.
    """

    def __init__(self) -> None:
        self.cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
        self.start = time.monotonic(), self.busy_seconds(), time.process_time()

    def busy_seconds(self) -> float:
        """Return the time that the cores have worked for all programs."""
        lines = [line.split() for line in Path("/proc/stat").read_text().splitlines()] if self.cores else []
        names = {f"cpu{core}" for core in self.cores}
        # user, nice, system, idle, waiting for a disk, interrupts
        ticks = [list(map(int, line[1:9])) for line in lines if line[0] in names]
        return sum(sum(each) - each[3] - each[4] for each in ticks) / TICKS_PER_SECOND

    def by_others(self) -> float:
        """Return the mean number of cores in use by other programs; 0 if it is unknown."""
        begun, busy, own = self.start
        seconds = time.monotonic() - begun
        if not self.cores or seconds < MIN_SECONDS:
            return 0.0
        return max(0.0, self.busy_seconds() - busy - (time.process_time() - own)) / seconds


def thread_advice(threads: int, usage: CoreUsage) -> str:
    """Return a sentence if the threads are more than the free cores, which makes them wait for each other; else ""."""
    others, cores = usage.by_others(), len(usage.cores)
    free = max(1, round(cores - others))
    if not cores or threads <= free:
        return ""
    return (
        f"{threads}, but other programs use {others:.1f} of {cores} cores: "
        f"OMP_NUM_THREADS={free} before the command can be several times faster"
    )
