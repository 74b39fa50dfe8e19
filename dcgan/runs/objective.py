"""The value that a sweep's optimizer minimizes."""

import math
from collections.abc import Container, Iterable
from typing import Any


def metric_name(name: str, spaces: Iterable[str], measured: Container[str]) -> str:
    """Return the full name of a metric of features: that of the first feature space in which it is measured.

    Args:
        name: Such as "frechet", or the full name "frechet_inception", which is returned as it is.
        spaces: The names of the run's feature extractors.
        measured: The names of all measured metrics.
    """
    from dcgan.metrics.base import value_name  # imports torch

    return next((full for space in spaces if (full := value_name(name, space)) in measured), name)


def minimized(value: float | None, better: str) -> float:
    """Return a metric's value for an optimizer that minimizes, infinity if it is undefined (None or NaN).

    Args:
        value: The metric.
        better: `MetricSpec.better`. If "higher", the value is negated; if "zero", its absolute value is returned.
    """
    if value is None or math.isnan(value):
        return math.inf
    return {"higher": -value, "zero": abs(value)}.get(better, value)


def objective_value(summary: dict[str, Any], name: str) -> float:
    """Return the final value of a metric for an optimizer that minimizes, infinity if it is undefined.

    Args:
        summary: The content of a run's summary.json.
        name: The metric. A metric of features is that of the first ones, unless its name ends in theirs, such as
            frechet_inception.
    """
    name = metric_name(name, summary.get("features", {}), summary["metrics"])
    return minimized(summary["metrics"].get(name), summary["better"].get(name, "lower"))
