import math
from itertools import product

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from dcgan.metrics.distances import FrechetDistance, KernelDistance
from tests.metrics.building import FakeRealStatistics, random_features


def test_frechet_distance_matches_formula():
    samples, real = random_features(700, 1, shift=0.3), FakeRealStatistics(random_features(600, 2))
    a, b = (x.features["judge"].double().numpy() for x in (samples, real.test))
    covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = sqrtm(covariances[0] @ covariances[1]).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert FrechetDistance()(samples, real)["frechet"] == pytest.approx(expected, rel=1e-6)
    assert FrechetDistance()(real.test, real)["frechet"] == pytest.approx(0, abs=1e-6)


def test_kernel_distance_matches_unbiased_estimate():
    samples, real = random_features(60, 1, shift=0.3), FakeRealStatistics(random_features(60, 2))
    x, y = (s.features["judge"].double().numpy() for s in (samples, real.test))
    n = len(x)

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return (a @ b / len(a) + 1) ** 3

    within = sum(kernel(s[i], s[j]) for s in (x, y) for i, j in product(range(n), repeat=2) if i != j)
    across = sum(kernel(x[i], y[j]) for i, j in product(range(n), repeat=2))
    values = KernelDistance(subsets=3, subset_size=1000)(samples, real)
    assert values["kid"] == pytest.approx(within / (n * (n - 1)) - 2 * across / n**2, rel=1e-6)
    assert values["kid_std"] == pytest.approx(0, abs=1e-9)  # every subset contains all images


def test_kernel_distance_is_deterministic_and_keeps_random_state():
    samples, real = random_features(60, 1, shift=0.3), FakeRealStatistics(random_features(60, 2))
    metric = KernelDistance(subsets=20, subset_size=30)
    state = torch.get_rng_state()
    values = metric(samples, real)
    assert torch.equal(torch.get_rng_state(), state)
    assert values == metric(samples, real)
    assert values["kid_std"] > 0


def test_kernel_distance_of_equal_distributions_has_mean_zero():
    values = []
    for seed in range(30):
        samples, test = random_features(200, seed, d=3), random_features(200, seed + 50, d=3)
        values.append(KernelDistance(subsets=1, subset_size=1000)(samples, FakeRealStatistics(test))["kid"])
    assert min(values) < 0 < max(values)
    assert abs(np.mean(values)) < 2 * np.std(values) / math.sqrt(len(values)) * 1.5
