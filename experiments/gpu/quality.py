"""Part 6: the Frechet distance against seconds of training, and the seconds of the default training."""

import json
import time

from experiments.gpu.context import CheckContext, parse_context
from experiments.tables import read_rows

FAST_STEPS, INTERVAL = 24_000, 1_000
GOOD_FRECHET, MAX_GOOD_SECONDS = 1.7, 5.0  # reached within these seconds of training
MAX_DEFAULT_SECONDS = 20.0


def record_curve(context: CheckContext) -> None:
    """Train `experiment=fast` and record the Frechet distance of each measurement."""
    steps, interval = (FAST_STEPS, INTERVAL) if context.on_gpu else (6, 3)
    run = context.work / "fast"
    outcome = context.train(
        "experiment=fast", *context.overrides(graph=True), f"max_steps={steps}", f"metrics.every_n_steps={interval}",
        *([] if context.on_gpu else ["log.every_n_steps=1", "metrics.n=100"]), f"hydra.run.dir={run}",
    )  # fmt: skip
    if outcome.code != 0:
        context.record("fast", outcome.last_line, "exit code 0", False)
        return
    summary = json.loads((run / "summary.json").read_text())
    batch_size, seconds, last, good = summary["config"]["data"]["batch_size"], 0.0, 0, None
    for row in read_rows(run / "metrics.csv"):
        step = int(row["step"])
        if speed := row.get("train/images_per_second"):
            seconds, last = seconds + (step - last) * batch_size / float(speed), step
        if distance := row.get("test/frechet"):
            frechet = float(distance)
            context.record(f"fast, step {step:,}", f"Frechet distance {frechet:.2f} after {seconds:.1f} s of training")
            good = seconds if good is None and frechet <= GOOD_FRECHET else good
    # the networks of a dry run learn nothing
    held = good is not None and good <= MAX_GOOD_SECONDS if context.on_gpu else None
    reached = "not reached" if good is None else f"{good:.1f} s"
    context.record(
        f"fast, training until a Frechet distance of {GOOD_FRECHET}", reached, f"<= {MAX_GOOD_SECONDS} s", held
    )
    evaluations = summary["metrics_seconds"] / (steps / interval)
    context.record("fast, seconds per measurement", f"{evaluations:.2f} s")


def record_default(context: CheckContext) -> None:
    """Record the seconds of the default training with its measurements, samples and checkpoints."""
    run, steps = context.work / "default", [] if context.on_gpu else ["max_steps=5", "metrics.n=100"]
    started = time.perf_counter()
    outcome = context.train(*context.overrides(graph=True), *steps, f"hydra.run.dir={run}")
    seconds = time.perf_counter() - started
    if outcome.code != 0:
        context.record("default", outcome.last_line, "exit code 0", False)
        return
    summary = json.loads((run / "summary.json").read_text())
    in_loop = summary["wall_seconds"] + summary["metrics_seconds"]
    held = in_loop <= MAX_DEFAULT_SECONDS if context.on_gpu else None
    value = (
        f"{in_loop:.1f} s for {summary['step']:,} steps, of which {summary['metrics_seconds']:.1f} s of measurements"
    )
    context.record("default training, from the first step on", value, f"<= {MAX_DEFAULT_SECONDS:.0f} s", held)
    context.record("default training, with imports and start-up", f"{seconds:.1f} s")
    context.record("default, Frechet distance at the end", f"{summary['metrics']['frechet']:.2f}")


def main() -> None:
    context = parse_context()
    record_default(context)
    record_curve(context)


if __name__ == "__main__":
    main()
