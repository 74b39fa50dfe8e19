"""The PyTorch DCGAN example itself, `dcgan/main.py` of github.com/pytorch/examples. Logs its steps (see `turns`).

`python -m experiments.throughput.original SCRIPT [options of the script]`, with absolute paths
"""

import builtins
import os
import runpy
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    sys.argv = sys.argv[1:]
    original_print, step_log = print, Path(os.environ["STEP_LOG"])
    os.chdir(step_log.parent)  # the script writes its pictures and weights to the working folder
    with step_log.open("ab", buffering=0) as file:

        def print_and_count(*values: Any) -> None:
            original_print(*values)
            if str(values[0]).startswith("["):  # the script prints a line per step: [epoch/epochs][batch/batches] ...
                file.write(b".")

        builtins.print = print_and_count  # type: ignore[assignment]
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
