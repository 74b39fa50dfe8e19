"""Train recipes on stacked MNIST for the full protocol of VEEGAN and PacGAN, after a short search, on one GPU.

`python -m experiments.modes.protocol --out FOLDER --seconds 380` trains each recipe for a few steps. Then it trains
the one with the lowest KL divergence, and `fast`, for 100,000 steps, or as many as the time allows. Each measurement
is a row of FOLDER/protocol.csv, written when its training ends.
"""

import argparse
import json
import math
import time
from pathlib import Path

from dcgan import train
from experiments.gpu.context import run_in_process
from experiments.tables import Row, read_rows, write_rows

STEPS, BATCH_SIZE = 100_000, 64
FAST = ["experiment=fast", "model.latent_dim=100"]
CONV = [*FAST, "loss=relativistic", "penalty=r1_r2", "discriminator_normalization=none", "initialization=he"]
RESIDUAL = ["experiment=r3gan", "model.base_channels=32"]
RECIPES = {
    "fast": FAST,
    "conv, weight 0.01": [*CONV, "penalty.weight=0.01"],
    "conv, weight 0.1": [*CONV, "penalty.weight=0.1"],
    "conv, weight 1": [*CONV, "penalty.weight=1"],
    "conv, weight 0.1, half the rates": [*CONV, "penalty.weight=0.1", "optimizer.lr=5e-4"],
    "conv, weight 0.1, equal rates": [*CONV, "penalty.weight=0.1", "optimizer.generator.lr=1e-3"],
    "conv, weight 0.1, no normalization": [*CONV, "penalty.weight=0.1", "normalization=none", "optimizer.lr=5e-4"],
    "residual, weight 0.05": [*RESIDUAL, "penalty.weight=0.05"],
    "residual, weight 0.5": [*RESIDUAL, "penalty.weight=0.5"],
    "residual, weight 0.05, half the rate": [*RESIDUAL, "penalty.weight=0.05", "optimizer.lr=5e-4"],
}


def run_recipe(name: str, steps: int, interval: int, run: Path, device: str, extra: list[str]) -> list[Row]:
    """Train a recipe and return a row per measurement; one row with the error if the training fails."""
    outcome = run_in_process(
        train, *RECIPES[name], "data=stacked_mnist", "evaluator=modes", f"trainer={device}", f"max_steps={steps}",
        f"metrics.every_n_steps={interval}", "samples.steps=[0]", f"hydra.run.dir={run}", *extra,
    )  # fmt: skip
    if outcome.code != 0:
        return [{"recipe": name, "steps": steps, "error": outcome.last_line}]
    summary = json.loads((run / "summary.json").read_text())
    rows = read_rows(run / "metrics.csv")
    shared = {
        "recipe": name,
        "seed": summary["config"]["seed"],
        "steps": steps,
        "seconds": round(summary["wall_seconds"], 1),
        "images_per_second": [value for row in rows if (value := row.get("train/images_per_second"))][-1],
        "commit": summary.get("commit", ""),
    }
    names = {"modes": "test/modes", "class_kl": "test/class_kl", "frechet": "test/frechet"}
    return [
        {**shared, "step": row["step"], **{column: row[key] for column, key in names.items()}, "error": ""}
        for row in rows
        if row.get("test/modes")
    ]


def main() -> None:
    started = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=380.0, help="after which nothing runs (default: 380)")
    parser.add_argument("--search-steps", type=int, default=2000)
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    args, extra = parser.parse_known_args()
    table, rows = args.out / "protocol.csv", []

    def train_recipe(name: str, steps: int, interval: int, kind: str) -> list[Row]:
        run = args.out / "runs" / f"{kind} {name}".replace(" ", "_").replace(",", "")
        new = [{"kind": kind, **row} for row in run_recipe(name, steps, interval, run, args.device, extra)]
        rows.extend(new)
        write_rows(table, rows)
        print(new[-1], flush=True)
        return new

    found: dict[str, tuple[float, float]] = {}  # KL divergence and images per second
    for name in RECIPES:
        last = train_recipe(name, args.search_steps, args.search_steps, "search")[-1]
        if not last["error"] and math.isfinite(float(last["class_kl"])):
            found[name] = (float(last["class_kl"]), float(last["images_per_second"]))
    best = min(found.keys() - {"fast"}, key=lambda name: found[name])
    for name in (best, "fast"):
        left = args.seconds - (time.monotonic() - started)
        steps = min(STEPS, int(0.9 * left * found[name][1] / BATCH_SIZE) // 1000 * 1000)
        if steps > args.search_steps:
            train_recipe(name, steps, 10_000, "protocol")


if __name__ == "__main__":
    main()
