import numpy as np
import pytest

from dcgan.metrics.prdc import Coverage
from tests.metrics.building import FakeRealStatistics, random_features


def test_precision_recall_density_and_coverage_match_their_definitions():
    samples, real, k = random_features(700, 1, shift=0.3), FakeRealStatistics(random_features(600, 2)), 5
    fake, test = (images.features["judge"].double().numpy() for images in (samples, real.test))

    def radii(points: np.ndarray) -> np.ndarray:
        distances = np.linalg.norm(points[:, None] - points[None], axis=2)
        np.fill_diagonal(distances, np.inf)
        return np.sort(distances, axis=1)[:, k - 1]

    across = np.linalg.norm(test[:, None] - fake[None], axis=2)
    in_real_ball = across < radii(test)[:, None]
    expected = {
        "precision": in_real_ball.any(0).mean(),
        "recall": (across < radii(fake)[None]).any(1).mean(),
        "density": in_real_ball.sum(0).mean() / k,
        "coverage": in_real_ball.any(1).mean(),
    }
    assert Coverage(k)(samples, real) == pytest.approx(expected, abs=2e-3)
    assert len({round(value, 3) for value in expected.values()}) == 4  # the values differ in this example
