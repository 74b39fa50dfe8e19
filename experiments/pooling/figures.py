"""Compare the variants at equal seconds: the speed of each (speed.csv), plots, and comparisons (seconds.csv).

The speed is measured apart, with the variants in turns, because the study runs two jobs at a time.
"""

import math
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np

from experiments.bench import measure_speeds, start_benchmark, write_results
from experiments.contrasts import compare_with_baselines
from experiments.runs import config_of, seed_0_runs
from experiments.study import plot_sweep, sweep_configs
from experiments.tables import Row, read_rows, write_rows

HERE = Path(__file__).parent


def add_seconds(curves: list[Row], batch_size: int) -> list[Row]:
    """Return the rows of the variants in speed.csv, with the seconds that the training steps take."""
    speeds = {row["variant"]: float(row["images_per_second"]) for row in read_rows(HERE / "speed.csv")}
    return [
        row | {"seconds": f"{int(row['step']) * batch_size / speeds[row['variant']]:.1f}"}
        for row in curves
        if row["variant"] in speeds
    ]


def distances_at(curves: list[Row], seconds: float) -> list[Row]:
    """Return a row per run with its distance after `seconds`, interpolated log-linearly between measurements."""
    results: list[Row] = []
    for (sweep, variant, seed), run in groupby(curves, itemgetter("sweep", "variant", "seed")):
        rows = list(run)
        times, distances = ([float(row[name]) for row in rows] for name in ("seconds", "test/frechet"))
        distance = math.exp(np.interp(seconds, times, np.log(distances)))
        columns = {"sweep": sweep, "variant": variant, "seed": seed, "outcome": rows[0]["outcome"]}
        results.append(columns | {"frechet": distance})
    return results


def main() -> None:
    if runs := seed_0_runs(HERE.name, "discriminator"):
        start_benchmark()
        speeds = measure_speeds({variant: config_of(run) for variant, run in runs.items()})
        write_results(HERE / "speed.csv", speeds)
    configs = sweep_configs(HERE.name)
    curves = [row for row in read_rows(HERE / "curves.csv") if row["test/frechet"]]
    curves = add_seconds(curves, configs["discriminator"].data.batch_size)
    for sweep, rows in groupby(curves, itemgetter("sweep")):
        plot_sweep(list(rows), HERE / f"{sweep}_seconds.png", f"{sweep}: at equal seconds", x="seconds")
    last = {row["variant"]: float(row["seconds"]) for row in curves}
    distances = distances_at(curves, min(last.values()))  # when the fastest variant ends
    comparisons = compare_with_baselines(distances, {name: config.sweep for name, config in configs.items()})
    write_rows(HERE / "seconds.csv", [row for row in comparisons if row["metric"] == "frechet"])


if __name__ == "__main__":
    main()
