"""The training images as the networks see them."""

import torch

from dcgan.common.seeding import Stream, derive_generator
from dcgan.sampling.base import ImageSheet, SampleSource, SamplingMode

DEFAULT_N = 25


class RealImages(SamplingMode):
    """n random training images with their labels, if any, as captions.

    Args:
        n: Images; None: 25.
        seed: Seed of the selection, >= 0.
        nrow: Images per row; None: about square.
    """

    def image_sheet(self, source: SampleSource) -> ImageSheet:
        data = source.training_data
        rng = derive_generator(torch.device("cpu"), self.seed, Stream.SAMPLES)
        order = torch.randperm(data.n_images, generator=rng)
        images, captions = data.examples(order[: self.n or DEFAULT_N].tolist())
        # to the networks' range and back, as a network sees them
        images = data.pixels.decode(data.pixels.encode(images))
        return ImageSheet(images, self.nrow or round(len(images) ** 0.5), captions)
