"""Distance against seconds: what a step takes is measured apart, the arms in turns (speed.csv), for the study's jobs
run beside each other."""

from pathlib import Path

from experiments.bench import begin, speeds, write
from experiments.study import config_of, draw, examples
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


def main() -> None:
    curves = read(HERE / "curves.csv")
    if runs := examples(HERE.name, "discriminator"):
        begin()
        configs = {arm: config_of(run) for arm, run in runs.items()}
        write(HERE / "speed.csv", speeds(configs))
        batch_size = next(iter(configs.values())).data.batch_size
        draw(timed(curves, batch_size), HERE / "seconds.png", "at equal seconds", x="seconds")


if __name__ == "__main__":
    main()
