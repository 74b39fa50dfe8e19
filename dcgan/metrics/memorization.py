"""Whether the generator repeats its training images."""

from functools import lru_cache

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from dcgan.metrics.judge import Judged
from dcgan.metrics.metric import Figure, Metric
from dcgan.metrics.neighbours import nearest_distances
from dcgan.metrics.reference import Reference, flat

NEAR_COPY = 1 / 3


class Memorization(Metric):
    """How far samples are from their nearest training image, in pixels, and how far test images are from theirs.

    nearest_train: mean distance of the samples over mean distance of the test images; well below 1, samples are nearer
    to what G was trained on than new real images are. near_copies: share of samples less than a third as far from the
    nearest training image as from the second nearest (Yoon et al. 2023). The floor is that of the test images.
    """

    figures = {
        "nearest_train": Figure("distance to the training images", "floor"),
        "near_copies": Figure("share of near copies", "lower"),
    }

    def __call__(self, samples: Judged, real: Reference) -> dict[str, float]:
        distances, _ = to_train(samples, real)
        return {
            "nearest_train": (distances[:, 0].mean() / real.test_to_train[:, 0].mean()).item(),
            "near_copies": near_copies(distances),
        }

    def floor(self, train: Judged, real: Reference) -> dict[str, float]:
        return {"nearest_train": 1.0, "near_copies": near_copies(real.test_to_train)}


@lru_cache(maxsize=1)  # for the figures, then for the picture
def to_train(samples: Judged, real: Reference) -> tuple[Float[Tensor, "n 2"], Int64[Tensor, " n"]]:
    """From each sample to the nearest and second nearest training image, in pixels, and which the nearest is."""
    return nearest_distances(flat(samples.seen), real.trained_on)


def near_copies(distances: Tensor) -> float:
    return (distances[:, 0] < NEAR_COPY * distances[:, 1]).double().mean().item()


def closest_pairs(
    samples: Judged, real: Reference, n: int
) -> tuple[UInt8[Tensor, "n c 28 28"], UInt8[Tensor, "n c 28 28"]]:
    """The n samples that are nearest to a training image, relative to the second nearest one, and that image."""
    distances, indices = to_train(samples, real)
    closest = (distances[:, 0] / distances[:, 1]).argsort()[:n]
    twins = (real.trained_on[indices[closest]] * 255).round().to(torch.uint8)
    return samples.seen[closest], twins.reshape(-1, *samples.seen.shape[1:])
