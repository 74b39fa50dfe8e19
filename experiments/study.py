"""Run a study, or what is missing of it, and write down what it found: `make study NAME=upsampling`. A part of it, one
sweep (NAME=upsampling/recipe_rates) or other seeds (SEEDS=3,4), goes beside the runs that runs.csv has from before.

A study is a folder beside this file; each of its YAML files is a sweep of `python -m dcgan.train`, with its runs below
runs/sweeps/NAME, where finished ones are left alone. Then runs.csv has a row for each run and how it ended, curves.csv
one for each measurement, contrasts.csv one for each comparison that a sweep asks for, table.md the means with their
intervals and those comparisons, SWEEP.png the distance over the steps, SWEEP_samples.png what each arm's seed 0 drew at
the end, and figures.py, where the study has one, more.
Remove a study's runs before it is run with other settings or arms.
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

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from dcgan.common.atomic_files import write_text
from dcgan.common.command import CONF
from dcgan.compare import format_mean
from dcgan.runs.run_dir import FAILURE, SUMMARY
from experiments.contrasts import as_markdown, contrasts, seed_statistics
from experiments.plots import over_training, side_by_side
from experiments.tables import LEARNED, Row, read, together, who, write

HERE = Path(__file__).parent
RUNS = Path("runs/sweeps")
ASIDE = ("seed", "skip_finished", "sweep.keys", "sweep.hash")
# in the table, where measured
TOLD = ("frechet", "kid", "coverage", "modes", "class_kl", "label_agreement", "cb2", "pv2", "pv4")
LEAST_COVERAGE = 0.1  # of a run that has learned; real images have .93
MEASURED = ("test/", "gradient_norms/")  # a row of metrics.csv that has one of them is kept
# over the steps, where measured
DRAWN = {"test/frechet": "Frechet distance", "test/coverage": "coverage", "test/modes": "modes"}


def sweeps_of(name: str) -> list[str]:
    """The names of the study's configs."""
    return sorted(f"{name}/{path.stem}" for path in (HERE / name).glob("*.yaml"))


def run(sweeps: list[str], seeds: str | None) -> bool:
    """Sweeps, with their own seeds or these; whether every job of theirs has ended well."""
    command = [sys.executable, "-m", "dcgan.train", "-m", "--config-dir", str(HERE), "skip_finished=true"]
    command += [f"hydra.sweeper.params.seed='{seeds}'"] if seeds else []
    codes = [subprocess.call([*command, "--config-name", sweep]) for sweep in sweeps]
    return not any(codes)


def configs(name: str) -> dict[str, DictConfig]:
    """What each of the study's sweeps starts from, by its name; those of the folder's files alone."""
    with initialize_config_dir(str(HERE), version_base="1.3"):
        search = f"hydra.searchpath=[file://{CONF}]"
        of = [compose(sweep, overrides=[search]) for sweep in sweeps_of(name)]
    return {config.sweep.name.rpartition("/")[2]: config for config in of}


def found_in(folder: Path, sweeps: Iterable[str]) -> tuple[list[Row], list[Row]]:
    """A row for each run of the sweeps below the folder, and one for each measurement of theirs."""
    runs, curves = [], []
    for place in (path.parent.parent for sweep in sweeps for path in folder.glob(f"{sweep}/*/.hydra/overrides.yaml")):
        overrides = OmegaConf.load(place / ".hydra" / "overrides.yaml")
        arm = " ".join(o for o in map(str, overrides) if o.partition("=")[0] not in ASIDE)
        seed = OmegaConf.load(place / ".hydra" / "config.yaml").seed
        whose = {"sweep": place.parent.name, "arm": arm, "seed": seed}
        ended = outcome(place)
        runs.append(whose | ended)
        whose["outcome"] = ended["outcome"]
        for row in read_if_there(place / "metrics.csv"):
            if any(name.startswith(MEASURED) and value for name, value in row.items()):
                curves.append(whose | {name: short(value) for name, value in row.items() if value})
    return sorted(runs, key=who), sorted(curves, key=who)  # stable: a run's measurements stay in their order


def read_if_there(path: Path) -> list[Row]:
    return read(path) if path.exists() else []


def with_earlier(path: Path, rows: list[Row]) -> list[Row]:
    """The rows, and those that the file has so far of the study's other runs, which need not be there any more."""
    runs = {who(row) for row in read(path.parent / "runs.csv")}
    return together((row for row in read_if_there(path) if who(row) in runs), rows)


def outcome(place: Path) -> Row:
    """How a run ended: its final figures and what made them, or why there are none.

    One whose samples lie near fewer of the real images than LEAST_COVERAGE has failed too, as trainings do that diverge
    or collapse: its distance would tell nothing of its arm, but for that it happens.
    """
    if (place / FAILURE).exists():
        return {"outcome": (place / FAILURE).read_text().strip()}
    if not (place / SUMMARY).exists():
        return {"outcome": "not finished"}
    summary = json.loads((place / SUMMARY).read_text())
    coverage = summary["metrics"].get("coverage", 1)
    ended = LEARNED if coverage >= LEAST_COVERAGE else f"no digits: coverage {coverage:.2g}"
    facts = {
        name: summary[name] for name in ("step", "images_per_second", "wall_seconds", "device", "threads", "commit")
    }
    parameters = {f"parameters_{network}": n for network, n in summary["parameters"].items()}
    return {"outcome": ended} | {**summary["metrics"], **facts} | parameters | {"torch": summary["versions"]["torch"]}


