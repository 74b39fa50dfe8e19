"""The training images as the networks see them."""

import math

import torch

from dcgan.checks import check_int
from dcgan.modes.mode import Mode, Source, Still
from dcgan.seeding import Stream, derive_generator

N = 25


class RealImages(Mode):
    """n training images, picked by the seed, each under its label where the data set has labels.

    nrow: images in a row; None: as square as n allows.
    """

    def __init__(self, n: int | None, seed: int, nrow: int | None) -> None:
        super().__init__(n, seed)
        check_int("nrow", nrow, 1, optional=True)
        self.nrow = nrow

    def still(self, source: Source) -> Still:
        data = source.real()
        data.prepare_data()
        data.setup("fit")
        rng = derive_generator(torch.device("cpu"), self.seed, Stream.SAMPLES)
        order = torch.randperm(data.n_images, generator=rng)
        images, captions = data.examples(order[: self.n or N].tolist())
        # to the networks' range and back: what they see
        seen = data.pixels.decode(data.pixels.encode(images))
        return Still(seen, self.nrow or max(1, round(math.sqrt(len(seen)))), captions)
