"""`make bench`: images per second, memory and start-up of a training, side by side with the alternatives.

Each arm trains the same networks at the same batch size in a fresh process, arms alternating; what follows is medians
over the rounds, ratios within a round. `python -m experiments.throughput.measure [--rounds N] [--steps N] [overrides]`
measures any configuration, `--scaling` how cost grows. Rates leave the first 25 steps out, and what is not training:
the evaluator's measurements, which `experiments/metrics` times.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from experiments.bench import bare, begin, endless, machine, show, write
from experiments.composing import WARM_UP, configured

HERE = Path(__file__).parent
IMPORTS = "import torch, lightning"


class Failed(RuntimeError):
    """An arm ended with an error."""


def timed(command: list[str]) -> dict:
    """What a process printed, its peak memory in MB, and when it was started and how long it took."""
    started = time.time()
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen([sys.executable, *command], stdout=out, stderr=subprocess.STDOUT, text=True)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read()
    if process.returncode:
        raise Failed(f"{' '.join(command)} ended with {process.returncode}:\n{text[-2000:]}")
    return {"text": text, "started": started, "seconds": time.time() - started, "peak_mb": usage.ru_maxrss / 1024}


def shipped(steps: int, overrides: list[str]) -> dict:
    """`dcgan.train` with its logging, pictures and checkpoints; the measurement at its end is a small one."""
    with tempfile.TemporaryDirectory() as folder:
        run = timed(
            ["-m", "dcgan.train", f"hydra.run.dir={folder}/run", f"max_steps={steps}", "metrics.n=100",
             "metrics.every_n_steps=1000000", *overrides]
        )  # fmt: skip
        with Path(folder, "run", "metrics.csv").open() as file:
            rates = [float(row["train/images_per_second"]) for row in csv.DictReader(file)
                     if row["train/images_per_second"] and int(row["step"]) > WARM_UP]  # fmt: skip
        first = Path(folder, "run", "samples", "step_000001.png").stat().st_mtime
    return run | {"images_per_second": statistics.harmonic_mean(rates), "first_step": first - run["started"]}


def said_by(script: str, steps: int, overrides: list[str]) -> dict:
    run = timed(["-m", f"experiments.throughput.{script}", str(steps), *overrides])
    return run | json.loads(next(line for line in reversed(run["text"].splitlines()) if line.startswith("{")))


def loop(script: str) -> Callable[[int, list[str]], dict]:
    def arm(steps: int, overrides: list[str]) -> dict:
        run = said_by(script, steps, overrides)
        return run | {"first_step": run["first_step"] - run["started"]}

    return arm


ARMS: dict[str, Callable[[int, list[str]], dict]] = {
    "dcgan.train as shipped": shipped,
    "bare loop, everything tuned": loop("bare"),
    "in the manner of the example": loop("example"),
}
INSIDE = "share of it in the training step"
STARTS = {f"python -c '{IMPORTS}'": ["-c", IMPORTS], "python -m dcgan.train --help": ["-m", "dcgan.train", "--help"]}


def race(rounds: int, steps: int, overrides: list[str]) -> list[dict]:
    runs: dict[str, list[dict]] = {name: [] for name in (*ARMS, INSIDE, *STARTS)}
    for i in range(rounds):
        for name, arm in ARMS.items():
            runs[name].append(arm(steps, overrides))
            print(f"round {i}: {name}: {runs[name][-1]['images_per_second']:.1f} images/s", flush=True)
        runs[INSIDE].append(said_by("inside", steps, overrides))
        for name, command in STARTS.items():
            runs[name].append(timed(command))
    ours = [run["images_per_second"] for run in runs["dcgan.train as shipped"]]
    imports = [run["seconds"] for run in runs[f"python -c '{IMPORTS}'"]]
    rows = []
    for name in ARMS:
        rates = [run["images_per_second"] for run in runs[name]]
        starts = [run["first_step"] for run in runs[name]]
        rows.append(
            {"arm": name, "images_per_second": middle(rates, 1)}
            | {"shipped_over_it": middle([a / b for a, b in zip(ours, rates, strict=True)], 3)}
            | {"peak_mb": middle([run["peak_mb"] for run in runs[name]], 0), "first_step_s": middle(starts, 1)}
        )
    starts = [run["first_step"] for run in runs["dcgan.train as shipped"]]
    rows[0]["beyond_imports_s"] = middle([a - b for a, b in zip(starts, imports, strict=True)], 1)
    shares = middle([run["share"] for run in runs[INSIDE]], 3)
    rest = middle([run["ms_outside"] for run in runs[INSIDE]], 1)
    rows[0] |= {"in_the_step": shares, "ms_outside_a_step": rest}
    rows += [{"arm": name, "whole_s": middle([run["seconds"] for run in runs[name]], 1)} for name in STARTS]
    return rows


def middle(values: list[float], digits: int) -> str:
    """The median and the range."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


