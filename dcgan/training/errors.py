"""Failures during training from outside, as one sentence: a full disk, a lost rank, an inconsistent checkpoint."""

import errno
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lightning as L

from dcgan.common.distributed import is_lost_connection
from dcgan.common.errors import CollectiveError, UserError, first_line
from dcgan.runs.run_dir import last_checkpoint
from dcgan.training.callbacks.checkpoints import CheckpointCallback
from dcgan.training.context import find_callback
from dcgan.training.resume import incompatible_checkpoint

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG)


@contextmanager
def translate_errors(trainer: L.Trainer, run_dir: Path, ckpt_path: Path | None) -> Iterator[None]:
    """Within the context, errors of a training that are no bug become UserErrors that say what is saved."""
    checkpoints = find_callback(trainer, CheckpointCallback)
    try:
        with silence_writer_thread():
            yield
    except CollectiveError as error:
        error.silent = not trainer.is_global_zero
        raise
    except UserError as error:
        if checkpoints.started:
            error.args = (f"{error}; {how_to_resume(run_dir, checkpoints)}",)
        raise
    except OSError as error:
        if not is_in_run_dir(run_dir, error):
            raise
        reason = error.strerror or first_line(error)
        gone = checkpoints.rescued or (checkpoints.saved_step >= 0 and not last_checkpoint(run_dir).exists())
        what = "is gone (moved, deleted, or on a disk that is)" if gone else f"cannot be written ({reason})"
        rescued = "what was in memory is saved again; " if checkpoints.rescued else ""
        raise UserError(f"the run folder {run_dir} {what}: {rescued}{how_to_resume(run_dir, checkpoints)}") from error
    except Exception as error:
        if trainer.world_size > 1 and is_lost_connection(error):
            raise UserError(
                f"rank {trainer.global_rank} has lost another rank, which has failed or was killed "
                f"({first_line(error).partition('. ')[0]}): {how_to_resume(run_dir, checkpoints)}"
            ) from error
        if ckpt_path is not None and not checkpoints.started:
            raise incompatible_checkpoint(ckpt_path, error) from error
        if checkpoints.started:
            print(f"note: {how_to_resume(run_dir, checkpoints)}", file=sys.stderr)
        raise


def is_in_run_dir(run_dir: Path, error: OSError) -> bool:
    """Return True if the error is about a file in the run folder. TensorBoard may not name its file."""
    if isinstance(error.filename, str | bytes):
        return Path(os.fsdecode(error.filename)).is_relative_to(run_dir)
    return error.errno in DISK_ERRORS


@contextmanager
def silence_writer_thread() -> Iterator[None]:
    """Within the context, hide the traceback of TensorBoard's writer thread: its next call raises the same error."""
    before = threading.excepthook

    def hook(unhandled: threading.ExceptHookArgs) -> None:
        if not issubclass(unhandled.exc_type, OSError):
            before(unhandled)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before


def how_to_resume(run_dir: Path, checkpoints: CheckpointCallback) -> str:
    """Return what is saved of a run, and how to resume it."""
    path = last_checkpoint(run_dir)
    if not path.exists():
        return "there is no checkpoint to resume from"
    step = f", which holds step {checkpoints.saved_step}" if checkpoints.saved_step >= 0 else ""
    return f"fix that and resume with ckpt_path={path}{step}"
