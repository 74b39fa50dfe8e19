"""Errors, and how a command reports them: one sentence for a user's mistake, a traceback for a bug."""

import os
import sys
import sysconfig
import traceback
from pathlib import Path

from hydra.errors import CompactHydraException, InstantiationException
from omegaconf.errors import OmegaConfBaseException


class UserError(Exception):
    """A mistake that the user can fix. The message is one sentence: what is wrong, what is allowed, what to do.

    The commands print it without a traceback and exit with code 1.
    """


class SweepError(UserError):
    """A mistake that all jobs of a sweep have in common. It stops the sweep."""

    exit_code = 1


class CollectiveError(UserError):
    """An error that all ranks raise at the same step. Ranks other than 0 set `silent` and print nothing."""

    silent = False


class NonFiniteError(CollectiveError):
    """A loss, a gradient or a weight is NaN or infinite."""


class PrunedRun(CollectiveError):
    """A search has stopped the run because other settings are better. Its state is saved. It is no failure."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type's name if the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def explain(error: BaseException) -> str | None:
    """Return one sentence, in one line, for an error that the user can fix, None for a bug."""
    sentence = find_reason(error)
    return None if sentence is None else " ".join(line.strip() for line in sentence.splitlines() if line.strip())


def find_reason(error: BaseException) -> str | None:
    message = str(error).strip()
    key = message.rpartition("full_key: ")[2] if "full_key: " in message else ""
    if isinstance(error, TypeError) and key:  # Hydra's own, such as for a wrong _partial_
        return f"{first_line(error)} (config key {key})"
    if isinstance(error, InstantiationException) and error.__cause__ is not None:
        sentence = explain_construction(error.__cause__)
        return f"{sentence} (config key {key})" if sentence and key else sentence
    if isinstance(error, UserError | CompactHydraException):
        return message
    if isinstance(error, OmegaConfBaseException):
        return f"{first_line(error)} (config key {error.full_key}): do not remove or replace what other keys refer to"
    if isinstance(error, ValueError):
        return None if is_in_users_code(error) else message
    if isinstance(error, OSError):
        return f"{os.fsdecode(error.filename or 'a file')} cannot be read or written: {error.strerror or error}"
    # names instead of types: importing torch and lightning takes seconds
    if type(error).__name__ == "OutOfMemoryError":
        return f"the GPU has too little memory ({first_line(error)}): lower data.batch_size"
    if type(error).__name__ == "UncompletedJobError":  # submitit's, instead of a requeue
        return "the job is saved, but not requeued again: raise hydra.launcher.max_num_timeout or timeout_min"
    if type(error).__name__ == "MisconfigurationException":
        hint = ". trainer=cpu runs on every machine" if "backend" in message or "not available" in message else ""
        return f"the trainer cannot be set up: {message.rstrip('.')}{hint}"
    if isinstance(error, ImportError) and "failed to map segment" in message:
        return f"too little memory to load a library ({first_line(error)}): raise the limit of this shell (ulimit -v)"
    if isinstance(error, MemoryError) or "can't allocate memory" in message:
        return f"this machine has too little memory ({first_line(error)}): lower the batch size or the networks' sizes"
    return None


def explain_construction(cause: BaseException) -> str | None:
    """Return one sentence for an error while an object is built from a config, None for an error in the user's code."""
    if isinstance(cause, ImportError) and cause.__cause__ is not None:  # Hydra's: a class cannot be located
        origin = cause.__cause__
        if is_in_users_code(origin):
            frame = traceback.extract_tb(origin.__traceback__)[-1]
            place = f"{frame.filename}, line {frame.lineno}"
            return f"{first_line(cause).rstrip(':')}: it fails on import ({type(origin).__name__}: {origin}; {place})"
        return (
            f"{first_line(cause).rstrip(':')}: {first_line(origin)}; check the name, and that Python finds the package"
        )
    if isinstance(cause, ValueError):
        return str(cause).strip()
    # whatever a class of this package or of a library raises: its arguments are wrong
    if (sentence := explain(cause)) is None and not is_in_users_code(cause):
        return str(cause).strip() or type(cause).__name__
    return sentence


def is_in_users_code(error: BaseException) -> bool:
    """Return True if the error was raised in, or through, a file of neither this package nor an installed one."""
    own = [str(Path(__file__).parents[1]), sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), sys.prefix]
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    return any(not file.startswith(("<", *own)) for file in files)
