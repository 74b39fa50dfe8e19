"""Part 5: the time that the GPU needs for a step, its kernels, its busy share in a training, and synchronizations."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from experiments.bench import build_standalone_gan
from experiments.configs import compose_config
from experiments.cuda_graphs import record_graph, synchronize
from experiments.gpu.callbacks import add_callback
from experiments.gpu.context import CheckContext, parse_context

REPLAYS = 200  # of which PROFILED are profiled
PROFILED = 20
TOP = 20
SECONDS, WARM_UP_STEPS = 3.0, 250
COUNTED_STEPS = 200
VARIANTS = {
    "default, TF32": ([], "32-true"),
    "default, bf16": ([], "bf16-mixed"),
    "fast, TF32": (["experiment=fast"], "32-true"),
}


def build_update(
    context: CheckContext, overrides: list[str], precision: str
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return a function that updates both networks on fixed images, and, on a GPU, the replay of its CUDA graph.

    The former must live as long as the latter, which uses its memory.
    """
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    device = torch.device(context.device)
    config = compose_config(*overrides, *context.sizes)
    gan: Any = build_standalone_gan(config, device)
    for optimizer in gan.optimizers():
        for group in optimizer.param_groups:
            group["capturable"] = context.on_gpu
    size = config.data.image_size
    images = torch.rand(config.data.batch_size * config.discriminator_steps, 1, size, size, device=device) * 2 - 1

    def update() -> None:
        # a cached cast of a weight would be outdated in the next replay
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed", cache_enabled=False):
            gan.update(images, None)

    return update, record_graph(update, device) if context.on_gpu else update


def step_time(update: Callable[[], object], on_gpu: bool) -> float:
    """Return the microseconds of an update: on a GPU, between two CUDA events."""
    n = REPLAYS if on_gpu else 2
    update()
    if not on_gpu:
        started = time.perf_counter()
        for _ in range(n):
            update()
        return 1e6 * (time.perf_counter() - started) / n
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(n):
        update()
    end.record()
    torch.cuda.synchronize()
    return 1e3 * begin.elapsed_time(end) / n


def record_kernels(context: CheckContext, name: str, update: Callable[[], object]) -> None:
    """Record the kernels that take most of the time, with their microseconds and number per update.

    `update` is not a replay: the profiler of torch 2.11 failed on one (cudaErrorLaunchFailure).
    """
    n = PROFILED if context.on_gpu else 1
    activities = [ProfilerActivity.CUDA] if context.on_gpu else [ProfilerActivity.CPU]
    with profile(activities=activities) as profiler:
        for _ in range(n):
            update()
        synchronize(torch.device(context.device))
    kernels = []
    for event in profiler.key_averages():
        microseconds = event.self_device_time_total if context.on_gpu else event.self_cpu_time_total
        if microseconds > 0:
            kernels.append((microseconds / n, event.count / n, event.key))
    kernels.sort(reverse=True)
    total, count = sum(kernel[0] for kernel in kernels), sum(kernel[1] for kernel in kernels)
    context.record(f"{name}: all kernels", f"{total:.0f} us, {count:.0f} per step")
    for microseconds, count, key in kernels[:TOP]:
        context.record(f"{name}: {key[:90]}", f"{microseconds:.1f} us, {count:g} per step")


def record_busy_share(context: CheckContext, floor: float) -> None:
    """Record the share of a training step, between two measurements, in which the GPU works."""
    path = context.work / "busy.json"
    seconds, warm_up_steps = (SECONDS, WARM_UP_STEPS) if context.on_gpu else (0.3, 2)
    stopwatch = add_callback("Stopwatch", {"path": path, "warm_up_steps": warm_up_steps, "seconds": seconds})
    measured = context.measure(
        "training for the busy share", path, *context.overrides(graph=True), "trainer.precision=32-true",
        "max_steps=1000000", "evaluator=none", *stopwatch, f"hydra.run.dir={context.work / 'busy'}",
    )  # fmt: skip
    if measured is None:
        return
    share = floor / (1e3 * measured["ms_per_step"])
    held = share >= 0.9 if context.on_gpu else None
    context.record("default, TF32, graph: GPU busy share between two measurements", f"{share:.0%}", ">= 90%", held)


def count_synchronizations(context: CheckContext, graph: bool) -> None:
    """Record the operations per step that make the host wait for the GPU, with their lines of code."""
    name = f"synchronizations per step, {'graph' if graph else 'eager'}"
    path = context.work / f"sync-{graph}.json"
    first_step, n_steps = (WARM_UP_STEPS, COUNTED_STEPS) if context.on_gpu else (2, 3)
    counter = add_callback("SyncCounter", {"path": path, "first_step": first_step, "n_steps": n_steps})
    counts = context.measure(
        name, path, *context.overrides(graph), "max_steps=1000000", "evaluator=none", *counter,
        f"hydra.run.dir={context.work / f'sync-{graph}'}",
    )  # fmt: skip
    if counts is None:
        return
    per_step = sum(counts["lines"].values()) / counts["steps"]
    lines = ", ".join(f"{line} {n}" for line, n in list(counts["lines"].items())[:8])
    context.record(name, f"{per_step:.2f} ({counts['steps']} steps: {lines or 'none'})", "<= 0.2", per_step <= 0.2)


def main() -> None:
    context = parse_context()
    built = {name: build_update(context, *variant) for name, variant in VARIANTS.items()}
    floors = {name: step_time(replay, context.on_gpu) for name, (_, replay) in built.items()}
    for name, microseconds in floors.items():
        context.record(f"{name}: update of both networks", f"{microseconds:.0f} us")
    record_busy_share(context, next(iter(floors.values())))
    for graph in (True, False):
        count_synchronizations(context, graph)
    for name, (update, _) in built.items():
        record_kernels(context, name, update)


if __name__ == "__main__":
    main()
