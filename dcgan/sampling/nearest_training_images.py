"""Samples next to their nearest training images, which show copies at a glance."""

import torch

from dcgan.metrics.nearest_neighbors import THUMBNAIL_SIZE, nearest_images
from dcgan.sampling.base import ImageSheet, SampleSource, SamplingMode

DEFAULT_N = 32
DEFAULT_COLUMNS = 4


class NearestTrainingImages(SamplingMode):
    """n pairs of a sample and, on its right, the nearest training image, with their distance as the caption.

    The distance is the root-mean-square difference of the pixels, in [0, 1], at 28 x 28 pixels.

    Args:
        n: Pairs; None: 32.
        seed: Seed of the latent vectors and labels, >= 0.
        nrow: Pairs per row; None: 4.
        label: Class of all samples; None: classes of a conditional model are sampled as in training.
    """

    def image_sheet(self, source: SampleSource) -> ImageSheet:
        n, data = self.n or DEFAULT_N, source.training_data
        labels = source.generator.labels(n, self.seed, self.label)
        samples = source.generate(source.z(n, self.seed), labels)
        distances, indices = nearest_images(samples, data.train_images, data.mirrored, source.generator.device)
        root_mean_squares = distances[:, 0] / (data.channels * THUMBNAIL_SIZE**2) ** 0.5
        images, _ = data.examples(indices.tolist())
        return ImageSheet(
            torch.cat((samples, images), dim=3),
            self.nrow or DEFAULT_COLUMNS,
            [f"{value:.2f}" for value in root_mean_squares.tolist()],
            labels=labels,
        )
