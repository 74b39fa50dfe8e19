"""The provenance of a result: processor and commit."""

import platform
import subprocess
from pathlib import Path


def processor_name() -> str:
    """Return the CPU's model name on Linux, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def commit() -> str | None:
    """Return the commit of the checkout that contains this package, with "-dirty" if it has changes, else None."""
    checkout = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(checkout), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != checkout:  # a wheel installed inside another repository
            return None
        return git("describe", "--always", "--dirty", "--abbrev=40")
    except (OSError, subprocess.SubprocessError):
        return None
