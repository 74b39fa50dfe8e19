"""Fidelity and diversity apart: how many samples lie among the real images, how many real images have samples near."""

import torch

from dcgan.checks import check_int
from dcgan.metrics.judge import Judged
from dcgan.metrics.metric import Figure, Metric
from dcgan.metrics.neighbours import BLOCK, radii
from dcgan.metrics.reference import Reference


class Coverage(Metric):
    """Precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020), in the judge's
    features. An image's ball reaches to its k-th nearest neighbour of its own kind.

    precision: share of samples inside some real image's ball; recall: share of real images inside some sample's ball;
    density: mean number of real balls around a sample, over k; coverage: share of real images with a sample in their
    ball. Even real images do not get 1 everywhere: compare with the floor.
    """

    figures = {
        "precision": Figure("precision", "higher"),
        "recall": Figure("recall", "higher"),
        "density": Figure("density", "higher"),
        "coverage": Figure("coverage", "higher"),
    }

    def __init__(self, k: int) -> None:
        check_int("k", k, 1)
        self.k = k

    def __call__(self, samples: Judged, real: Reference) -> dict[str, float]:
        if min(len(samples), len(real)) <= self.k:
            return dict.fromkeys(self.figures, float("nan"))
        real_radii = real.radii(self.k)
        sample_radii = radii(samples.features, self.k)
        balls, recalled, covered = [], [], []
        for points, radius in zip(real.test.features.split(BLOCK), real_radii.split(BLOCK), strict=True):
            distances = torch.cdist(points, samples.features)
            inside = distances < radius[:, None]
            balls.append(inside.sum(dim=0))
            covered.append(inside.any(dim=1))
            recalled.append((distances < sample_radii).any(dim=1))
        around = torch.stack(balls).sum(dim=0)
        return {
            "precision": (around > 0).double().mean().item(),
            "recall": torch.cat(recalled).double().mean().item(),
            "density": around.double().mean().item() / self.k,
            "coverage": torch.cat(covered).double().mean().item(),
        }
