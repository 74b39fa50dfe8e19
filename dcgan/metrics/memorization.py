"""Memorization: copies of training images among the samples."""

from functools import lru_cache

from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from dcgan.metrics.base import Metric, MetricSpec
from dcgan.metrics.features import ImageFeatures
from dcgan.metrics.real_images import RealStatistics

NEAR_COPY_RATIO = 1 / 3


class Memorization(Metric):
    """Pixel distances from samples to their nearest training images, compared with those of test images.

    nearest_train: Mean distance of the samples over that of the test images. Well below 1, samples are closer to the
        training images than new real images are.
    near_copies: Share of samples whose distance to the nearest training image is less than a third of that to the
        second nearest (Yoon et al. 2023).

    The baseline is that of the test images.
    """

    specs = {
        "nearest_train": MetricSpec("distance to the training images", "floor"),
        "near_copies": MetricSpec("share of near copies", "lower"),
    }

    def __call__(self, samples: ImageFeatures, real: RealStatistics) -> dict[str, float]:
        distances, _ = nearest_train_images(samples, real)
        return {
            "nearest_train": (distances[:, 0].mean() / real.test_to_train_distances[:, 0].mean()).item(),
            "near_copies": near_copy_share(distances),
        }

    def baseline(self, train: ImageFeatures, real: RealStatistics) -> dict[str, float]:
        return {"nearest_train": 1.0, "near_copies": near_copy_share(real.test_to_train_distances)}


@lru_cache(maxsize=1)  # called for the metric, then for the image of the closest pairs
def nearest_train_images(
    samples: ImageFeatures, real: RealStatistics
) -> tuple[Float[Tensor, "n 2"], Int64[Tensor, " n"]]:
    """Return each sample's pixel distances to the two nearest training images, and the nearest one's index."""
    return real.nearest_train_images(samples.images)


def near_copy_share(distances: Float[Tensor, "n 2"]) -> float:
    return (distances[:, 0] < NEAR_COPY_RATIO * distances[:, 1]).double().mean().item()


def closest_pairs(
    samples: ImageFeatures, real: RealStatistics, n: int
) -> tuple[UInt8[Tensor, "n c h w"], UInt8[Tensor, "n c h w"]]:
    """Return the n samples that are closest to a training image, relative to the second nearest, and those images."""
    distances, indices = nearest_train_images(samples, real)
    closest = (distances[:, 0] / distances[:, 1]).argsort()[:n]
    return samples.images[closest], real.data.resize(real.train_images[indices[closest].cpu()]).to(real.device)
