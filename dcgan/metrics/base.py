"""The interface of all metrics."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from dcgan.metrics.judge import ImageFeatures
from dcgan.metrics.real_images import RealStatistics


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
        needs_judge: True if it reads the judge's features or logits.
        needs_labels: True if it reads the images' labels.
    """

    specs: dict[str, MetricSpec]
    needs_judge = True
    needs_labels = False

    def __call__(self, samples: ImageFeatures, real: RealStatistics) -> dict[str, float]:
        raise NotImplementedError

    def baseline(self, train: ImageFeatures, real: RealStatistics) -> dict[str, float]:
        """Return the values of real images: `train` holds as many training images as there are samples."""
        return self(train, real)


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
