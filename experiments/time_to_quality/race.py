"""Frechet distance against seconds of training: `python -m experiments.time_to_quality.race fast:600 prototype`.

Arms take turns of a few seconds, so that what else the machine does hits all of them; what counts is the time in
training steps alone. Rows are added to curves.csv; `python -m experiments.time_to_quality.plot` draws them.
"""

import argparse
from pathlib import Path
from typing import Any

import torch

from dcgan.common.image_grid import image_grid, save_png
from experiments.bench import Clocked, Referee, bare, begin, endless, write
from experiments.composing import configured
from experiments.tables import read
from experiments.time_to_quality.prototype import BATCH, Prototype
from experiments.time_to_quality.search import COMMON, GOOD_LATE
from experiments.time_to_quality.variants import VARIANTS

HERE = Path(__file__).parent
MARKS = (15, 30, 60, 90, 120, 180, 240, 360, 480, 600, 900, 1200, 1500, 1800)  # seconds of training
PICTURED = 240  # seconds
TURN = 15  # seconds
RECIPES = {
    "fast": ["experiment=fast"],
    "defaults": [],
    "late": [*COMMON, *GOOD_LATE.split(), "ema.decay=0.9999"],  # the best of the search at 260 s, averaged as fast is
    "example": ["data.image_size=64", "data.batch_size=64", "hidden_width=0"],  # the PyTorch DCGAN example's networks
}


class Contender(Clocked):
    """An arm with one seed, and its training so far; `latent` draws its noise.

    until: how many seconds of training it is in the race.
    """

    def __init__(self, arm: str, seed: int, until: int) -> None:
        self.arm, self.until = arm, until
        self.model: Any
        self.latent: Any
        if arm == "prototype":
            batches = endless(configured(f"data.batch_size={BATCH}", f"seed={seed}"))
            self.model = self.latent = Prototype(seed)
            super().__init__(lambda: self.model.training_step(next(batches)[0]))
            return
        if arm in VARIANTS:
            self.model, batches = VARIANTS[arm](seed)
        else:
            config = configured(*RECIPES[arm], f"seed={seed}")
            self.model, batches = bare(config), endless(config)
        self.latent = self.model.generator
        super().__init__(lambda: self.model.training_step(next(batches), 0))


def distance(text: str) -> tuple[str, int]:
    """ARM or ARM:SECONDS as an arm and how long it trains."""
    arm, _, seconds = text.partition(":")
    if arm not in (known := [*RECIPES, *VARIANTS, "prototype"]):
        raise argparse.ArgumentTypeError(f"{arm} is none of {', '.join(known)}")
    if not (seconds or "240").isdecimal() or (until := int(seconds or 240)) < MARKS[0]:
        raise argparse.ArgumentTypeError(f"{arm} must train for {MARKS[0]} or more whole seconds, got {seconds}")
    return arm, until


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arms", nargs="+", type=distance, metavar="ARM[:SECONDS]", help="seconds of training: 240")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    arguments = parser.parse_args()
    begin()
    referee, curves = Referee(10_000), HERE / "curves.csv"
    rows: list[dict[str, Any]] = read(curves) if curves.exists() else []
    again = [(arm, str(seed)) for arm, _ in arguments.arms for seed in arguments.seeds]
    rows = [row for row in rows if (row["arm"], row["seed"]) not in again]
    for seed in arguments.seeds:
        contenders = [Contender(arm, seed, until) for arm, until in arguments.arms]
        reached = 0.0
        for mark in MARKS:
            contenders = [contender for contender in contenders if contender.until >= mark]
            while reached < mark:
                reached = min(mark, reached + TURN)
                for contender in contenders:
                    contender.train(reached)
            for contender in contenders:
                figure = referee(contender.model.sample, contender.latent, seed)
                rows.append(
                    {"arm": contender.arm, "seed": seed, "seconds": f"{contender.seconds:.1f}"}
                    | {"step": contender.model.step, "frechet": f"{figure:.3f}"}
                )
                print(*rows[-1].values(), flush=True)
                if mark == PICTURED and seed == arguments.seeds[0]:
                    z = contender.latent.sample_z(64, torch.device("cpu"), torch.Generator().manual_seed(0))
                    save_png(HERE / f"{contender.arm}_{seed}_{mark}s.png", image_grid(contender.model.sample(z)))
            write(curves, rows)


if __name__ == "__main__":
    main()
