"""What every metric is."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from dcgan.metrics.judge import Judged
from dcgan.metrics.reference import Reference


@dataclass(frozen=True)
class Figure:
    """One number: its full name, and where it should go: "lower", "higher", to "zero", to the real images' "floor", or
    nowhere ("")."""

    label: str
    better: str


class Metric:
    """Figures of generated images. `figures` are those that a call returns, NaN where one is undefined.

    needs_judge: whether it reads the judge's features or logits; needs_labels: whether it reads the images' labels.
    """

    figures: dict[str, Figure]
    needs_judge = True
    needs_labels = False

    def __call__(self, samples: Judged, real: Reference) -> dict[str, float]:
        raise NotImplementedError

    def floor(self, train: Judged, real: Reference) -> dict[str, float]:
        """What real images get in place of generated ones: training images, as many as there are samples."""
        return self(train, real)


@contextmanager
def library_code() -> Iterator[None]:
    """In here torch's global generator starts the same each time, and is left as it was; torchmetrics' hints that
    it keeps what it is given and that one part has no spread are not shown."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* will save all extracted features in buffer")
        warnings.filterwarnings("ignore", message=r"std\(\): degrees of freedom")
        torch.default_generator.manual_seed(0)
        yield
