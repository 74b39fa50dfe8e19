"""Random images and features that no judge has computed."""

import numpy as np
import torch

from dcgan.metrics.judge import ImageFeatures
from dcgan.metrics.nearest_neighbors import kth_nearest_distances, nearest_distances
from dcgan.metrics.real_images import flatten_pixels


def random_features(n: int, seed: int, shift: float = 0.0, d: int = 6) -> ImageFeatures:
    """Return n random images, with features from a normal distribution of mean `shift` and deviation 1 + `shift`."""
    rng = np.random.default_rng(seed)
    features = torch.from_numpy(rng.normal(shift, 1 + shift, (n, d)).astype(np.float32))
    images = torch.from_numpy(rng.integers(0, 256, (n, 1, 28, 28), dtype=np.uint8))
    logits = torch.from_numpy(rng.normal(0, 3, (n, 10)).astype(np.float32))
    return ImageFeatures(images, images, features, logits)


def with_logits(samples: ImageFeatures, logits: torch.Tensor) -> ImageFeatures:
    return ImageFeatures(samples.images, samples.judge_input, samples.features, logits)


class FakeRealStatistics:
    """The part of `RealStatistics` that metrics read, from given features."""

    def __init__(self, test: ImageFeatures, train_images: torch.Tensor | None = None) -> None:
        self.test = test
        self.class_prior = torch.full((10,), 0.1)
        if train_images is not None:
            self.train_pixels = flatten_pixels(train_images)
            self.test_to_train_distances = nearest_distances(flatten_pixels(test.judge_input), self.train_pixels)[0]

    def __len__(self) -> int:
        return len(self.test)

    def kth_nearest_distances(self, k: int) -> torch.Tensor:
        return kth_nearest_distances(self.test.features, k)
