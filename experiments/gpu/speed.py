"""Part 4: images per second of dcgan.train, of a bare CUDA-graph loop, and of a loop like the PyTorch example.

All run in this process, one after the other.
"""

import os
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import torch

from experiments.configs import compose_config
from experiments.cuda_graphs import synchronize
from experiments.gpu.callbacks import add_callback
from experiments.gpu.context import CheckContext, parse_context
from experiments.throughput import bare, example

SECONDS = 5.0  # of each measurement
WARM_UP_STEPS = 200  # a default run saves most of its early sample grids in them
BF16, TF32 = "bf16-mixed", "32-true"
MIN_BARE_RATIO = 0.9  # of dcgan.train with a CUDA graph
MIN_EXAMPLE_RATIO = 20.0
MIN_IMAGES_PER_SECOND = 80_000

# name: CUDA graph, overrides
TRAININGS = {
    "graph, TF32": (True, [f"trainer.precision={TF32}"]),
    "eager, TF32": (False, [f"trainer.precision={TF32}"]),
    "graph, bf16": (True, [f"trainer.precision={BF16}"]),
    "eager, bf16": (False, [f"trainer.precision={BF16}"]),
    "graph, experiment=fast": (True, ["experiment=fast"]),
    "graph, TF32, batch 512": (True, [f"trainer.precision={TF32}", "data.batch_size=512"]),
    "graph, TF32, 64 x 64 pixels": (True, [f"trainer.precision={TF32}", "data.image_size=64"]),
}


def measure_training(context: CheckContext, name: str, seconds: float, warm_up_steps: int) -> float | None:
    """Return the images per second of dcgan.train after a warm-up, None if it fails."""
    graph, overrides = TRAININGS[name]
    path = context.work / "stopwatch.json"
    stopwatch = add_callback("Stopwatch", {"path": path, "warm_up_steps": warm_up_steps, "seconds": seconds})
    measured = context.measure(
        f"dcgan.train, {name}", path, *context.overrides(graph), *overrides, "max_steps=1000000", "evaluator=none",
        *stopwatch, f"hydra.run.dir={context.work / name.replace(' ', '-').replace(',', '').replace('=', '-')}",
    )  # fmt: skip
    if measured is None:
        return None
    speed = measured["images_per_second"]
    context.record(f"dcgan.train, {name}", f"{speed:,.0f} images/s")
    return speed


def measure_loop(steps: Iterator[None], batch_size: int, device: torch.device, seconds: float, warm_up: int) -> float:
    """Return the images per second of a loop that yields after each step."""
    for _ in range(warm_up):
        next(steps)
    synchronize(device)
    started, n = time.perf_counter(), 0
    while n == 0 or time.perf_counter() - started < seconds:
        next(steps)
        n += 1
    synchronize(device)
    return n * batch_size / (time.perf_counter() - started)


def record_ratio(context: CheckContext, name: str, speed: float | None, other: float, least: float) -> None:
    """Record the ratio of two speeds. The tiny networks of a dry run have no mark."""
    if speed is not None:
        held = speed / other >= least if context.on_gpu else None
        context.record(name, f"{speed / other:.2f}", f">= {least}", held)


def main() -> None:
    context = parse_context()
    seconds, warm_up = (SECONDS, WARM_UP_STEPS) if context.on_gpu else (0.5, 2)
    device, config = torch.device(context.device), compose_config(*context.sizes)
    n = config.data.batch_size
    names = list(TRAININGS)
    ours = measure_training(context, names[0], seconds, warm_up)
    speed = measure_loop(bare.train(config, device, TF32), n, device, seconds, warm_up)
    context.record("bare loop, TF32", f"{speed:,.0f} images/s")
    record_ratio(context, "dcgan.train with a graph against the bare loop, TF32", ours, speed, MIN_BARE_RATIO)
    held = ours is not None and ours >= MIN_IMAGES_PER_SECOND if context.on_gpu else None
    context.record("dcgan.train with a graph, images/s", f"{ours or 0:,.0f}", f">= {MIN_IMAGES_PER_SECOND:,}", held)
    for name in names[1:3]:
        measure_training(context, name, seconds, warm_up)
    speed = measure_loop(bare.train(config, device, BF16), n, device, seconds, warm_up)
    context.record("bare loop, bf16", f"{speed:,.0f} images/s")
    torch.set_float32_matmul_precision("highest")  # torch's default; dcgan.train has changed it
    with Path(os.devnull).open("w") as null, redirect_stdout(null):
        speed = measure_loop(example.train(config, device), n, device, seconds, min(warm_up, 50))
    context.record("in the manner of the example", f"{speed:,.0f} images/s")
    record_ratio(context, "dcgan.train with a graph against the example", ours, speed, MIN_EXAMPLE_RATIO)
    for name in names[3:]:
        measure_training(context, name, seconds, warm_up)


if __name__ == "__main__":
    main()
