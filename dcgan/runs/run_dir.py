"""A run's folder: its files, its lock, and what a new or resumed run must not overwrite."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from dcgan.common.errors import UserError
from dcgan.common.schema import read_yaml
from dcgan.runs.config_diff import IGNORED_GROUPS, config_diff

SUMMARY = "summary.json"  # exists once the run is finished
METRICS = {"metrics": {str: float | None}, "better": {str: str}, "judge": dict | None}
SUMMARY_SCHEMA = {
    **METRICS,
    "step": int,
    "choices": {str: str | list | None},
    "config": {"seed": int},
    "learning_rate_changes?": [str],
}
FAILURE = "failure.txt"  # why a job of a sweep has failed
PRUNED = "pruned.txt"  # why a run of a search was stopped early
JOURNAL = "search.journal"  # in the folder of a sweep: the trials of a search
# temporary folders of a killed training; not those of an evaluation, which may still be writing
LEFTOVERS = ("checkpoints/.*.ckpt.*.tmp", "samples/.*.tmp", ".*.tmp")
LOCK_SECONDS = 30  # a worker of a killed sweep needs up to 12 to save and end


@contextmanager
def lock_run_dir(run_dir: Path) -> Iterator[None]:
    """Within the context, no other training writes to `run_dir`. Leftovers of a killed one are removed.

    Raises:
        UserError: Another training holds the lock and does not end within `LOCK_SECONDS`.
    """
    lock = FileLock(run_dir / ".hydra" / "lock")
    try:
        try:
            acquired = lock.acquire(timeout=0)
        except Timeout:
            print(f"note: another training writes to {run_dir}: waiting for it to end", file=sys.stderr)
            acquired = lock.acquire(timeout=LOCK_SECONDS)
    except Timeout as error:
        raise UserError(f"another training writes to {run_dir}: stop it, or choose another hydra.run.dir") from error
    with acquired:
        for pattern in LEFTOVERS:
            for path in run_dir.glob(pattern):
                shutil.rmtree(path, ignore_errors=True)
        yield


def remove_if_empty(run_dir: Path) -> None:
    """Remove the folder of a run that was rejected when it had only its config, and empty parents below here.

    The working directory stays, and so does a folder that another training has locked.
    """
    here, run_dir = Path.cwd(), run_dir.absolute()
    if run_dir == here or not run_dir.is_dir() or {path.name for path in run_dir.iterdir()} - {".hydra"}:
        return
    record = run_dir / ".hydra"
    with suppress(OSError):  # it is locked (Timeout is an OSError), or a folder is not empty
        if record.exists():
            with FileLock(record / "lock", timeout=0):
                shutil.rmtree(record)
        for folder in (run_dir, *(parent for parent in run_dir.parents if here in parent.parents)):
            folder.rmdir()


def run_dir_of(checkpoint: Path) -> Path | None:
    """Return the run folder that contains a checkpoint, None if it is not in one."""
    if checkpoint.parent.name == "checkpoints":
        return checkpoint.parent.parent
    # Lightning saves these before SLURM requeues a job
    return checkpoint.parent if checkpoint.name.startswith("hpc_ckpt_") else None


def resumes_in_place(run_dir: Path, ckpt_path: Path | None) -> bool:
    """Return True if the checkpoint is in the run's own folder."""
    folder = run_dir_of(ckpt_path) if ckpt_path is not None else None
    return folder is not None and folder.resolve() == run_dir.resolve()


def last_checkpoint(run_dir: Path) -> Path:
    return run_dir / "checkpoints" / "last.ckpt"


def list_checkpoints(run_dir: Path) -> list[Path]:
    """Return a run's checkpoints, last.ckpt first: of those with the same step it was written last."""
    found = [*(run_dir / "checkpoints").glob("*.ckpt"), *run_dir.glob("hpc_ckpt_*.ckpt")]
    return sorted(found, key=lambda path: (path.name != "last.ckpt", path))


def reject_existing_checkpoints(run_dir: Path) -> None:
    """Raise UserError if the folder holds another run's checkpoints, which a new run would overwrite."""
    if list_checkpoints(run_dir):
        raise UserError(
            f"{run_dir} already holds checkpoints: resume with ckpt_path={last_checkpoint(run_dir)} (in a sweep: "
            "skip_finished=true), or choose another hydra.run.dir"
        )


def reject_changed_settings(run_dir: Path, cfg: DictConfig, choices: dict[str, str]) -> None:
    """Raise UserError if a job of a sweep was begun with other settings than cfg and choices.

    The name of a job's folder need not contain all settings.
    """
    record = run_dir / ".hydra"
    if not (record / "hydra.yaml").exists():  # written after config.yaml: a kill in between leaves no run
        return
    try:
        begun = read_yaml(record / "hydra.yaml", {"hydra": {"runtime": {"choices": dict}}}, resolve=False)
        config = read_yaml(record / "config.yaml", dict)
    except UserError as error:
        raise UserError(f"{error}: remove the folder {run_dir}, and the run begins again") from error
    options = {name: option for name, option in choices.items() if name in cfg and name not in IGNORED_GROUPS}
    now: Any = OmegaConf.to_container(cfg, resolve=True)
    changed = config_diff(begun["hydra"]["runtime"]["choices"], options) | config_diff(config, now)
    for key, (old, new) in changed.items():
        raise UserError(
            f"{run_dir} was begun with {key}={old}, but now {key}={new}: remove that folder, or give the sweep another "
            "sweep.name"
        )
