"""From images to figures: what `python -m dcgan.evaluate` and a training's own measurements share."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dcgan.cache import cached, digest
from dcgan.checks import UserError
from dcgan.data import ImageData, InMemoryData
from dcgan.metrics.judge import Judged, load_judge
from dcgan.metrics.metric import Metric
from dcgan.metrics.reference import Reference

Metrics = dict[str, Metric]
Tell = Callable[[str], None]  # is told what is measured next


def silent(what: str) -> None:
    """Tell nobody."""


def judged(data: ImageData) -> InMemoryData:
    """The data module, of whose images there can be a judge; UserError for another one."""
    if not isinstance(data, InMemoryData):
        raise UserError(f"{data.dataset_name} has neither test images nor classes, so it can have no judge")
    if data.channels != data.judged_channels:
        raise UserError(f"judges see grey images, and data.channels is {data.channels}")
    return data


def reference(data: ImageData, device: torch.device) -> Reference:
    """The real images of a data module and their judge.

    UserError where the data has no test images or colours; MissingJudgeError where it has no judge yet.
    """
    data = judged(data)
    judge = load_judge(data.judged_as, device)
    data.prepare_data()
    return Reference(data, judge)


def that_apply(metrics: Metrics, judged: bool, labelled: bool) -> Metrics:
    """The metrics that can be measured with or without a judge, on samples with or without labels."""
    return {
        name: metric
        for name, metric in metrics.items()
        if (judged or not metric.needs_judge) and (labelled or not metric.needs_labels)
    }


def directions(metrics: Metrics) -> dict[str, str]:
    """Where each figure should go, as `Figure.better` says."""
    return {name: figure.better for metric in metrics.values() for name, figure in metric.figures.items()}


def measure(metrics: Metrics, samples: Judged, real: Reference, tell: Tell = silent) -> dict[str, float]:
    """All figures of the samples, in the metrics' order; NaN where one is undefined."""
    figures: dict[str, float] = {}
    for name, metric in metrics.items():
        tell(name)
        figures |= metric(samples, real)
    return figures


def measure_floor(
    metrics: Metrics, config: dict[str, Any], n: int, real: Reference, tell: Tell = silent
) -> dict[str, float]:
    """The same figures of n real images; kept in the cache, with `config`, what each metric was made from."""

    def compute() -> dict[str, Tensor]:
        train = real.train(n)
        figures: dict[str, float] = {}
        for name, metric in metrics.items():
            tell(f"{name}, of real images")
            figures |= metric.floor(train, real)
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in figures.items()}

    data = real.data
    made_from = {name: config[name] for name in metrics}
    key = [real.key, digest([real.train_images, real.train_labels]), data.limit, data.image_size, n, made_from]
    return {name: value.item() for name, value in cached("floor", key, compute).items()}
