"""Run a study, or what is missing of it, and write down what it found: `make study NAME=upsampling`.

A study is a folder beside this file; each of its YAML files is a sweep of `python -m dcgan.train`, with its runs below
runs/sweeps/NAME, where finished ones are left alone. Then runs.csv has a row for each run and how it ended, curves.csv
one for each measurement, table.md the means with their intervals, SWEEP/compare.* tests and plots them,
SWEEP/training.png shows them over the steps, and figures.py, where the study has one, more. Remove a study's runs
before it is run with other settings or arms.
"""

import argparse
import importlib
import json
import subprocess
import sys
from collections.abc import Iterable
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from dcgan.compare import number
from dcgan.comparison import Spread
from dcgan.files import write_text
from dcgan.run_folder import FAILURE
from experiments.plots import over_training
from experiments.tables import Row, read, write

HERE = Path(__file__).parent
RUNS = Path("runs/sweeps")
ASIDE = ("seed", "skip_finished", "sweep.keys", "sweep.hash")
# in the table, where measured
TOLD = ("frechet", "kid", "coverage", "modes", "class_kl", "label_agreement", "cb2", "pv2", "pv4")
# over the steps, where measured
DRAWN = {"val/frechet": "Frechet distance", "val/coverage": "coverage", "val/modes": "modes"}


def run(name: str) -> bool:
    """All sweeps of the study; whether every job of theirs has ended well."""
    command = [sys.executable, "-m", "dcgan.train", "-m", "--config-dir", str(HERE), "skip_finished=true"]
    sweeps = sorted((HERE / name).glob("*.yaml"))
    codes = [subprocess.call([*command, "--config-name", f"{name}/{sweep.stem}"]) for sweep in sweeps]
    return not any(codes)


def found_in(folder: Path) -> tuple[list[Row], list[Row]]:
    """A row for each run below the folder, and one for each measurement of theirs."""
    runs, curves = [], []
    for place in (path.parent.parent for path in folder.glob("*/*/.hydra/overrides.yaml")):
        overrides = OmegaConf.load(place / ".hydra" / "overrides.yaml")
        arm = " ".join(o for o in map(str, overrides) if o.partition("=")[0] not in ASIDE)
        seed = OmegaConf.load(place / ".hydra" / "config.yaml").seed
        who = {"sweep": place.parent.name, "arm": arm, "seed": seed}
        runs.append(who | outcome(place))
        for row in read(place / "metrics.csv") if (place / "metrics.csv").exists() else ():
            if any(name.startswith("val/") and value for name, value in row.items()):
                curves.append(who | {name: short(value) for name, value in row.items() if value})
    order = itemgetter("sweep", "arm", "seed")  # stable: a run's measurements stay in their order
    return sorted(runs, key=order), sorted(curves, key=order)


def outcome(place: Path) -> Row:
    """How a run ended: its final figures and what made them, or why there are none."""
    if (place / FAILURE).exists():
        return {"outcome": (place / FAILURE).read_text().strip()}
    if not (place / "summary.json").exists():
        return {"outcome": "not finished"}
    summary = json.loads((place / "summary.json").read_text())
    facts = {
        name: summary[name] for name in ("step", "images_per_second", "wall_seconds", "device", "threads", "commit")
    }
    parameters = {f"parameters_{network}": n for network, n in summary["parameters"].items()}
    return (
        {"outcome": "finished"} | {**summary["metrics"], **facts} | parameters | {"torch": summary["versions"]["torch"]}
    )


def examples(name: str, sweep: str) -> dict[str, Path]:
    """The finished run of seed 0 of each arm of a study's sweep, where the runs are still there."""
    finished = sorted(path.parent for path in (RUNS / name / sweep).glob("seed=0,*/summary.json"))
    return {run.name.removeprefix("seed=0,").replace(",", " "): run for run in finished}


def config_of(run: Path) -> DictConfig:
    """What a finished run was trained with."""
    return OmegaConf.create(json.loads((run / "summary.json").read_text())["config"])


def short(value: str) -> str:
    """Five digits that count."""
    return value if value.isdecimal() else f"{float(value):.5g}"


def spreads(rows: Iterable[Row], figure: str) -> dict[tuple[str, str], Spread]:
    """The figure in each arm of each sweep, over its seeds."""
    values: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row.get(figure) not in (None, ""):
            values.setdefault((row["sweep"], row["arm"]), []).append(float(row[figure]))
    return {arm: Spread(tuple(own)) for arm, own in values.items()}


def table(runs: list[Row]) -> str:
    """Markdown: mean ± 95 % interval over the seeds of what has finished, and why other runs have not."""
    columns = {figure: spreads(runs, figure) for figure in TOLD}
    columns = {figure: of for figure, of in columns.items() if of}
    lines = [f"| sweep | arm | seeds | {' | '.join(columns)} |", f"|{' --- |' * (3 + len(columns))}"]
    for sweep, arm in dict.fromkeys((row["sweep"], row["arm"]) for row in runs):
        cells = [number(of[sweep, arm]) if (sweep, arm) in of else "" for of in columns.values()]
        n = sum((row["sweep"], row["arm"], row["outcome"]) == (sweep, arm, "finished") for row in runs)
        lines.append(f"| {sweep} | {arm} | {n} | {' | '.join(cells)} |")
    failed = [f"- {row['sweep']} {row['arm']} seed={row['seed']}: {row['outcome']}" for row in runs]
    return "\n".join([*lines, "", *(line for line in failed if not line.endswith(": finished"))]) + "\n"


def draw(curves: list[Row], path: Path, title: str, x: str = "step") -> None:
    """What was measured of a sweep's arms while they trained, where anything was."""
    figures = {figure: label for figure, label in DRAWN.items() if any(row.get(figure) for row in curves)}
    if figures:
        over_training(curves, figures, path, title, x)


def main() -> None:
    studies = sorted({path.parent.name for path in HERE.glob("*/*.yaml")})
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=studies)
    name = parser.parse_args().name
    well, folder = run(name), HERE / name
    for sweep in sorted(path for path in (RUNS / name).iterdir() if path.is_dir()):
        subprocess.call([sys.executable, "-m", "dcgan.compare", str(sweep), f"out={folder / sweep.name}"])
    runs, curves = found_in(RUNS / name)
    write(folder / "runs.csv", runs)
    write(folder / "curves.csv", curves)
    write_text(folder / "table.md", table(runs))
    for sweep, own in groupby(curves, itemgetter("sweep")):
        draw(list(own), folder / sweep / "training.png", f"{name}: {sweep.replace('_', ' ')}")
    print(table(runs))
    if (folder / "figures.py").exists():
        importlib.import_module(f"experiments.{name}.figures").main()
    sys.exit(not well)


if __name__ == "__main__":
    main()
