"""Time the sampling of a checkpoint: `python experiments/sampling/measure.py CKPT` (two minutes).

Measures the start-up to a picture of 64 images, in fresh processes and without `import torch`; 10,000 images by batch
size, in turns; and how many of their bytes depend on the batch size.
"""

import csv
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from dcgan import load_generator
from dcgan.common.provenance import commit, processor_name

HERE = Path(__file__).parent
ROUNDS, N, REFERENCE = 5, 10_000, 64
BATCH_SIZES = (1, 7, 32, 64, 200, 500)
START_UP = """
import sys, time
start = time.perf_counter()
import torch
imported = time.perf_counter()
from pathlib import Path
from dcgan import load_generator
from dcgan.common.image_grid import image_grid, save_png
save_png(Path(sys.argv[2]), image_grid(load_generator(sys.argv[1]).sample(64)))
print(imported - start, time.perf_counter() - imported)
"""

ResultRow = tuple[str, str, str]  # measurement, median, range


def measure_start_up(checkpoint: str) -> dict[str, list[float]]:
    times = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(ROUNDS):
            command = [sys.executable, "-c", START_UP, checkpoint, f"{folder}/picture.png"]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            times.append([float(seconds) for seconds in done.stdout.split()])
    return {
        "import torch": [imports for imports, _ in times],
        "from import torch to a picture": [sampling for _, sampling in times],
    }


def measure_batch_sizes(checkpoint: str) -> tuple[dict[str, list[float]], list[ResultRow]]:
    """Return the seconds per 10,000 images, and a row per batch size with the share of differing bytes."""
    generator = load_generator(checkpoint, "cpu")
    reference = generator.sample(N, batch_size=REFERENCE).int()
    times: dict[str, list[float]] = {}
    differences: list[ResultRow] = []
    for _ in range(ROUNDS):
        for size in BATCH_SIZES:
            n = N if size >= 32 else N // 20  # small batches are slow: they are padded to a multiple of 32
            started = time.perf_counter()
            images = generator.sample(n, batch_size=size)
            times.setdefault(f"{N:,} images, batches of {size}", []).append((time.perf_counter() - started) * N / n)
            difference = (images.int() - reference[:n]).abs()
            share = (difference > 0).double().mean().item()
            name = f"bytes that differ between batches of {size} and {REFERENCE}"
            differences.append((name, f"{share:.1e}", f"by at most {difference.max().item()}"))
    return times, list(dict.fromkeys(differences))  # equal rounds once


def main() -> None:
    checkpoint = sys.argv[1]
    times = measure_start_up(checkpoint)
    batch_times, differences = measure_batch_sizes(checkpoint)
    rows: list[ResultRow] = [
        (name, f"{statistics.median(seconds):.2f} s", f"{min(seconds):.2f}-{max(seconds):.2f}")
        for name, seconds in (times | batch_times).items()
    ]
    rows += differences
    hardware = f"{processor_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}, commit {commit()}"
    with (HERE / "results.csv").open("w", newline="") as file:
        machine = ("hardware", hardware, platform.machine())
        csv.writer(file).writerows([("measurement", "median", "range"), *rows, machine])
    print("\n".join(f"| {' | '.join(row)} |" for row in rows), hardware, sep="\n")


if __name__ == "__main__":
    main()