def finished(name: str, jobs: str = "*/*") -> list[Path]:
    """The study's finished runs, where they are still there; jobs: a pattern of their sweeps and names."""
    return sorted(path.parent for path in (RUNS / name).glob(f"{jobs}/{SUMMARY}"))


def examples(name: str, sweep: str) -> dict[str, Path]:
    """The finished run of seed 0 of each arm of a study's sweep, where the runs are still there."""
    return {arm_of(run): run for run in finished(name, f"{sweep}/seed=0,*")}


def arm_of(run: Path) -> str:
    """What a job's name says behind its seed."""
    return run.name.partition(",")[2].replace(",", " ")


def identity(run: Path) -> Row:
    """Whose figures these are, in a row of a finished run."""
    return {"sweep": run.parent.name, "arm": arm_of(run), "seed": config_of(run).seed}


def config_of(run: Path) -> DictConfig:
    """What a finished run was trained with."""
    return OmegaConf.create(json.loads((run / SUMMARY).read_text())["config"])


def short(value: str) -> str:
    """Five digits that count."""
    return value if value.isdecimal() else f"{float(value):.5g}"


def table(runs: list[Row]) -> list[str]:
    """Markdown: mean ± 95 % interval over the seeds of what has learned, and why other runs have not."""
    columns = {figure: seed_statistics([row for row in runs if row["outcome"] == LEARNED], figure) for figure in TOLD}
    columns = {figure: of for figure, of in columns.items() if of}
    lines = [f"| sweep | arm | seeds | {' | '.join(columns)} |", f"|{' --- |' * (3 + len(columns))}"]
    for sweep, arm in dict.fromkeys((row["sweep"], row["arm"]) for row in runs):
        cells = [format_mean(of[sweep, arm]) if (sweep, arm) in of else "" for of in columns.values()]
        ended = [row["outcome"] for row in runs if (row["sweep"], row["arm"]) == (sweep, arm)]
        n = len(ended) if set(ended) == {LEARNED} else f"{ended.count(LEARNED)} of {len(ended)}"
        lines.append(f"| {sweep} | {arm} | {n} | {' | '.join(cells)} |")
    failed = [row for row in runs if row["outcome"] != LEARNED]
    return [*lines, "", *(f"- {row['sweep']} {row['arm']} seed={row['seed']}: {row['outcome']}" for row in failed)]


def draw(curves: list[Row], path: Path, title: str, x: str = "step") -> None:
    """What was measured of a sweep's arms while they trained, where anything was."""
    figures = {figure: label for figure, label in DRAWN.items() if any(row.get(figure) for row in curves)}
    if figures:
        over_training(curves, figures, path, title, x)


def show(name: str, sweep: str, path: Path) -> None:
    """What seed 0 of each arm drew at its last step, where the runs are still there."""
    last = {arm: max(run.glob("samples/step_*.png"), default=None) for arm, run in examples(name, sweep).items()}
    if pictures := {arm: picture for arm, picture in last.items() if picture}:
        side_by_side(pictures, path)


def main() -> None:
    studies = sorted({path.parent.name for path in HERE.glob("*/*.yaml")})
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=[*studies, *(sweep for study in studies for sweep in sweeps_of(study))])
    parser.add_argument("--seeds", help="these in place of the sweeps' own, for example 3,4")
    asked = parser.parse_args()
    name, _, part = asked.name.partition("/")
    folder = HERE / name
    well = run([asked.name] if part else sweeps_of(name), asked.seeds)
    sweeps = {sweep: config.sweep for sweep, config in configs(name).items()}
    runs, curves = found_in(RUNS / name, sweeps)
    if part or asked.seeds:
        runs = together(read_if_there(folder / "runs.csv"), runs)
        curves = together(read_if_there(folder / "curves.csv"), curves)
    compared = contrasts(runs, sweeps)
    write(folder / "runs.csv", runs)
    write(folder / "curves.csv", curves)
    write(folder / "contrasts.csv", compared)
    for sweep, own in groupby(curves, itemgetter("sweep")):
        draw(list(own), folder / f"{sweep}.png", f"{name}: {sweep.replace('_', ' ')}")
        show(name, sweep, folder / f"{sweep}_samples.png")
    said = "\n".join([*table(runs), "", *as_markdown(compared)]) + "\n"
    write_text(folder / "table.md", said)
    print(said)
    if (folder / "figures.py").exists():
        importlib.import_module(f"experiments.{name}.figures").main()
    sys.exit(not well)


if __name__ == "__main__":
    main()
