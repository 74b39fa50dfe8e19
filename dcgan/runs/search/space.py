"""The search space: from YAML to Optuna's distributions, and from a trial's values to Hydra's overrides."""

import re
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from dcgan.common.errors import UserError
from dcgan.common.overrides import quote

PLAIN_TEXT = re.compile(r"(?!(?:true|false|null|inf|nan)$)[A-Za-z_][\w/.-]*", re.IGNORECASE)
FORM = "a list of options, or {low: 1e-4, high: 1e-2} with log: true or step: if needed"


def override_text(value: Any) -> str:
    """Return a value of a config as Hydra's grammar of overrides reads it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{override_text(item)}' for key, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{','.join(map(override_text, value))}]"
    if isinstance(value, str) and not PLAIN_TEXT.fullmatch(value):
        return quote(value)
    return str(value)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def distribution(key: str, entry: Any) -> BaseDistribution:
    """Return the distribution of one key.

    A range is one of integers if all its numbers are integers. Options that are lists or dicts are stored as text.

    Args:
        key: For the error.
        entry: A list of options, or a dict with low, high, and optionally log or step.

    Raises:
        UserError: The entry has another form, or the range is empty.
    """
    try:
        if isinstance(entry, list):
            return CategoricalDistribution([override_text(o) if isinstance(o, list | dict) else o for o in entry])
        if isinstance(entry, dict) and {"low", "high"} <= entry.keys() <= {"low", "high", "step", "log"}:
            log = entry.get("log", False)
            numbers = {name: number for name, number in entry.items() if name != "log"}
            if isinstance(log, bool) and all(map(is_number, numbers.values())):
                integers = all(isinstance(number, int) for number in numbers.values())
                return (IntDistribution if integers else FloatDistribution)(**numbers, log=log)
    except ValueError as error:
        raise UserError(f"the search space of {key} is wrong: {error}") from error
    raise UserError(f"the search space of {key} must be {FORM}, got {entry!r}")


class SearchSpace:
    """The keys that a search varies.

    Args:
        params: By config key, a list of options, or a range {low, high, log, step}. At least one key.

    Raises:
        UserError: An entry is wrong, or there is none.
    """

    def __init__(self, params: dict[str, Any]) -> None:
        if not params:
            raise UserError("the search space is empty: give search=NAME, or keys below hydra.sweeper.params")
        self.params = params
        self.distributions = {key: distribution(key, entry) for key, entry in params.items()}

    def overrides(self, values: dict[str, Any]) -> list[str]:
        """Return the overrides that set these values, in the order of the space."""
        options = {key: entry for key, entry in self.params.items() if isinstance(entry, list)}
        chosen = {key: options[key][int(self.distributions[key].to_internal_repr(values[key]))] for key in options}
        return [f"{key}={override_text((values | chosen)[key])}" for key in self.params]

    def examples(self) -> list[dict[str, Any]]:
        """Return values that contain each option, and the lower end of each range, at least once."""
        choices = {key: self.choices(key) for key in self.params}
        n = max(map(len, choices.values()))
        return [{key: values[i % len(values)] for key, values in choices.items()} for i in range(n)]

    def choices(self, key: str) -> tuple[Any, ...]:
        kind = self.distributions[key]
        return kind.choices if isinstance(kind, CategoricalDistribution) else (self.params[key]["low"],)
