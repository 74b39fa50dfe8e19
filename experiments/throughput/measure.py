"""`make bench`: images per second, memory and start-up of a training, compared with alternatives.

Each variant trains the same networks at the same batch size in its own process, and the variants take turns (`turns`).
The results are medians over the rounds; ratios are within a round. Evaluations during training are not included:
`experiments/metrics` times them.

`python -m experiments.throughput.measure [--rounds N] [--turns N] [overrides]` measures any configuration, and
`--scaling` how the cost grows. `--device cuda` runs both on a GPU. `--original dcgan/main.py`, the script of
github.com/pytorch/examples, adds it: at 64 x 64 pixels its networks are the default ones.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import torch

from dcgan.common.cpu import computes_bf16
from experiments.bench import (
    CPU,
    add_device_argument,
    device_path,
    machine_info,
    measure_speeds,
    print_results,
    start_benchmark,
    write_results,
)
from experiments.configs import compose_config
from experiments.tables import Row
from experiments.throughput.turns import WARM_UP_STEPS, Variant, format_median, train_in_turns

HERE = Path(__file__).parent
SHIPPED, IMPORTS = "dcgan.train as shipped", "python -c 'import torch, lightning'"
BARE, EXAMPLE = "bare loop, everything tuned", "in the manner of the example"
ORIGINAL = "the PyTorch example itself"
START_UPS = {
    IMPORTS: ["-c", "import torch, lightning"],
    "python -m dcgan.train --help": ["-m", "dcgan.train", "--help"],
}
GRID = {
    "data.batch_size": (16, 32, 64, 128, 256, 512),
    "model.base_channels": (8, 16, 32, 64, 128),
    "data.image_size": (28, 32, 64),
}


def run_seconds(arguments: list[str]) -> float:
    """Return the seconds that Python takes with these arguments."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def alternatives(device: torch.device, overrides: list[str], original: Path | None = None) -> dict[str, Variant]:
    """Return the training scripts that are compared on a device: in bf16, too, if it computes with bfloat16.

    Args:
        device: Where they train.
        overrides: Of the configuration.
        original: The script of the PyTorch example; None: without it.

    Raises:
        ValueError: The configuration's networks are not those of the original script.
    """
    option, trainer = f"--device={device.type}", f"trainer={'gpu' if device.type == 'cuda' else 'cpu'}"
    precisions = ["32-true"] + ["bf16-mixed"] * (device.type == "cuda" or computes_bf16())
    variants: dict[str, Variant] = {}
    for precision in precisions:
        suffix = ", bf16" if precision == "bf16-mixed" else ""
        variants |= {
            SHIPPED + suffix: Variant("shipped", [trainer, f"trainer.precision={precision}", *overrides]),
            BARE + suffix: Variant("bare", [option, f"--precision={precision}", *overrides]),
        }
    variants[EXAMPLE] = Variant("example", [option, *overrides])
    if original is not None:
        config = compose_config(*overrides)
        if config.data.image_size != 64 or config.data.channels != 1 or device != CPU:
            raise ValueError("the original script is compared at data.image_size=64 on MNIST, on the CPU")
        options = {
            "dataset": "mnist",
            "dataroot": Path(config.data.root).resolve(),
            "batchSize": config.data.batch_size,
            "ngf": config.model.base_channels,
            "ndf": config.model.base_channels,
            "lr": config.optimizer.lr,
        }
        arguments = [f"--{name}={value}" for name, value in options.items()]
        variants[ORIGINAL] = Variant("original", [str(original.resolve()), *arguments])
    return variants


