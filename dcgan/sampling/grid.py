"""Images of independent latent vectors."""

import math

import torch
from torch import Tensor

from dcgan.sampling.base import ImageSheet, SampleSource, SamplingMode

DEFAULT_N = 64
IMAGES_PER_CLASS = 10  # default of a conditional model


class Grid(SamplingMode):
    """A grid of n images; the latent vector of image i depends only on (seed, i).

    Args:
        n: Images; None: 64, or 10 per class of a conditional model.
        seed: Seed of the latent vectors, >= 0.
        nrow: Images per row; None: about square, or one row per class.
        label: Class of all images; None: each row of a conditional model shows the next class.
    """

    def image_sheet(self, source: SampleSource) -> ImageSheet:
        classes = source.generator.classes
        if classes and self.label is None:
            n = self.n or IMAGES_PER_CLASS * classes
            columns = self.nrow or math.ceil(n / classes)
            labels: Tensor | None = torch.arange(n) // columns % classes
        else:
            n = self.n or DEFAULT_N
            columns = self.nrow or round(n**0.5)
            labels = source.generator.labels(n, self.seed, self.label)
        return ImageSheet(source.generate(source.z(n, self.seed), labels), columns, labels=labels)
