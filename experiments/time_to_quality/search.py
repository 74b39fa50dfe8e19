"""The search for `experiment=fast`: `python -m experiments.time_to_quality.search --share 0/2 --threads 1`.

Successive halving (Jamieson and Talwalkar 2016): many random recipes train for a short time, the best third of them by
the Frechet distance trains on, and so on. The budget is seconds of training, not steps, so that a cheaper step is worth
as much as a better one. Two shares with one thread each use two cores better than one share with two threads.
"""

import argparse
import math
import random
from collections.abc import Iterator
from pathlib import Path

from experiments.bench import (
    FrechetEvaluator,
    TimedTraining,
    build_standalone_gan,
    infinite_batches,
    start_benchmark,
    write_results,
)
from experiments.configs import compose_config
from experiments.tables import Row

HERE = Path(__file__).parent
RUNG_SECONDS = (25, 60, 130, 260)  # total seconds of training at each rung, on one thread
REDUCTION = 3  # after each rung, one of 3 candidates continues
N_IMAGES = 5000

WIDE: dict[str, list[list[str]]] = {
    "upsampling": [["model=upsample_conv"], ["model=transposed_conv"], ["model=pixel_shuffle"]],
    "base": [["model.base_channels=16"], ["model.base_channels=24"], ["model.base_channels=32"]],
    "hidden_g": [[f"model.hidden_width={n}"] for n in (128, 256, 512)],
    "hidden_d": [[f"discriminator.hidden_width={n}"] for n in (0, 128, 256, 512)],
    "batch": [["data.batch_size=32"], ["data.batch_size=64"], ["data.batch_size=128"]],
    "lr_g": [[f"optimizer.generator.lr={x}"] for x in (3e-4, 5e-4, 1e-3, 2e-3)],
    "lr_d": [[f"optimizer.discriminator.lr={x}"] for x in (3e-4, 5e-4, 1e-3, 2e-3)],
    "beta1": [["optimizer.betas=[0.5,0.999]"], ["optimizer.betas=[0.0,0.99]"], ["optimizer.betas=[0.5,0.99]"]],
    "ema": [["ema.decay=0.99"], ["ema.decay=0.995"], ["ema.decay=0.998"]],
    "loss": [
        ["loss=non_saturating"],
        ["loss=non_saturating", "loss.label_smoothing=0.1"],
        ["loss=hinge"],
        ["loss=least_squares"],
    ],
    "regularisation": [
        ["discriminator_normalization=batch"],
        ["discriminator_normalization=batch"],
        ["discriminator_normalization=none", "discriminator.spectral_norm=true"],
        ["discriminator_normalization=none", "penalty=r1"],
        ["discriminator_normalization=batch", "discriminator.dropout=0.2"],
    ],
    "latent": [["model.latent_dim=100"], ["model.latent_dim=32"]],
}
# around the best of the wide search, which have batch norm in D and a lower learning rate of D than of G
NARROW: dict[str, list[list[str]]] = {
    "upsampling": [["model=upsample_conv"], ["model=pixel_shuffle"]],
    "base": [["model.base_channels=16"], ["model.base_channels=24"], ["model.base_channels=32"]],
    "hidden_g": [[f"model.hidden_width={n}"] for n in (128, 256, 512)],
    "hidden_d": [[f"discriminator.hidden_width={n}"] for n in (256, 512)],
    "batch": [["data.batch_size=32"], ["data.batch_size=64"]],
    "lr_g": [[f"optimizer.generator.lr={x}"] for x in (2e-3, 3e-3, 4e-3)],
    "lr_d": [[f"optimizer.discriminator.lr={x}"] for x in (3e-4, 5e-4, 1e-3)],
    "beta2": [["optimizer.betas=[0.5,0.999]"], ["optimizer.betas=[0.5,0.99]"]],
    "ema": [["ema.decay=0.99"], ["ema.decay=0.998"]],
    "loss": [
        ["loss=non_saturating"],
        ["loss=non_saturating", "loss.label_smoothing=0.1"],
        ["loss=least_squares"],
    ],
    "latent": [["model.latent_dim=100"], ["model.latent_dim=32"]],
}
SPACES = {"wide": WIDE, "narrow": NARROW}

