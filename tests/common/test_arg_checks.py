"""Argument checks name the argument, the value and what is allowed."""

import math

import pytest

from dcgan.common.arg_checks import check_bool, check_int, check_ints, check_number


@pytest.mark.parametrize("value", [0, True, 1.0, "1", None, math.nan])
def test_value_that_is_no_integer_in_range_is_rejected(value):
    with pytest.raises(ValueError, match=rf"^n must be an integer >= 1, got {value!r}$"):
        check_int("n", value, 1)


def test_integer_bounds_are_inclusive():
    check_int("n", 1, 1, 2000)
    check_int("n", 2000, 1, 2000)
    with pytest.raises(ValueError, match=r"^n must be an integer <= 2,000, got 2,001$"):
        check_int("n", 2001, 1, 2000)


def test_none_is_accepted_if_optional():
    check_int("n", None, 1, optional=True)
    with pytest.raises(ValueError, match="n must be an integer >= 1, got 0"):
        check_int("n", 0, 1, optional=True)


@pytest.mark.parametrize("value", [0, 1, "true", None])
def test_value_that_is_no_boolean_is_rejected(value):
    check_bool("flip", True)
    with pytest.raises(ValueError, match=rf"^flip must be true or false, got {value!r}$"):
        check_bool("flip", value)


def test_list_of_integers():
    check_ints("steps", [0, 5], 0)
    check_ints("steps", [], 0)
    with pytest.raises(ValueError, match="steps must be a list of integers >= 0, got 5"):
        check_ints("steps", 5, 0)
    with pytest.raises(ValueError, match="steps must be an integer >= 0, got -1"):
        check_ints("steps", [0, -1], 0)


@pytest.mark.parametrize(
    ("brackets", "accepted"), [("[]", (0, 0.5, 1)), ("[)", (0, 0.5)), ("(]", (0.5, 1)), ("()", (0.5,))]
)
def test_brackets_include_or_exclude_the_ends_of_a_range(brackets, accepted):
    for value in (-0.1, 0, 0.5, 1, 1.1):
        if value in accepted:
            check_number("p", value, 0, 1, brackets=brackets)
        else:
            with pytest.raises(ValueError, match=r"p must be a number in .0, 1., got"):
                check_number("p", value, 0, 1, brackets=brackets)


@pytest.mark.parametrize("value", [True, "0.5", None, math.nan, math.inf])
def test_value_that_is_no_finite_number_is_rejected(value):
    with pytest.raises(ValueError, match=r"p must be a number in \[0, inf\), got"):
        check_number("p", value, 0, math.inf, brackets="[)")
