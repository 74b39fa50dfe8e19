"""Training steps of compiled networks next to eager ones: `python -m experiments.throughput.compiled` (seven minutes).

Both networks are compiled by torch.compile, which needs a C++ compiler on a CPU. The steps take turns. Writes
compiled.csv.
"""

import statistics
from collections.abc import Callable
from pathlib import Path

from experiments.bench import (
    build_step,
    infinite_batches,
    print_results,
    repeat_in_turns,
    start_benchmark,
    step_timer,
    write_results,
)
from experiments.configs import compose_config
from experiments.tables import Row

HERE = Path(__file__).parent
ROUNDS, STEPS, WARM_UP_STEPS = 6, 6, 3
CONFIGS: dict[str, list[str]] = {
    "experiment=fast_pixel_shuffle": ["experiment=fast_pixel_shuffle"],
    "the defaults": [],
    "64 x 64 pixels, batch 64": ["data.image_size=64", "data.batch_size=64"],
}


def build_timer(overrides: list[str], compiled: bool) -> Callable[[], float]:
    """Return a function that trains a few steps and returns the median of their seconds."""
    config = compose_config(*overrides)
    gan, step = build_step(config)
    if compiled:
        gan.generator.compile()
        gan.discriminator.compile()
    timer = step_timer(step, infinite_batches(config))
    for _ in range(WARM_UP_STEPS):
        timer()
    return lambda: statistics.median(timer() for _ in range(STEPS))


def main() -> None:
    start_benchmark()
    rows: list[Row] = []
    for name, overrides in CONFIGS.items():
        for precision in ("32-true", "bf16-mixed"):
            variants = {
                kind: build_timer([*overrides, f"trainer.precision={precision}"], kind) for kind in (False, True)
            }
            seconds = repeat_in_turns(variants, ROUNDS, warm_up_rounds=1)
            ratios = [eager / compiled for eager, compiled in zip(*seconds.values(), strict=True)]
            eager_ms, compiled_ms = (f"{1000 * statistics.median(times):.1f}" for times in seconds.values())
            rows.append(
                {"config": name, "precision": precision, "eager_ms": eager_ms, "compiled_ms": compiled_ms}
                | {"ratio": f"{statistics.median(ratios):.2f}", "range": f"{min(ratios):.2f} to {max(ratios):.2f}"}
            )
            write_results(HERE / "compiled.csv", rows)
    print_results(rows)


if __name__ == "__main__":
    main()
