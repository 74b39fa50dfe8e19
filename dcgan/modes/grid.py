"""Images of independent latent vectors."""

import math

import torch
from torch import Tensor

from dcgan.checks import check_int
from dcgan.modes.mode import Mode, Source, Still

N = 64
COLUMNS = 10  # of a conditional model


class Grid(Mode):
    """n images; the latent vector of image i depends on (seed, i) alone. A conditional model draws a row of each
    class, or, with a label, that class alone.

    nrow: images in a row; None: as square as n allows, or a row for each class. label: a class, None: all.
    """

    def __init__(self, n: int | None, seed: int, nrow: int | None, label: int | None) -> None:
        super().__init__(n, seed)
        check_int("nrow", nrow, 1, optional=True)
        self.nrow, self.label = nrow, label

    def still(self, source: Source) -> Still:
        classes = source.generator.classes
        rows_of_classes = classes > 0 and self.label is None
        n = self.n or (COLUMNS * classes if rows_of_classes else N)
        if rows_of_classes:
            columns = self.nrow or math.ceil(n / classes)
            labels: Tensor | None = torch.arange(n) // columns % classes
        else:
            columns = self.nrow or max(1, round(math.sqrt(n)))
            labels = source.generator.labels(n, self.seed, self.label)
        images = source.draw(source.generator.z(n, self.seed), labels)
        return Still(images, columns, labels=labels)
