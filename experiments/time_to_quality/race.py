"""Frechet distance against seconds of training: `python -m experiments.time_to_quality.race fast:600 prototype`.

The variants are the experiments of conf/experiment and those named below. They take turns of a few seconds, so that
other load on the machine affects all of them. Only the time in training steps counts. Rows are added to curves.csv,
which `python -m experiments.time_to_quality.plot` plots.

With `--device cuda` they train on a GPU, with a CUDA graph; the prototype runs on the CPU only.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from dcgan.common.command import CONF
from dcgan.common.image_grid import image_grid, save_png
from dcgan.training.run import choose_precision
from experiments.bench import (
    CPU,
    FrechetEvaluator,
    TimedTraining,
    add_device_argument,
    build_step,
    device_path,
    infinite_batches,
    start_benchmark,
    write_results,
)
from experiments.configs import compose_config
from experiments.tables import Row, read_rows
from experiments.time_to_quality.prototype import BATCH, Prototype

HERE = Path(__file__).parent
# seconds of training
EVALUATION_SECONDS = (
    *(10, 15, 20, 25, 30, 40, 50, 60, 75, 90, 105, 120, 150, 180, 210, 240),
    *(300, 360, 420, 480, 540, 600, 900, 1200, 1500, 1800),
)
GPU_EVALUATION_SECONDS = (1, 2, 3, 5, *EVALUATION_SECONDS)
PICTURE_SECONDS = 120
DEFAULT_SECONDS = 120
TURN_SECONDS = 15
PROTOTYPE = "prototype"
RECIPES: dict[str, list[str]] = {
    **{path.stem: [f"experiment={path.stem}"] for path in sorted((CONF / "experiment").glob("*.yaml"))},
    "fast in float32": ["experiment=fast", "trainer.precision=32-true"],
    "defaults": [],
    "example": ["data.image_size=64", "data.batch_size=64", "hidden_width=0"],  # the PyTorch DCGAN example's networks
}


class Contender(TimedTraining):
    """A variant with one seed, its model, and `z_source`, which has a `sample_z`.

    Args:
        variant: One of the recipes, or the prototype.
        seed: Seed of the training.
        until: Seconds of training after which it leaves the race.
        device: Where it trains.
    """

    def __init__(self, variant: str, seed: int, until: int, device: torch.device = CPU) -> None:
        self.variant, self.until = variant, until
        self.model: Any
        self.z_source: Any
        if variant == PROTOTYPE:
            batches = infinite_batches(compose_config(f"data.batch_size={BATCH}", f"seed={seed}"))
            self.model, self.precision = Prototype(seed), "32-true"
            self.z_source = self.model
            super().__init__(lambda: self.model.training_step(next(batches)[0]))
        else:
            config = compose_config("trainer.precision=auto", *RECIPES[variant], f"seed={seed}")
            self.model, step = build_step(config, device)
            self.precision = choose_precision(config.trainer)
            batches, self.z_source = infinite_batches(config, device), self.model.generator
            super().__init__(lambda: step(next(batches), 0), device)


def parse_entry(text: str) -> tuple[str, int]:
    """Return the variant and the seconds of VARIANT or VARIANT:SECONDS. ArgumentTypeError if one is invalid."""
    variant, _, seconds = text.partition(":")
    if variant not in (known := [*RECIPES, PROTOTYPE]):
        raise argparse.ArgumentTypeError(f"the variant must be one of {', '.join(known)}, got {variant}")
    seconds = seconds or str(DEFAULT_SECONDS)
    if not seconds.isdecimal() or int(seconds) < EVALUATION_SECONDS[0]:
        raise argparse.ArgumentTypeError(
            f"the seconds of {variant} must be an integer >= {EVALUATION_SECONDS[0]}, got {seconds}"
        )
    return variant, int(seconds)


def race(
    entries: list[tuple[str, int]], seed: int, evaluator: FrechetEvaluator, picture: bool, device: torch.device = CPU
) -> Iterator[Row]:
    """Train the variants in turns and yield a row per evaluation; picture: save samples after PICTURE_SECONDS."""
    contenders = [Contender(variant, seed, until, device) for variant, until in entries]
    trained = 0.0
    for seconds in EVALUATION_SECONDS if device.type == "cpu" else GPU_EVALUATION_SECONDS:
        contenders = [contender for contender in contenders if contender.until >= seconds]
        while trained < seconds:
            trained = min(seconds, trained + TURN_SECONDS)
            for contender in contenders:
                contender.train(trained)
        for contender in contenders:
            distance = evaluator(contender.model.sample, contender.z_source, seed)
            row = {"variant": contender.variant, "seed": seed, "seconds": f"{contender.seconds:.1f}"}
            row |= {"step": contender.model.step, "frechet": f"{distance:.3f}", "precision": contender.precision}
            print(*row.values(), flush=True)
            if picture and seconds == PICTURE_SECONDS:
                z = contender.z_source.sample_z(64, CPU, torch.Generator().manual_seed(0)).to(device)
                path = device_path(HERE / f"{contender.variant}_{seed}_{seconds}s.png", device)
                save_png(path, image_grid(contender.model.sample(z).cpu()))
            yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    help_text = f"seconds of training: {DEFAULT_SECONDS} by default"
    parser.add_argument("entries", nargs="+", type=parse_entry, metavar="VARIANT[:SECONDS]", help=help_text)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    add_device_argument(parser)
    args = parser.parse_args()
    if args.device != CPU and (others := {variant for variant, _ in args.entries} - RECIPES.keys()):
        parser.error(f"on a GPU the variant must be one of {', '.join(RECIPES)}, got {', '.join(sorted(others))}")
    start_benchmark(device=args.device)
    evaluator, path = FrechetEvaluator(10_000, args.device), HERE / "curves.csv"
    repeated = [(variant, str(seed)) for variant, _ in args.entries for seed in args.seeds]
    earlier = read_rows(device_path(path, args.device), missing_ok=True)
    rows = [row for row in earlier if (row["variant"], row["seed"]) not in repeated]
    for seed in args.seeds:
        for row in race(args.entries, seed, evaluator, seed == args.seeds[0], args.device):
            rows.append(row)
            write_results(path, rows, args.device)


if __name__ == "__main__":
    main()
