"""Properties of every metric."""

import math
from dataclasses import replace

import pytest

from dcgan.metrics.classes import ClassBalance, ClassifierScore
from dcgan.metrics.distances import FrechetDistance, KernelDistance
from dcgan.metrics.features import concatenate
from dcgan.metrics.memorization import Memorization
from dcgan.metrics.prdc import Coverage
from dcgan.metrics.sliced_wasserstein import SlicedWasserstein
from tests.metrics.building import FakeRealStatistics, random_features

METRICS = [
    FrechetDistance(),
    KernelDistance(5, 100),
    Coverage(5),
    ClassifierScore(10),
    ClassBalance(0.9),
    Memorization(),
    SlicedWasserstein(),
]


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: type(metric).__name__)
@pytest.mark.parametrize("n", [1, 2, 4, 50])
def test_metric_of_few_or_identical_images_is_number_or_nan(metric, n):
    one = random_features(1, 0)
    repeated = concatenate([one] * n)
    values = metric(repeated, FakeRealStatistics(random_features(50, 1), random_features(50, 2).images))
    assert values.keys() == metric.specs.keys()
    assert all(isinstance(value, int | float) for value in values.values())
    if n == 50:
        assert all(math.isfinite(value) for value in values.values()), values


@pytest.mark.parametrize(
    "build",
    [
        lambda: Coverage(0),
        lambda: KernelDistance(0, 10),
        lambda: KernelDistance(10, 1),
        lambda: ClassifierScore(0),
        lambda: ClassBalance(2),
    ],
)
def test_invalid_settings_are_rejected(build):
    with pytest.raises(ValueError, match="must be"):
        build()


def test_baseline_is_value_of_training_images():
    train, real = random_features(80, 1), FakeRealStatistics(random_features(90, 2))
    assert FrechetDistance().baseline(train, real) == FrechetDistance()(train, real)


def test_values_of_each_feature_space_have_its_name():
    samples, test = random_features(80, 1), random_features(90, 2)
    samples, test = (
        replace(images, features={"judge": images.features["judge"], "other": 2 * images.features["judge"]})
        for images in (samples, test)
    )
    metric = FrechetDistance()
    values = metric(samples, FakeRealStatistics(test))
    assert values == {"frechet": values["frechet"], "frechet_other": pytest.approx(4 * values["frechet"])}
    assert metric.describe(["judge", "other"]).keys() == values.keys()