GRID = {
    "data.batch_size": (16, 32, 64, 128, 256, 512),
    "model.base_channels": (8, 16, 32, 64, 128),
    "data.image_size": (28, 32, 64),
}


def scaling(rounds: int, seconds: float, overrides: list[str]) -> list[dict]:
    """Images per second of the step alone, one thing changed at a time, the values of one grid alternating."""
    rows = []
    for key, values in GRID.items():
        arms = {}
        for value in values:
            config = configured(*overrides, f"{key}={value}")
            arms[value] = (bare(config).training_step, endless(config), config.data.batch_size, [])
        for i in range(rounds + 1):
            for step, batches, n, rates in arms.values():
                started, steps = time.perf_counter(), 0
                while steps == 0 or time.perf_counter() - started < seconds:
                    step(next(batches), steps)
                    steps += 1
                if i:  # the first one warms up
                    rates.append(n * steps / (time.perf_counter() - started))
        for value, (*_, rates) in arms.items():
            rows.append({"key": key, "value": value, "images_per_second": f"{statistics.median(rates):.1f}",
                         "lowest": f"{min(rates):.1f}", "highest": f"{max(rates):.1f}"})  # fmt: skip
            print(rows[-1], flush=True)
    return rows


def processes(rounds: int, steps: int) -> list[dict]:
    """Two gloo processes with a thread each against one with two, at 128 images a step in all."""
    arms = {
        "one process, two threads": ["trainer=cpu", "data.batch_size=128"],
        "two processes, a thread each": ["trainer=ddp_cpu", "data.batch_size=64"],
    }
    rates: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, overrides in arms.items():
            rates[name].append(shipped(steps, overrides)["images_per_second"])
    one = rates["one process, two threads"]
    return [
        {"key": "processes", "value": name, "images_per_second": middle(values, 1)}
        | {"ratio": middle([a / b for a, b in zip(values, one, strict=True)], 3)}
        for name, values in rates.items()
    ]


def draw(rows: list[dict]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.2), layout="constrained")
    for axes, key in zip(figure.subplots(1, 3), GRID, strict=True):
        of_key = [row for row in rows if row["key"] == key]
        x = [row["value"] for row in of_key]
        y, low, high = ([float(row[name]) for row in of_key] for name in ("images_per_second", "lowest", "highest"))
        axes.fill_between(x, low, high, alpha=0.25)
        axes.plot(x, y, marker="o")
        axes.set(xlabel=key, xscale="log", yscale="log", xticks=x, xticklabels=x)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("images per second")
    figure.suptitle(f"The training step, one key changed at a time ({machine()['hardware']})", fontsize=10)
    figure.savefig(HERE / "scaling.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=75)
    parser.add_argument("--scaling", action="store_true")
    parser.add_argument("overrides", nargs="*", default=[])
    arguments = parser.parse_args()
    begin()
    if arguments.scaling:
        rows = scaling(arguments.rounds, 1.5, arguments.overrides)
        draw(rows)
        rows += processes(3, arguments.steps)
        name = "scaling.csv"
    else:
        rows = race(arguments.rounds, arguments.steps, arguments.overrides)
        name = "results.csv"
    show(rows)
    how = {"steps": arguments.steps, "rounds": arguments.rounds, "overrides": " ".join(arguments.overrides)}
    write(HERE / name, [row | how for row in rows])


if __name__ == "__main__":
    main()
