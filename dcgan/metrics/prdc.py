"""Precision, recall, density and coverage: fidelity and diversity as separate values."""

import torch
from jaxtyping import Float
from torch import Tensor

from dcgan.common.arg_checks import check_int
from dcgan.common.device import tf32
from dcgan.metrics.base import FeatureMetric, MetricSpec
from dcgan.metrics.nearest_neighbors import BLOCK_SIZE, kth_nearest_distances
from dcgan.metrics.real_images import FeatureSpace


class Coverage(FeatureMetric):
    """Precision, recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020) of features.

    The ball of an image reaches to its k-th nearest neighbor of the same kind (real or generated).

    precision: Share of samples inside at least one real image's ball.
    recall: Share of real images inside at least one sample's ball.
    density: Mean number of real balls that contain a sample, over k.
    coverage: Share of real images with a sample in their ball.

    Real images do not reach 1 everywhere: compare with the baseline.

    Args:
        k: Rank of the neighbor, >= 1.
    """

    specs = {
        "precision": MetricSpec("precision", "higher"),
        "recall": MetricSpec("recall", "higher"),
        "density": MetricSpec("density", "higher"),
        "coverage": MetricSpec("coverage", "higher"),
    }

    def __init__(self, k: int) -> None:
        check_int("k", k, 1)
        self.k = k

    @tf32(allowed=False)
    def measure(self, samples: Float[Tensor, "n d"], real: FeatureSpace) -> dict[str, float]:
        if min(len(samples), len(real.test)) <= self.k:
            return dict.fromkeys(self.specs, float("nan"))
        real_radii = real.kth_nearest_distances(self.k)
        sample_radii = kth_nearest_distances(samples, self.k)
        ball_counts, recalled, covered = [], [], []
        for points, radii in zip(real.test.split(BLOCK_SIZE), real_radii.split(BLOCK_SIZE), strict=True):
            distances = torch.cdist(points, samples)
            is_inside = distances < radii[:, None]
            ball_counts.append(is_inside.sum(dim=0))
            covered.append(is_inside.any(dim=1))
            recalled.append((distances < sample_radii).any(dim=1))
        balls_per_sample = torch.stack(ball_counts).sum(dim=0)
        return {
            "precision": (balls_per_sample > 0).double().mean().item(),
            "recall": torch.cat(recalled).double().mean().item(),
            "density": balls_per_sample.double().mean().item() / self.k,
            "coverage": torch.cat(covered).double().mean().item(),
        }
