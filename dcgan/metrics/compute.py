"""Compute metrics of images, for `python -m dcgan.evaluate` and during training."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dcgan.common.cache import digest, load_or_compute
from dcgan.common.errors import UserError
from dcgan.data.datamodule import BaseDataModule
from dcgan.metrics.base import Metric
from dcgan.metrics.judge import ImageFeatures, load_judge
from dcgan.metrics.real_images import RealStatistics

Metrics = dict[str, Metric]
Report = Callable[[str], None]  # called with a description of the next measurement


def require_judge_data(data: BaseDataModule) -> BaseDataModule:
    """Return the data module. UserError if no judge can classify its images."""
    if data.classes is None:
        raise UserError(f"{data.dataset_name} has no classes, so it can have no judge")
    if data.channels != data.judged_channels:
        raise UserError(f"judges see grey images, and data.channels is {data.channels}")
    return data


def load_real_statistics(data: BaseDataModule, device: torch.device) -> RealStatistics:
    """Return the real images of a data module, with their judge.

    Raises:
        UserError: The data has no classes or is in color.
        MissingJudgeError: No judge was trained on this data.
    """
    data = require_judge_data(data)
    judge = load_judge(data.judge_name, device)
    data.prepare_data()
    return RealStatistics(data, judge, device)


def applicable_metrics(metrics: Metrics, has_judge: bool, has_labels: bool) -> Metrics:
    """Return the metrics that need no more than a judge and labels, if there are any."""
    return {
        name: metric
        for name, metric in metrics.items()
        if (has_judge or not metric.needs_judge) and (has_labels or not metric.needs_labels)
    }


def better_directions(metrics: Metrics) -> dict[str, str]:
    """Return `MetricSpec.better` of each value."""
    return {name: spec.better for metric in metrics.values() for name, spec in metric.specs.items()}


def measure(
    metrics: Metrics, samples: ImageFeatures, real: RealStatistics, report_progress: Report = lambda _: None
) -> dict[str, float]:
    """Return all values of the samples, in the metrics' order; NaN if undefined."""
    values: dict[str, float] = {}
    for name, metric in metrics.items():
        report_progress(name)
        values |= metric(samples, real)
    return values


def measure_baseline(
    metrics: Metrics, config: dict[str, Any], n: int, real: RealStatistics, report_progress: Report = lambda _: None
) -> dict[str, float]:
    """Return the values of n real images, from the cache if possible; `config`, of each metric, is part of the key."""

    def compute() -> dict[str, Tensor]:
        train = real.extract_train_features(n)
        values: dict[str, float] = {}
        for name, metric in metrics.items():
            report_progress(f"{name} of real images")
            values |= metric.baseline(train, real)
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}

    data = real.data
    configs = {name: config[name] for name in metrics}
    key = [real.cache_key, digest([real.train_images, real.train_labels]), data.limit, data.image_size, n, configs]
    return {name: value.item() for name, value in load_or_compute("floor", key, compute).items()}
