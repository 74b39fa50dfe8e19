"""What a constructor or a command says when it is given something it cannot work with."""

import math


class UserError(Exception):
    """A mistake that its user can mend: the message is one sentence that says what is wrong and what to do.

    The commands print it without a traceback and exit with code 1.
    """


class SharedError(UserError):
    """One that all processes of a run raise at the same step: on the others it is silent."""

    silent = False


class NonFiniteError(SharedError):
    """A loss, a gradient or a weight is NaN or infinite. first: whether the run has not gone back because of one."""

    first = True


def first_line(error: Exception) -> str:
    """What an error says, in short."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def check_int(name: str, value: object, minimum: int, maximum: int | None = None, *, optional: bool = False) -> None:
    """Raise ValueError unless `value` is an integer >= `minimum` and <= `maximum`, where there is one, or None where it
    is optional."""
    if optional and value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ValueError(f"{name} must be an integer >= {minimum}, got {value!r}")
    if maximum is not None and value > maximum:
        raise ValueError(f"{name} must be an integer <= {maximum:,}, got {value:,}")


def check_ints(name: str, values: object, minimum: int) -> None:
    """Raise ValueError unless `values` is a list of integers >= `minimum`."""
    if not isinstance(values, list):
        raise ValueError(f"{name} must be a list of integers >= {minimum}, got {values!r}")
    for value in values:
        check_int(name, value, minimum)


def check_number(name: str, value: object, low: float, high: float, *, brackets: str = "[]") -> None:
    """Raise ValueError unless `value` is a number between `low` and `high`.

    brackets: "[" or "]" where that end belongs to the range, "(" or ")" where it does not.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        above = low <= value if brackets[0] == "[" else low < value
        below = value <= high if brackets[1] == "]" else value < high
        if above and below:
            return
    raise ValueError(f"{name} must be a number in {brackets[0]}{low:g}, {high:g}{brackets[1]}, got {value!r}")
