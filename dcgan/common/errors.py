"""Errors, and how a command reports them: one sentence for a user's mistake, a traceback for a bug."""

import os

from hydra.errors import CompactHydraException, InstantiationException


class UserError(Exception):
    """A mistake that the user can fix. The message is one sentence: what is wrong, what is allowed, what to do.

    The commands print it without a traceback and exit with code 1.
    """


class CollectiveError(UserError):
    """An error that all ranks raise at the same step. Ranks other than 0 set `silent` and print nothing."""

    silent = False


class NonFiniteError(CollectiveError):
    """A loss, a gradient or a weight is NaN or infinite."""


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its type's name if the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def explain(error: BaseException) -> str | None:
    """Return one sentence for an error that the user can fix, None for a bug."""
    if isinstance(error, InstantiationException) and error.__cause__ is not None:
        # a constructor that gets a wrong key or type raises TypeError
        cause = error.__cause__
        sentence = str(cause).strip() if isinstance(cause, TypeError) else explain(cause)
        key = str(error).rpartition("full_key: ")[2] if "full_key: " in str(error) else ""
        return f"{sentence} (config key {key})" if sentence and key else sentence
    if isinstance(error, UserError | ValueError | CompactHydraException):
        return str(error).strip()
    if isinstance(error, OSError):
        return f"{os.fsdecode(error.filename or 'a file')} cannot be read or written: {error.strerror or error}"
    # names instead of types: importing torch and lightning takes seconds
    if type(error).__name__ == "OutOfMemoryError":
        return f"the GPU has too little memory ({str(error).strip().splitlines()[0]}): lower data.batch_size"
    if type(error).__name__ == "MisconfigurationException":
        hint = ". trainer=cpu runs on every machine" if "backend" in str(error) else ""
        return f"the trainer cannot be set up: {str(error).strip().rstrip('.')}{hint}"
    return None
