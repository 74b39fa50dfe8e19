"""What befalls a training from outside, in a sentence: a disk, another process, a checkpoint of something else."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lightning as L
from filelock import FileLock, Timeout

from dcgan.checkpointing import Checkpoints
from dcgan.checks import SharedError, UserError, first_line
from dcgan.processes import is_lost

# what a kill in the middle of a write leaves; an evaluation of one of the checkpoints may be writing others
LEFTOVERS = ("checkpoints/.*.ckpt.*.tmp", "samples/.*.tmp", ".*.tmp")
WAIT_SECONDS = 10  # a killed run's reading processes notice it within five


@contextmanager
def sole_owner(run_dir: Path) -> Iterator[None]:
    """In here no other training writes into `run_dir`; what a killed one has left half written goes.

    UserError where another training is at work there.
    """
    try:
        with FileLock(run_dir / ".hydra" / "lock", timeout=WAIT_SECONDS):
            for pattern in LEFTOVERS:
                for path in run_dir.glob(pattern):
                    path.unlink(missing_ok=True)
            yield
    except Timeout as error:
        raise UserError(f"another training works in {run_dir}: stop it, or choose another hydra.run.dir") from error


@contextmanager
def explained(trainer: L.Trainer, run_dir: Path, checkpoints: Checkpoints, ckpt_path: str | None) -> Iterator[None]:
    """Errors of the training in here that are no bug leave as a UserError that says what is kept and what to do."""
    try:
        with quiet_writer():
            yield
    except SharedError as error:
        error.silent = not trainer.is_global_zero
        raise
    except UserError:
        raise
    except OSError as error:
        # TensorBoard names its file in bytes
        if error.filename is not None and not Path(os.fsdecode(error.filename)).is_relative_to(run_dir):
            raise
        reason = error.strerror or first_line(error)
        gone = checkpoints.rescued or (checkpoints.saved_step >= 0 and not checkpoints.path.exists())
        what = "is gone (moved, deleted, or on a disk that is)" if gone else f"cannot be written ({reason})"
        memory = "what was in memory is saved again; " if checkpoints.rescued else ""
        raise UserError(f"the run folder {run_dir} {what}: {memory}{kept(checkpoints)}") from error
    except Exception as error:
        if trainer.world_size > 1 and is_lost(error):
            raise UserError(
                f"process {trainer.global_rank} has lost another one, which has failed or was killed "
                f"({first_line(error)}): {kept(checkpoints)}"
            ) from error
        if ckpt_path is not None and not checkpoints.started:
            raise UserError(
                f"{ckpt_path} cannot be gone on from ({type(error).__name__}: {first_line(error)}): its parts do not "
                "fit together; use another checkpoint"
            ) from error
        raise


@contextmanager
def quiet_writer() -> Iterator[None]:
    """TensorBoard's writing thread ends with a disk, and says so in a traceback; the next call raises that again."""
    before = threading.excepthook

    def hook(unhandled: threading.ExceptHookArgs) -> None:
        if not issubclass(unhandled.exc_type, OSError):
            before(unhandled)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before


def kept(checkpoints: Checkpoints) -> str:
    """What is left of a run, and how to go on."""
    if checkpoints.saved_step < 0 or not checkpoints.path.exists():
        return "there is no checkpoint to go on from"
    return f"mend that and go on with ckpt_path={checkpoints.path}, which holds step {checkpoints.saved_step}"
