"""Part 8: `dcgan.evaluate` on the GPU against the CPU, on one checkpoint."""

import json
import math

from experiments.gpu.context import CheckContext, parse_context, run_in_process

STEPS = 100
TOLERANCE = 0.02  # relative, or absolute for values below 1


def evaluate(context: CheckContext, checkpoint: str, device: str, n: int) -> dict[str, float] | None:
    """Evaluate on a device and return the metrics, None if that fails."""
    from dcgan import evaluate as command

    outcome = run_in_process(command, f"checkpoint={checkpoint}", f"device={device}", f"n={n}")
    if not context.record_end(f"evaluate, device={device}", outcome):
        return None
    content = json.loads((context.work / "evaluated" / "checkpoints" / "last.evaluation.json").read_text())
    context.record(f"seconds for {n} samples, device={device}", f"{content['seconds']:.1f} s")
    return content["metrics"]


def main() -> None:
    context = parse_context()
    run, n = context.work / "evaluated", 2000 if context.on_gpu else 300
    outcome = context.train(
        *context.overrides(graph=True), "evaluator=none", f"max_steps={STEPS}", f"hydra.run.dir={run}"
    )
    if not context.record_end("training", outcome):
        return
    checkpoint = str(run / "checkpoints" / "last.ckpt")
    on_cpu, on_device = (evaluate(context, checkpoint, device, n) for device in ("cpu", context.device))
    if on_cpu is None or on_device is None:
        return
    names = [name for name in on_cpu if on_cpu[name] is not None or on_device[name] is not None]
    different = [
        f"{name} {on_cpu[name]} {on_device[name]}"
        for name in names
        if None in (on_cpu[name], on_device[name])
        or not math.isclose(on_cpu[name], on_device[name], rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    ]
    value = f"{len(names) - len(different)} of {len(names)} metrics agree{': ' if different else ''}"
    context.record("CPU against GPU", value + "; ".join(different), f"within {TOLERANCE:.0%}", not different)


if __name__ == "__main__":
    main()
