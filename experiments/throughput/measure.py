"""`make bench`: images per second, memory and start-up of a training, side by side with the alternatives.

Each arm trains the same networks at the same batch size in a fresh process; the arms take turns (`turns`). What follows
is medians over the rounds, ratios within a round. `python -m experiments.throughput.measure [--rounds N] [--turns N]
[overrides]` measures any configuration, `--scaling` how cost grows. What the evaluator measures in a training is not
in it: `experiments/metrics` times that.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from experiments.bench import begin, machine, show, speeds, write
from experiments.composing import configured
from experiments.throughput.turns import Arm, middle, take_turns

HERE = Path(__file__).parent
SHIPPED, IMPORTS = "dcgan.train as shipped", "python -c 'import torch, lightning'"
SCRIPTS = {SHIPPED: "shipped", "bare loop, everything tuned": "bare", "in the manner of the example": "example"}
STARTS = {IMPORTS: ["-c", "import torch, lightning"], "python -m dcgan.train --help": ["-m", "dcgan.train", "--help"]}


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *command], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def race(rounds: int, turns: int, overrides: list[str]) -> list[dict]:
    arms = {name: Arm(script, overrides) for name, script in SCRIPTS.items()}
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in arms}
    starts: dict[str, list[float]] = {name: [] for name in STARTS}
    n = configured(*overrides).data.batch_size
    for i in range(rounds):
        for name, command in STARTS.items():
            starts[name].append(seconds(command))
        for name, run in take_turns(arms, turns).items():
            runs[name].append(run)
            print(f"round {i}: {name}: {n * run['steps_per_second']:.1f} images/s", flush=True)
    rows: list[dict] = []
    for name, ours in runs.items():
        speeds = [run["steps_per_second"] for run in ours]
        ratios = [run["steps_per_second"] / speed for run, speed in zip(runs[SHIPPED], speeds, strict=True)]
        rows.append(
            {"arm": name, "images_per_second": middle([n * speed for speed in speeds], 1)}
            | {"shipped_over_it": middle(ratios, 3), "peak_mb": middle([run["peak_mb"] for run in ours], 0)}
            | {"first_step_s": middle([run["first_step"] for run in ours], 1)}
        )
    beyond = [run["first_step"] - whole for run, whole in zip(runs[SHIPPED], starts[IMPORTS], strict=True)]
    rows[0]["beyond_imports_s"] = middle(beyond, 1)
    return rows + [{"arm": name, "whole_s": middle(values, 1)} for name, values in starts.items()]


GRID = {
    "data.batch_size": (16, 32, 64, 128, 256, 512),
    "model.base_channels": (8, 16, 32, 64, 128),
    "data.image_size": (28, 32, 64),
}


def scaling(rounds: int, seconds: float, overrides: list[str]) -> list[dict]:
    """Images per second of the step alone, one thing changed at a time, the values of one key taking turns."""
    rows = []
    for key, values in GRID.items():
        configs = {value: configured(*overrides, f"{key}={value}") for value in values}
        rows += [{"key": key, "value": row.pop("arm")} | row for row in speeds(configs, rounds, seconds)]
        print(*rows[-len(values) :], sep="\n", flush=True)
    return rows


def processes(rounds: int, turns: int) -> list[dict]:
    """Two gloo processes with a thread each against one with two, at 128 images a step in all."""
    one, two = "one process, two threads", "two processes, a thread each"
    arms = {
        one: Arm("shipped", ["trainer=cpu", "data.batch_size=128"]),
        two: Arm("shipped", ["trainer=ddp_cpu", "data.batch_size=64"]),
    }
    runs = [take_turns(arms, turns) for _ in range(rounds)]
    return [
        {"key": "processes", "value": name}
        | {"images_per_second": middle([128 * run[name]["steps_per_second"] for run in runs], 1)}
        | {"ratio": middle([run[name]["steps_per_second"] / run[one]["steps_per_second"] for run in runs], 3)}
        for name in arms
    ]


def draw(rows: list[dict]) -> None:
    from matplotlib.figure import Figure

    every = [row[name] for row in rows for name in ("lowest", "highest")]
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    ticks = (20, 50, 100, 200, 500, 1000, 2000, 5000)
    for axes, key in zip(figure.subplots(1, 3, sharey=True), GRID, strict=True):
        of_key = [row for row in rows if row["key"] == key]
        x = [row["value"] for row in of_key]
        y, low, high = ([float(row[name]) for row in of_key] for name in ("images_per_second", "lowest", "highest"))
        axes.fill_between(x, low, high, alpha=0.25)
        axes.plot(x, y, marker="o")
        axes.set(xlabel=key, xscale="log", yscale="log", xticks=x, xticklabels=x)
        axes.set_yticks(ticks, [str(tick) for tick in ticks])
        axes.set_ylim(min(map(float, every)) / 1.3, max(map(float, every)) * 1.3)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("images per second")
    figure.suptitle(f"The training step, one key changed at a time ({machine()['hardware']})", fontsize=10)
    figure.savefig(HERE / "scaling.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--scaling", action="store_true")
    parser.add_argument("overrides", nargs="*", default=[])
    arguments = parser.parse_args()
    begin()
    how = {"turns": arguments.turns, "rounds": arguments.rounds, "overrides": " ".join(arguments.overrides)}

    def keep(rows: list[dict], name: str) -> None:
        write(HERE / name, [row | how for row in rows])

    if arguments.scaling:
        rows = scaling(arguments.rounds, 1.5, arguments.overrides)
        draw(rows)
        keep(rows, "scaling.csv")
        rows += processes(3, arguments.turns)
        keep(rows, "scaling.csv")
    else:
        rows = race(arguments.rounds, arguments.turns, arguments.overrides)
        keep(rows, "results.csv")
    show(rows)


if __name__ == "__main__":
    main()
