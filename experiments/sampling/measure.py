"""What drawing costs: `python experiments/sampling/measure.py CKPT` (two minutes).

Start-up from nothing to a picture of 64 images, in fresh processes, beside `import torch` alone; the drawing of 10,000
images by batch size, alternating; and how many of their bytes another batch size changes.
"""

import csv
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from dcgan import load_generator
from dcgan.common.provenance import commit, processor_name

HERE = Path(__file__).parent
ROUNDS, N, REFERENCE = 5, 10_000, 64
BATCH_SIZES = (1, 7, 32, 64, 200, 500)
START = """
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


def starts(checkpoint: str) -> dict[str, list[float]]:
    picture = HERE / "picture.png"
    times = []
    for _ in range(ROUNDS):
        command = [sys.executable, "-c", START, checkpoint, str(picture)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        times.append([float(seconds) for seconds in done.stdout.split()])
    picture.unlink()
    return {
        "import torch": [imported for imported, _ in times],
        "from there to a picture": [drawn for _, drawn in times],
    }


def main() -> None:
    checkpoint = sys.argv[1]
    times = starts(checkpoint)
    generator = load_generator(checkpoint, "cpu")
    expected = generator.sample(N, batch_size=REFERENCE).int()
    rows = []
    for _ in range(ROUNDS):
        for size in BATCH_SIZES:
            n = N if size >= 32 else N // 20  # batches are filled up to a multiple of 32
            started = time.perf_counter()
            images = generator.sample(n, batch_size=size)
            times.setdefault(f"{N:,} images, batches of {size}", []).append((time.perf_counter() - started) * N / n)
            difference = (images.int() - expected[:n]).abs()
            share = (difference > 0).double().mean().item()
            name = f"bytes that batches of {size} change, of batches of {REFERENCE}"
            rows.append((name, f"{share:.1e}", f"by at most {difference.max().item()}"))
    table = [
        (name, f"{statistics.median(found):.2f} s", f"{min(found):.2f}-{max(found):.2f}")
        for name, found in times.items()
    ]
    table += dict.fromkeys(rows)
    hardware = f"{processor_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    hardware += f", commit {commit()}"
    with (HERE / "results.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("what", "median", "range"), *table, ("hardware", hardware, platform.machine())])
    print("\n".join(f"| {' | '.join(row)} |" for row in table), hardware, sep="\n")


if __name__ == "__main__":
    main()