def measure_alternatives(
    variants: dict[str, Variant], rounds: int, turns: int, overrides: list[str], warm_up_steps: int = WARM_UP_STEPS
) -> list[Row]:
    """Return the rows of results.csv: a row per script, then a row per start-up command."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    start_ups: dict[str, list[float]] = {name: [] for name in START_UPS}
    n = compose_config(*overrides).data.batch_size
    for i in range(rounds):
        for name, arguments in START_UPS.items():
            start_ups[name].append(run_seconds(arguments))
        for name, run in train_in_turns(variants, turns, warm_up_steps=warm_up_steps).items():
            runs[name].append(run)
            print(f"round {i}: {name}: {n * run['steps_per_second']:.1f} images/s", flush=True)
    rows: list[Row] = []
    for name, own in runs.items():
        speeds = [run["steps_per_second"] for run in own]
        ratios = [run["steps_per_second"] / speed for run, speed in zip(runs[SHIPPED], speeds, strict=True)]
        rows.append(
            {"variant": name, "images_per_second": format_median([n * speed for speed in speeds], 1)}
            | {"shipped_ratio": format_median(ratios, 3), "peak_mb": format_median([run["peak_mb"] for run in own], 0)}
            | {"first_step_s": format_median([run["first_step"] for run in own], 1)}
        )
    after_imports = [
        run["first_step"] - imports for run, imports in zip(runs[SHIPPED], start_ups[IMPORTS], strict=True)
    ]
    rows[0]["first_step_after_imports_s"] = format_median(after_imports, 1)
    return rows + [{"variant": name, "total_s": format_median(values, 1)} for name, values in start_ups.items()]


def measure_scaling(rounds: int, seconds: float, overrides: list[str], device: torch.device = CPU) -> list[Row]:
    """Return the images per second of the step alone, one key changed at a time. The values of a key take turns."""
    rows: list[Row] = []
    for key, values in GRID.items():
        configs = {value: compose_config(*overrides, f"{key}={value}") for value in values}
        speeds = measure_speeds(configs, rounds, seconds, device)
        rows += [{"key": key, "value": row.pop("variant")} | row for row in speeds]
        print(*rows[-len(values) :], sep="\n", flush=True)
    return rows


def measure_ddp(rounds: int, turns: int) -> list[Row]:
    """Compare two gloo processes with a thread each with one process with two, at 128 images per step in total."""
    one, two = "one process, two threads", "two processes, a thread each"
    variants = {
        one: Variant("shipped", ["trainer=cpu", "data.batch_size=128"]),
        two: Variant("shipped", ["trainer=ddp_cpu", "data.batch_size=64"]),
    }
    runs = [train_in_turns(variants, turns) for _ in range(rounds)]
    return [
        {"key": "processes", "value": name}
        | {"images_per_second": format_median([128 * run[name]["steps_per_second"] for run in runs], 1)}
        | {"ratio": format_median([run[name]["steps_per_second"] / run[one]["steps_per_second"] for run in runs], 3)}
        for name in variants
    ]


def plot_scaling(rows: list[Row], device: torch.device = CPU) -> None:
    """Plot the images per second with their range, a panel per key."""
    from matplotlib.figure import Figure

    limits = [float(row[name]) for row in rows for name in ("lowest", "highest")]
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    ticks = [digit * 10**power for power in range(1, 7) for digit in (1, 2, 5)]
    for axes, key in zip(figure.subplots(1, 3, sharey=True), GRID, strict=True):
        panel_rows = [row for row in rows if row["key"] == key]
        x = [row["value"] for row in panel_rows]
        y, low, high = ([float(row[name]) for row in panel_rows] for name in ("images_per_second", "lowest", "highest"))
        axes.fill_between(x, low, high, alpha=0.25)
        axes.plot(x, y, marker="o")
        axes.set(xlabel=key, xscale="log", yscale="log", xticks=x, xticklabels=x)
        axes.set_yticks(ticks, [str(tick) for tick in ticks])
        axes.set_ylim(min(limits) / 1.3, max(limits) * 1.3)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("images per second")
    figure.suptitle(f"The training step, one key changed at a time ({machine_info(device)['hardware']})", fontsize=10)
    figure.savefig(device_path(HERE / "scaling.png", device), dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--warm-up", type=int, default=WARM_UP_STEPS, metavar="STEPS")
    parser.add_argument("--scaling", action="store_true")
    parser.add_argument("--original", type=Path, metavar="SCRIPT", help="dcgan/main.py of github.com/pytorch/examples")
    parser.add_argument("--results", default="results.csv", metavar="NAME", help="of the file of results")
    add_device_argument(parser)
    parser.add_argument("overrides", nargs="*", default=[])
    args = parser.parse_args()
    start_benchmark(device=args.device)
    settings = {"turns": args.turns, "rounds": args.rounds, "overrides": " ".join(args.overrides)}

    def save(rows: list[Row], name: str) -> None:
        write_results(HERE / name, [row | settings for row in rows], args.device)

    if args.scaling:
        rows = measure_scaling(args.rounds, 1.5, args.overrides, args.device)
        plot_scaling(rows, args.device)
        save(rows, "scaling.csv")  # in case that the next measurement fails
        if args.device == CPU:
            rows += measure_ddp(3, args.turns)
            save(rows, "scaling.csv")
    else:
        try:
            variants = alternatives(args.device, args.overrides, args.original)
        except ValueError as error:
            parser.error(str(error))
        rows = measure_alternatives(variants, args.rounds, args.turns, args.overrides, args.warm_up)
        save(rows, args.results)
    print_results(rows, args.device)


if __name__ == "__main__":
    main()
