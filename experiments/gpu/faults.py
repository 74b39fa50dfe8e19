"""Part 9: SIGTERM and resume with the CUDA graph, and the message for too little GPU memory."""

import json
import signal
import time
from pathlib import Path

from experiments.gpu.context import CheckContext, ChildProcess, parse_context

STOP_AFTER = 100  # steps
EXTRA_STEPS = 50  # after the resume
MEMORY_FRACTION = 0.02  # of the GPU, with a batch that needs more
WAIT_SECONDS = 60


def last_step(run: Path) -> int:
    """Return the step of the last row of metrics.csv, 0 without a row."""
    try:
        return int((run / "metrics.csv").read_text().splitlines()[-1].partition(",")[0])
    except (OSError, ValueError, IndexError):
        return 0


def wait_for_step(run: Path, step: int, child: ChildProcess) -> bool:
    """Wait until metrics.csv has reached the step. Return False if the process ends before, or takes too long."""
    end = time.monotonic() + WAIT_SECONDS * child.patience
    while last_step(run) < step:
        if child.process.poll() is not None or time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def check_sigterm(context: CheckContext, settings: list[str], run: Path, child: ChildProcess) -> None:
    """Stop a training with SIGTERM and resume it."""
    if not wait_for_step(run, STOP_AFTER, child):
        child.process.kill()
        context.record(
            "SIGTERM", f"the training does not reach step {STOP_AFTER}: {child.wait(5).last_line}", "", False
        )
        return
    sent = time.monotonic()
    child.process.send_signal(signal.SIGTERM)
    outcome = child.wait(WAIT_SECONDS)
    value = f"exit code {outcome.code} after {time.monotonic() - sent:.1f} s: {outcome.last_line}"
    context.record("SIGTERM", value, "exit code 143", outcome.code == 143)
    total = last_step(run) + EXTRA_STEPS
    resumed = context.train(*settings, "ckpt_path=auto", f"max_steps={total}")
    if resumed.code != 0:
        context.record("ckpt_path=auto", resumed.last_line, "exit code 0", False)
        return
    step = json.loads((run / "summary.json").read_text())["step"]
    context.record("ckpt_path=auto", f"ends at step {step}", f"step {total}", step == total)


def main() -> None:
    context = parse_context()
    run = context.work / "stopped"
    settings = [*context.overrides(graph=True), "evaluator=none", f"hydra.run.dir={run}"]
    child = context.start("sigterm", "dcgan.train", *settings, "max_steps=1000000")
    memory = None
    if context.on_gpu:
        large = ["trainer=gpu", "data.batch_size=20000", "evaluator=none", f"hydra.run.dir={context.work / 'large'}"]
        fraction = f"--memory-fraction={MEMORY_FRACTION}"
        memory = context.start("memory", "experiments.gpu.launch", fraction, *large, "max_steps=10")
    check_sigterm(context, settings, run, child)
    if memory is None:
        context.record("too little memory", "not on the CPU")
        return
    outcome = memory.wait(WAIT_SECONDS)
    held = (
        outcome.code == 1
        and outcome.last_line.startswith("error: the GPU has too little memory")
        and "Traceback" not in outcome.output
    )
    context.record("too little memory", f"exit code {outcome.code}: {outcome.last_line}", "one sentence", held)


if __name__ == "__main__":
    main()
