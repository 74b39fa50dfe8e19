"""Distance against seconds: what a step takes is measured apart, the arms in turns (speed.csv), for the study's jobs
run beside each other. seconds.csv compares the arms at the time when the fastest one ends."""

import math
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np

from experiments import tables
from experiments.bench import begin, speeds, write
from experiments.contrasts import contrasts
from experiments.study import config_of, configs, draw, examples
from experiments.tables import Row, read

HERE = Path(__file__).parent


def timed(curves: list[Row], batch_size: int) -> list[Row]:
    """The measurements of the arms whose speed is known, with the seconds that their steps take."""
    rates = {row["arm"]: float(row["images_per_second"]) for row in read(HERE / "speed.csv")}
    return [
        row | {"seconds": f"{int(row['step']) * batch_size / rates[row['arm']]:.1f}"}
        for row in curves
        if row["arm"] in rates
    ]


def by_then(curves: list[Row], seconds: float) -> list[Row]:
    """The distance that each run has at that time, between its measurements in proportion: as a study's runs."""
    found: list[Row] = []
    for (sweep, arm, seed), run in groupby(curves, itemgetter("sweep", "arm", "seed")):
        own = list(run)
        times, distances = ([float(row[name]) for row in own] for name in ("seconds", "test/frechet"))
        distance = math.exp(np.interp(seconds, times, np.log(distances)))
        found.append({"sweep": sweep, "arm": arm, "seed": seed, "outcome": own[0]["outcome"], "frechet": distance})
    return found


def main() -> None:
    if runs := examples(HERE.name, "discriminator"):
        begin()
        write(HERE / "speed.csv", speeds({arm: config_of(run) for arm, run in runs.items()}))
    sweeps = configs(HERE.name)
    curves = [row for row in read(HERE / "curves.csv") if row["test/frechet"]]
    own = timed(curves, sweeps["discriminator"].data.batch_size)
    for sweep, rows in groupby(own, itemgetter("sweep")):
        draw(list(rows), HERE / f"{sweep}_seconds.png", f"{sweep}: at equal seconds", x="seconds")
    ends = {row["arm"]: float(row["seconds"]) for row in own}
    compared = contrasts(by_then(own, min(ends.values())), {name: config.sweep for name, config in sweeps.items()})
    tables.write(HERE / "seconds.csv", [row for row in compared if row["figure"] == "frechet"])


if __name__ == "__main__":
    main()
