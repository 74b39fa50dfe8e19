"""The search for `experiment=fast`: `python -m experiments.time_to_quality.search --share 0/2 --threads 1`.

Successive halving (Jamieson and Talwalkar 2016): many recipes, drawn at random, train for a short time; the better
third by the Frechet distance trains on, and so forth. What counts is seconds of training, not steps: a cheaper step is
worth as much as a better one. Two shares at a time, with a thread each, use two cores better than one with two.
"""

import argparse
import math
import random
from pathlib import Path

from experiments.bench import Clocked, Referee, bare, begin, endless, write
from experiments.composing import configured

HERE = Path(__file__).parent
RUNGS = (25, 60, 130, 260)  # seconds of training, in all, on one thread
KEEP = 3  # of so many, one goes on
IMAGES = 5000

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
# what the best of the first search had in common: batch norm in D, which learns more slowly than G
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

SOON = "model.hidden_width=512 optimizer.generator.lr=0.003 optimizer.discriminator.lr=0.001 model.latent_dim=32"
LATE = "optimizer.generator.lr=0.002 optimizer.discriminator.lr=0.0005 optimizer.betas=[0.5,0.99] model.latent_dim=100"
THIN = "model.hidden_width=128 discriminator.hidden_width=256"
SMOOTH = "loss.label_smoothing=0.1"
COMMON = ["data.batch_size=64", "ema.decay=0.998"]
GOOD_LATE = f"model=pixel_shuffle model.base_channels=24 {THIN} {LATE} {SMOOTH}"
# the best of both searches, the one good early and the other late, and what lies between them; none is sorted out
FINALISTS = [
    [*COMMON, *recipe.split()]
    for recipe in (
        f"model=upsample_conv model.base_channels=16 {SOON}",
        GOOD_LATE,
        f"model=upsample_conv model.base_channels=24 {SOON}",
        f"model=upsample_conv model.base_channels=24 model.hidden_width=256 {LATE} {SMOOTH}",
        f"model=upsample_conv model.base_channels=24 {SOON} optimizer.betas=[0.5,0.99] {SMOOTH}",
        f"model=pixel_shuffle model.base_channels=16 {SOON} {SMOOTH}",
    )
]

# experiment=demo before this search, close to the prototype
BASELINE = [
    "model=upsample_conv",
    "model.base_channels=32",
    "hidden_width=512",
    "data.batch_size=64",
    "optimizer.lr=5e-4",
    "ema.decay=0.995",
]


class Candidate(Clocked):
    """A recipe and its training so far."""

    def __init__(self, overrides: list[str], seed: int) -> None:
        config = configured(*overrides, f"seed={seed}")
        self.gan, batches = bare(config), endless(config)
        super().__init__(lambda: self.gan.training_step(next(batches), 0))


def draw(space: dict[str, list[list[str]]], rng: random.Random) -> list[str]:
    return [override for choices in space.values() for override in rng.choice(choices)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", default="0/1", help="which of how many shares of the candidates")
    parser.add_argument("--candidates", type=int, default=48, help="in all shares together")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rng", type=int, default=0)
    parser.add_argument("--space", choices=[*SPACES, "finals"], default="wide")
    arguments = parser.parse_args()
    begin(arguments.threads)
    share, shares = map(int, arguments.share.split("/"))
    rng = random.Random(arguments.rng)
    finals = arguments.space == "finals"
    drawn = (draw(SPACES[arguments.space], rng) for _ in range(arguments.candidates - 1))
    recipes = (FINALISTS if finals else [BASELINE, *drawn])[share::shares]
    referee, rows = Referee(IMAGES), []

    candidates: dict[int, Candidate] = {}
    order = list(range(len(recipes)))
    for rung, until in enumerate(RUNGS):
        ranked = []
        for i in order:
            candidate = candidates.get(i) or Candidate(recipes[i], arguments.rng)
            candidate.train(until)
            figure = referee(candidate.gan.sample, candidate.gan.generator, arguments.rng)
            ranked.append((figure if math.isfinite(figure) else math.inf, i))
            candidates[i] = candidate
            step = candidate.gan.step
            rows.append(
                {
                    "share": arguments.share,
                    "candidate": i,
                    "rung": rung,
                    "seconds": f"{candidate.seconds:.1f}",
                    "step": step,
                }
                | {"frechet": f"{figure:.2f}", "overrides": " ".join(recipes[i])}
            )
            write(HERE / f"search_{arguments.space}_{share}.csv", rows)
            print(f"rung {rung} {figure:8.2f} step {step:6d} {' '.join(recipes[i])}", flush=True)
        ranked.sort()
        order = [i for _, i in ranked[: len(ranked) if finals else max(1, len(ranked) // KEEP)]]
        candidates = {i: candidates[i] for i in order}


if __name__ == "__main__":
    main()
