"""The runs of a study: their folders, their variants and their results."""

import json
from collections.abc import Iterable
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from dcgan.runs.run_dir import FAILURE, SUMMARY
from experiments.tables import FINISHED, Row, merge_rows, read_rows, run_key

RUNS = Path("runs/sweeps")
# overrides that do not make a variant
IGNORED_KEYS = ("seed", "skip_finished", "jobs_per_gpu", "sweep.keys", "sweep.hash")
MIN_COVERAGE = 0.1  # of a run that has learned; real images have 0.93
MEASUREMENTS = ("test/", "gradient_norms/")  # a row of metrics.csv that has one of them is copied to curves.csv


def finished_runs(study: str, pattern: str = "*/*") -> list[Path]:
    """Return the folders of a study's finished runs, if they still exist; pattern: of their sweep and job."""
    return sorted(path.parent for path in (RUNS / study).glob(f"{pattern}/{SUMMARY}"))


def seed_0_runs(study: str, sweep: str) -> dict[str, Path]:
    """Return the finished run of seed 0 of each variant, if it still exists."""
    return {variant_of(run): run for run in finished_runs(study, f"{sweep}/seed=0,*")}


def variant_of(run: Path) -> str:
    """Return the part of the folder's name after the seed."""
    return run.name.partition(",")[2].replace(",", " ")


def config_of(run: Path) -> DictConfig:
    """Return the config of a finished run."""
    return OmegaConf.create(json.loads((run / SUMMARY).read_text())["config"])


def run_columns(run: Path) -> Row:
    """Return the columns that identify a finished run."""
    return {"sweep": run.parent.name, "variant": variant_of(run), "seed": config_of(run).seed}


def collect_results(folder: Path, sweeps: Iterable[str]) -> tuple[list[Row], list[Row]]:
    """Return a row for each run of the sweeps below the folder, and a row for each of their measurements."""
    runs: list[Row] = []
    curves: list[Row] = []
    for run in (path.parent.parent for sweep in sweeps for path in folder.glob(f"{sweep}/*/.hydra/overrides.yaml")):
        overrides = OmegaConf.load(run / ".hydra" / "overrides.yaml")
        variant = " ".join(o for o in map(str, overrides) if o.partition("=")[0] not in IGNORED_KEYS)
        seed = OmegaConf.load(run / ".hydra" / "config.yaml").seed
        columns = {"sweep": run.parent.name, "variant": variant, "seed": seed}
        result = run_result(run)
        runs.append(columns | result)
        columns["outcome"] = result["outcome"]
        for row in read_rows(run / "metrics.csv", missing_ok=True):
            if any(name.startswith(MEASUREMENTS) and value for name, value in row.items()):
                curves.append(columns | {name: shorten(value) for name, value in row.items() if value})
    return sorted(runs, key=run_key), sorted(curves, key=run_key)  # stable: the measurements of a run stay in order


def run_result(run: Path) -> Row:
    """Return the outcome of a run, and if it has finished, its last metrics and their provenance.

    A run with a coverage below MIN_COVERAGE counts as failed: most such trainings have diverged or collapsed, and the
    size of their distance says nothing about the variant.
    """
    if (run / FAILURE).exists():
        return {"outcome": (run / FAILURE).read_text().strip()}
    if not (run / SUMMARY).exists():
        return {"outcome": "not finished"}
    summary = json.loads((run / SUMMARY).read_text())
    metrics = summary["metrics"]
    coverage = metrics.get("coverage", metrics.get("coverage_random_conv", 1))
    outcome = FINISHED if coverage >= MIN_COVERAGE else f"nothing learned: coverage {coverage:.2g}"
    provenance = {
        name: summary[name] for name in ("step", "images_per_second", "wall_seconds", "device", "threads", "commit")
    }
    parameters = {f"parameters_{network}": n for network, n in summary["parameters"].items()}
    return {"outcome": outcome} | metrics | provenance | parameters | {"torch": summary["versions"]["torch"]}


def shorten(value: str) -> str:
    """Round a number that is not an integer to five significant digits."""
    return value if value.isdecimal() else f"{float(value):.5g}"


def add_earlier_rows(path: Path, rows: list[Row]) -> list[Row]:
    """Return the rows and the file's rows of the study's other runs, whose folders need not exist any more."""
    runs = {run_key(row) for row in read_rows(path.parent / "runs.csv")}
    return merge_rows((row for row in read_rows(path, missing_ok=True) if run_key(row) in runs), rows)
