"""Time training steps in float32 and in bf16-mixed, in turns: `python -m experiments.precision.steps` (five minutes).

One thread. Writes steps.csv.
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
ROUNDS = 15
CONFIGS = {
    "experiment=fast": ["experiment=fast"],
    "the defaults": [],
    "64 x 64 pixels, batch 64": ["data.image_size=64", "data.batch_size=64"],
}


def build_timer(overrides: list[str], precision: str) -> Callable[[], float]:
    """Return a function that makes a training step and returns its seconds."""
    config = compose_config(*overrides, f"trainer.precision={precision}")
    _, step = build_step(config)
    return step_timer(step, infinite_batches(config))


def main() -> None:
    start_benchmark(threads=1)
    rows: list[Row] = []
    for name, overrides in CONFIGS.items():
        timers = {precision: build_timer(overrides, precision) for precision in ("32-true", "bf16-mixed")}
        seconds = repeat_in_turns(timers, ROUNDS, warm_up_rounds=2)
        ratios = [slow / fast for slow, fast in zip(*seconds.values(), strict=True)]
        low, _, high = statistics.quantiles(ratios, n=4)
        float32_ms, bf16_ms = (f"{1000 * statistics.median(times):.1f}" for times in seconds.values())
        rows.append(
            {"config": name, "float32_ms": float32_ms, "bf16_ms": bf16_ms}
            | {"ratio": f"{statistics.median(ratios):.2f}", "quartiles": f"{low:.2f} to {high:.2f}"}
        )
        write_results(HERE / "steps.csv", rows)
    print_results(rows)


if __name__ == "__main__":
    main()
