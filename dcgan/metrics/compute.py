"""Compute metrics of images, for `python -m dcgan.evaluate` and during training."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from dcgan.common.cache import load_or_compute
from dcgan.common.device import float64_device
from dcgan.common.instantiate import require_instance
from dcgan.data.datamodule import BaseDataModule
from dcgan.metrics.base import Metric, MetricSpec
from dcgan.metrics.features import FeatureExtractor, FeatureFactory, ImageFeatures
from dcgan.metrics.judge import MissingJudgeError, load_data_judge
from dcgan.metrics.real_images import RealStatistics

Metrics = dict[str, Metric]
Report = Callable[[str], None]  # called with a description of the next measurement


def load_real_statistics(
    data: BaseDataModule, features: dict[str, FeatureFactory], device: torch.device
) -> RealStatistics:
    """Return the real images of a data module, with their judge, if there is one, and the chosen features.

    Raises:
        UserError: The data has no test images, or the features cannot be loaded.
        MissingJudgeError: The judge's features were chosen, and no judge was trained on this data.
    """
    data.prepare_data()
    device = float64_device(device)
    extractors = [require_instance("features", create(data, device), FeatureExtractor) for create in features.values()]
    try:
        judge = load_data_judge(data, device)
    except MissingJudgeError:
        judge = None
    return RealStatistics(data, extractors, judge, device)


def applicable_metrics(metrics: Metrics, has_judge: bool, has_labels: bool) -> Metrics:
    """Return the metrics that need no more than a judge and labels, if there are any."""
    return {
        name: metric
        for name, metric in metrics.items()
        if (has_judge or not metric.needs_judge) and (has_labels or not metric.needs_labels)
    }


def describe(metrics: Metrics, spaces: Iterable[str]) -> dict[str, MetricSpec]:
    """Return the description of each value, for the names of the feature extractors."""
    return {name: spec for metric in metrics.values() for name, spec in metric.describe(spaces).items()}


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
    key = [real.cache_key, data.limit, data.image_size, data.channels, data.mirrored, n, configs]
    shapes = dict.fromkeys(describe(metrics, real.spaces), ())
    return {name: value.item() for name, value in load_or_compute("baseline", key, shapes, compute).items()}
