"""A run's folder: whose it is, and what in it can be gone on from."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from dcgan.checks import UserError
from dcgan.settings import ASIDE_GROUPS, differences

SUMMARY = "summary.json"  # of a run that is finished
FAILURE = "failure.txt"  # why a job of a sweep has failed

# what a kill in the middle of a write leaves; an evaluation of one of the checkpoints may be writing others
LEFTOVERS = ("checkpoints/.*.ckpt.*.tmp", "samples/.*.tmp", ".*.tmp")
WAIT_SECONDS = 30  # the workers of a killed sweep notice it within two, and have ten to save and end


@contextmanager
def sole_owner(run_dir: Path) -> Iterator[None]:
    """In here no other training writes into `run_dir`; what a killed one has left half written goes.

    Another training there is waited for, for it may be about to end. UserError where it does not.
    """
    lock = FileLock(run_dir / ".hydra" / "lock")
    try:
        try:
            owned = lock.acquire(timeout=0)
        except Timeout:
            print(f"note: another training works in {run_dir}: waiting for it to end", file=sys.stderr)
            owned = lock.acquire(timeout=WAIT_SECONDS)
    except Timeout as error:
        raise UserError(f"another training works in {run_dir}: stop it, or choose another hydra.run.dir") from error
    with owned:
        for pattern in LEFTOVERS:
            for path in run_dir.glob(pattern):
                path.unlink(missing_ok=True)
        yield


def folder_of(checkpoint: Path) -> Path | None:
    """The run folder that a checkpoint lies in, None where it does not. Lightning puts those for SLURM beside ours."""
    if checkpoint.parent.name == "checkpoints":
        return checkpoint.parent.parent
    return checkpoint.parent if checkpoint.name.startswith("hpc_ckpt_") else None


def goes_on_in(run_dir: Path, ckpt_path: str | None) -> bool:
    """Whether the run is resumed in its own folder."""
    folder = folder_of(Path(ckpt_path)) if ckpt_path is not None else None
    return folder is not None and folder.resolve() == run_dir.resolve()


def checkpoints_in(run_dir: Path) -> list[Path]:
    """last.ckpt first, for it is the last one written of those of the same step."""
    found = [*(run_dir / "checkpoints").glob("*.ckpt"), *run_dir.glob("hpc_ckpt_*.ckpt")]
    return sorted(found, key=lambda path: (path.name != "last.ckpt", path))


def refuse_occupied(run_dir: Path) -> None:
    """A run must not write over another one's checkpoints."""
    if checkpoints_in(run_dir):
        raise UserError(
            f"{run_dir} already holds checkpoints: go on with ckpt_path={run_dir / 'checkpoints' / 'last.ckpt'} (in a "
            "sweep: skip_finished=true), or choose another hydra.run.dir"
        )


def refuse_other_settings(run_dir: Path, cfg: DictConfig, choices: dict[str, str]) -> None:
    """A job of a sweep is finished, or gone on with, only as what it began as: its name need not tell all settings.

    cfg, choices: what is asked for. UserError where an option or a setting that changes figures differs from the
    folder's record.
    """
    record = run_dir / ".hydra"
    if not (record / "hydra.yaml").exists():  # written behind config.yaml: a kill between the two leaves no run
        return
    begun: Any = OmegaConf.load(record / "hydra.yaml")
    options = {name: option for name, option in choices.items() if name in cfg and name not in ASIDE_GROUPS}
    configs: Any = [OmegaConf.to_container(c, resolve=True) for c in (OmegaConf.load(record / "config.yaml"), cfg)]
    found = differences(dict(begun.hydra.runtime.choices), options) | differences(*configs)
    for key, (old, new) in found.items():
        raise UserError(
            f"{run_dir} began with {key}={old}, and now {key}={new} is asked for: remove that folder, or give the "
            "sweep another sweep.name"
        )


def refuse_to_go_back(run_dir: Path, ckpt_path: Path) -> None:
    """In its own folder, a run that goes on from an earlier state would write over a later one."""
    from dcgan.trained import read_checkpoint

    newest = newest_checkpoint(run_dir) or ckpt_path
    step, last_step = read_checkpoint(ckpt_path)["step"], read_checkpoint(newest)["step"]
    if last_step > step:
        raise UserError(
            f"{newest} is further on (step {last_step}) than {ckpt_path} (step {step}): go on from that one, or from "
            "this one with another hydra.run.dir"
        )


def newest_checkpoint(run_dir: Path) -> Path | None:
    """The whole checkpoint of a run folder that is furthest on; None where there is none at all. Damaged ones are named
    on stderr.

    UserError where there are some and none is whole: a new run would write over what may still be of use.
    """
    found = checkpoints_in(run_dir)
    if not found:
        return None
    from dcgan.trained import read_checkpoint  # takes torch's seconds, which a new run needs later

    steps: dict[Path, int] = {}
    for path in found:
        try:
            steps[path] = read_checkpoint(path)["step"]
        except UserError as error:
            print(f"note: {error}", file=sys.stderr)
    if not steps:
        raise UserError(f"no checkpoint in {run_dir} can be read: start anew in another hydra.run.dir")
    return max(steps, key=lambda path: steps[path])
