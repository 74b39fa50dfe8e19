"""The interface of all metrics."""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dcgan.metrics.features import ImageFeatures
from dcgan.metrics.judge import JudgeFeatures
from dcgan.metrics.real_images import FeatureSpace, RealStatistics


@dataclass(frozen=True)
class MetricSpec:
    """The description of one metric value.

    Args:
        label: Its full name, with the unit.
        better: The best direction: "lower", "higher", "zero" (nearest to 0), "floor" (nearest to the real-data
            baseline), or "" (none).
    """

    label: str
    better: str


class Metric:
    """A measurement of generated images.

    Attributes:
        specs: The values that a call returns, by name. A value is NaN if it is undefined.
        needs_judge: True if it reads the judge's logits.
        needs_labels: True if it reads the images' labels.
        at_start: True if it is also measured before the first step, on fewer images.
    """

    specs: dict[str, MetricSpec]
    needs_judge = False
    needs_labels = False
    at_start = False

    def __call__(self, samples: ImageFeatures, real: RealStatistics) -> dict[str, float]:
        raise NotImplementedError

    def baseline(self, train: ImageFeatures, real: RealStatistics) -> dict[str, float]:
        """Return the values of real images: `train` holds as many training images as there are samples."""
        return self(train, real)

    def describe(self, spaces: Iterable[str]) -> dict[str, MetricSpec]:
        """Return the description of each value that a call returns, for the names of the feature extractors."""
        return self.specs


class FeatureMetric(Metric):
    """A metric of features, which is measured in each feature space. A subclass defines `measure`.

    The values of `specs` are those of the judge's features. In another space their name ends in that of the space, such
    as `frechet_random_conv`.
    """

    def measure(self, samples: Float[Tensor, "n d"], real: FeatureSpace) -> dict[str, float]:
        """Return the values of the samples' features in one space."""
        raise NotImplementedError

    def __call__(self, samples: ImageFeatures, real: RealStatistics) -> dict[str, float]:
        values: dict[str, float] = {}
        for space, real_features in real.spaces.items():
            measured = self.measure(samples.features[space], real_features)
            values |= {value_name(name, space): value for name, value in measured.items()}
        return values

    def describe(self, spaces: Iterable[str]) -> dict[str, MetricSpec]:
        return {value_name(name, space): spec for space in spaces for name, spec in self.specs.items()}


def value_name(name: str, space: str) -> str:
    """Return the name of a metric's value in a feature space."""
    return name if space == JudgeFeatures.name else f"{name}_{space}"


@contextmanager
def isolated_library_call() -> Iterator[None]:
    """Within the context, seed torch's global generator with 0 and hide two warnings of torchmetrics.

    The generator's state is restored at the end.
    """
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* will save all extracted features in buffer")
        warnings.filterwarnings("ignore", message=r"std\(\): degrees of freedom")
        torch.default_generator.manual_seed(0)
        yield