EARLY = "model.hidden_width=512 optimizer.generator.lr=0.003 optimizer.discriminator.lr=0.001 model.latent_dim=32"
LATE = "optimizer.generator.lr=0.002 optimizer.discriminator.lr=0.0005 optimizer.betas=[0.5,0.99] model.latent_dim=100"
NARROW_LAYERS = "model.hidden_width=128 discriminator.hidden_width=256"
SMOOTHING = "loss.label_smoothing=0.1"
SHARED = ["data.batch_size=64", "ema.decay=0.998"]
BEST_EARLY = f"model=upsample_conv model.base_channels=16 {EARLY}"
BEST_LATE = f"model=pixel_shuffle model.base_channels=24 {NARROW_LAYERS} {LATE} {SMOOTHING}"
# the best recipes of both searches, and recipes between them; all of them train to the end
FINALISTS = [
    [*SHARED, *recipe.split()]
    for recipe in (
        BEST_EARLY,
        BEST_LATE,
        f"model=upsample_conv model.base_channels=24 {EARLY}",
        f"model=upsample_conv model.base_channels=24 model.hidden_width=256 {LATE} {SMOOTHING}",
        f"model=upsample_conv model.base_channels=24 {EARLY} optimizer.betas=[0.5,0.99] {SMOOTHING}",
        f"model=pixel_shuffle model.base_channels=16 {EARLY} {SMOOTHING}",
    )
]

# experiment=demo before this search; similar to the prototype
BASELINE = [
    "model=upsample_conv",
    "model.base_channels=32",
    "hidden_width=512",
    "data.batch_size=64",
    "optimizer.lr=5e-4",
    "ema.decay=0.995",
]


class Candidate(TimedTraining):
    """A recipe and its training."""

    def __init__(self, overrides: list[str], seed: int) -> None:
        config = compose_config(*overrides, f"seed={seed}")
        self.gan, batches = build_standalone_gan(config), infinite_batches(config)
        super().__init__(lambda: self.gan.training_step(next(batches), 0))


def sample_recipe(space: dict[str, list[list[str]]], rng: random.Random) -> list[str]:
    return [override for choices in space.values() for override in rng.choice(choices)]


def successive_halving(recipes: list[list[str]], seed: int, reduce: bool) -> Iterator[Row]:
    """Train the recipes from rung to rung and yield a row per evaluation.

    Args:
        recipes: The overrides of each candidate.
        seed: Seed of the trainings and of the evaluated samples.
        reduce: Continue only with the best candidates of a rung.
    """
    evaluator = FrechetEvaluator(N_IMAGES)
    candidates: dict[int, Candidate] = {}
    order = list(range(len(recipes)))
    for rung, seconds in enumerate(RUNG_SECONDS):
        ranked = []
        for i in order:
            candidate = candidates.get(i) or Candidate(recipes[i], seed)
            candidate.train(seconds)
            distance = evaluator(candidate.gan.sample, candidate.gan.generator, seed)
            ranked.append((distance if math.isfinite(distance) else math.inf, i))
            candidates[i] = candidate
            overrides, step = " ".join(recipes[i]), candidate.gan.step
            print(f"rung {rung} {distance:8.2f} step {step:6d} {overrides}", flush=True)
            row = {"candidate": i, "rung": rung, "seconds": f"{candidate.seconds:.1f}"}
            yield row | {"step": step, "frechet": f"{distance:.2f}", "overrides": overrides}
        ranked.sort()
        order = [i for _, i in ranked[: max(1, len(ranked) // REDUCTION) if reduce else None]]
        candidates = {i: candidates[i] for i in order}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--share", default="0/1", help="which share of the candidates, of how many: 0/2 is the first half"
    )
    parser.add_argument("--candidates", type=int, default=48, help="number in all shares together")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rng", type=int, default=0, help="seed of the recipes and of their trainings")
    parser.add_argument("--space", choices=[*SPACES, "finals"], default="wide")
    args = parser.parse_args()
    start_benchmark(args.threads)
    share, shares = map(int, args.share.split("/"))
    finals = args.space == "finals"
    if finals:
        recipes = FINALISTS
    else:
        rng = random.Random(args.rng)
        recipes = [BASELINE, *(sample_recipe(SPACES[args.space], rng) for _ in range(args.candidates - 1))]
    rows: list[Row] = []
    for row in successive_halving(recipes[share::shares], args.rng, reduce=not finals):
        rows.append({"share": args.share} | row)
        write_results(HERE / f"search_{args.space}_{share}.csv", rows)


if __name__ == "__main__":
    main()
