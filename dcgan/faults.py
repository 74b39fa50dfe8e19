"""What befalls a training from outside, in a sentence: a disk, another process, a checkpoint of something else."""

import errno
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lightning as L

from dcgan.checkpointing import Checkpoints
from dcgan.checks import SharedError, UserError, first_line
from dcgan.processes import is_lost
from dcgan.resuming import unfit

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG)


@contextmanager
def explained(trainer: L.Trainer, run_dir: Path, checkpoints: Checkpoints, ckpt_path: str | None) -> Iterator[None]:
    """Errors of the training in here that are no bug leave as a UserError that says what is kept and what to do."""
    try:
        with quiet_writer():
            yield
    except SharedError as error:
        error.silent = not trainer.is_global_zero
        raise
    except UserError as error:
        if checkpoints.started:
            error.args = (f"{error}; {kept(checkpoints)}",)
        raise
    except OSError as error:
        if not is_of(run_dir, error):
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
                f"({first_line(error).partition('. ')[0]}): {kept(checkpoints)}"
            ) from error
        if "DataLoader worker" in str(error):
            raise UserError(
                f"a process that reads pictures has ended ({first_line(error)}): {kept(checkpoints)}"
            ) from error
        if ckpt_path is not None and not checkpoints.started:
            raise unfit(ckpt_path, error) from error
        print(f"note: {kept(checkpoints)}", file=sys.stderr)
        raise


def is_of(run_dir: Path, error: OSError) -> bool:
    """Whether an error is one of writing there. TensorBoard names its file in bytes, or none."""
    if isinstance(error.filename, str | bytes):
        return Path(os.fsdecode(error.filename)).is_relative_to(run_dir)
    return error.errno in DISK


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
    if not checkpoints.path.exists():
        return "there is no checkpoint to go on from"
    step = f", which holds step {checkpoints.saved_step}" if checkpoints.saved_step >= 0 else ""
    return f"mend that and go on with ckpt_path={checkpoints.path}{step}"
