"""Part 1: the tests with "gpu" in their name, from the files that have such tests."""

import re
import subprocess
import sys

from experiments.gpu.check import ROOT
from experiments.gpu.context import parse_context


def main() -> None:
    context = parse_context()
    files = [
        path for path in sorted((ROOT / "tests").rglob("test_*.py")) if re.search(r"def test_\w*gpu", path.read_text())
    ]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rfE", "-k", "gpu", *map(str, files)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    print(done.stdout, flush=True)
    lines = done.stdout.strip().splitlines() or ["no output"]
    for line in lines:
        if line.startswith(("FAILED", "ERROR")):
            context.record("test", line, "passes", False)
    context.record("pytest -k gpu", lines[-1].strip("= "), "all pass", done.returncode == 0)


if __name__ == "__main__":
    main()
