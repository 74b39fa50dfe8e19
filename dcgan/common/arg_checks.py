"""Argument checks that raise ValueError with the argument's name, its value and what is allowed."""

import math


def check_bool(name: str, value: object) -> None:
    """Raise ValueError unless `value` is a boolean."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {value!r}")


def check_instance(name: str, value: object, kind: type) -> None:
    """Raise ValueError unless `value` is an instance of `kind`."""
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be a {kind.__name__}, got {value!r}")


def check_int(name: str, value: object, minimum: int, maximum: int | None = None, *, optional: bool = False) -> None:
    """Raise ValueError unless `value` is an integer in [minimum, maximum], or None if it is optional.

    `maximum=None` means no upper bound.
    """
    if optional and value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ValueError(f"{name} must be an integer >= {minimum}, got {value!r}")
    if maximum is not None and value > maximum:
        raise ValueError(f"{name} must be an integer <= {maximum:,}, got {value:,}")


def check_image_size(name: str, value: object, minimum: int) -> None:
    """Raise ValueError unless `value` is an integer >= `minimum`: networks and metrics are for square images only."""
    if isinstance(value, int):
        check_int(name, value, minimum)
    else:
        raise ValueError(
            f"{name} must be one integer >= {minimum}, got {value!r}: images are square, and pictures of other shapes "
            "are scaled and cropped"
        )


def check_ints(name: str, values: object, minimum: int) -> None:
    """Raise ValueError unless `values` is a list of integers >= `minimum`."""
    if not isinstance(values, list):
        raise ValueError(f"{name} must be a list of integers >= {minimum}, got {values!r}")
    for value in values:
        check_int(name, value, minimum)


def check_number(name: str, value: object, low: float, high: float, *, brackets: str = "[]") -> None:
    """Raise ValueError unless `value` is a finite number between `low` and `high`.

    Args:
        brackets: "[" or "]" to include an end of the range, "(" or ")" to exclude it.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        above_low = low <= value if brackets[0] == "[" else low < value
        below_high = value <= high if brackets[1] == "]" else value < high
        if above_low and below_high:
            return
    raise ValueError(f"{name} must be a number in {brackets[0]}{low:g}, {high:g}{brackets[1]}, got {value!r}")
