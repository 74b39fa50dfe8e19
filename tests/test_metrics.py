"""Each figure against a computation of its own, on features that are not the judge's."""

import math
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from dcgan.metrics.classes import ClassBalance, ClassifierScore
from dcgan.metrics.coverage import Coverage
from dcgan.metrics.distances import FrechetDistance, KernelDistance
from dcgan.metrics.judge import Judged
from dcgan.metrics.memorization import Memorization, closest_pairs
from dcgan.metrics.neighbours import nearest_distances, radii
from dcgan.metrics.reference import flat


def judged(n: int, seed: int, shift: float = 0.0, d: int = 6) -> Judged:
    rng = np.random.default_rng(seed)
    features = torch.from_numpy(rng.normal(shift, 1 + shift, (n, d)).astype(np.float32))
    images = torch.from_numpy(rng.integers(0, 256, (n, 1, 28, 28), dtype=np.uint8))
    logits = torch.from_numpy(rng.normal(0, 3, (n, 10)).astype(np.float32))
    return Judged(images, images, features, logits)


class Real:
    """What a metric reads of a Reference."""

    def __init__(self, test: Judged, train_images: torch.Tensor | None = None) -> None:
        self.test = test
        self.prior = torch.full((10,), 0.1)
        if train_images is not None:
            self.trained_on = flat(train_images)
            self.test_to_train = nearest_distances(flat(test.seen), self.trained_on)[0]

    def __len__(self) -> int:
        return len(self.test)

    def radii(self, k: int) -> torch.Tensor:
        return radii(self.test.features, k)


@pytest.fixture
def pair() -> tuple[Judged, Real]:
    return judged(700, 1, shift=0.3), Real(judged(600, 2))


def test_frechet_distance_is_that_of_the_formula(pair):
    samples, real = pair
    a, b = (x.features.double().numpy() for x in (samples, real.test))
    covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = sqrtm(covariances[0] @ covariances[1]).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert FrechetDistance()(samples, real)["frechet"] == pytest.approx(expected, rel=1e-6)
    assert FrechetDistance()(real.test, real)["frechet"] == pytest.approx(0, abs=1e-6)


def test_kernel_distance_is_the_unbiased_estimate_and_does_not_disturb_the_random_state():
    samples, real = judged(60, 1, shift=0.3), Real(judged(60, 2))
    x, y = (s.features.double().numpy() for s in (samples, real.test))
    n = len(x)

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return (a @ b / len(a) + 1) ** 3

    same = sum(kernel(s[i], s[j]) for s in (x, y) for i, j in product(range(n), repeat=2) if i != j)
    across = sum(kernel(x[i], y[j]) for i, j in product(range(n), repeat=2))
    expected = same / (n * (n - 1)) - 2 * across / n**2
    state = torch.get_rng_state()
    whole = KernelDistance(subsets=3, subset_size=1000)(samples, real)
    assert torch.equal(torch.get_rng_state(), state)
    assert whole["kid"] == pytest.approx(expected, rel=1e-6)
    assert whole["kid_std"] == pytest.approx(0, abs=1e-9)  # the subsets are all the same here
    parts = KernelDistance(subsets=20, subset_size=30)
    assert parts(samples, real) == parts(samples, real)
    assert parts(samples, real)["kid_std"] > 0


def test_the_unbiased_kernel_distance_of_equal_distributions_is_around_zero():
    values = [
        KernelDistance(subsets=1, subset_size=1000)(judged(200, s, d=3), Real(judged(200, s + 50, d=3)))["kid"]
        for s in range(30)
    ]
    assert min(values) < 0 < max(values)
    assert abs(np.mean(values)) < 2 * np.std(values) / math.sqrt(len(values)) * 1.5


def test_precision_recall_density_and_coverage_are_those_of_their_definitions(pair):
    samples, real = pair
    k = 5
    fake, test = samples.features.double().numpy(), real.test.features.double().numpy()

    def reach(points: np.ndarray) -> np.ndarray:
        distances = np.linalg.norm(points[:, None] - points[None], axis=2)
        np.fill_diagonal(distances, np.inf)
        return np.sort(distances, axis=1)[:, k - 1]

    across = np.linalg.norm(test[:, None] - fake[None], axis=2)
    in_real_ball = across < reach(test)[:, None]
    expected = {
        "precision": in_real_ball.any(0).mean(),
        "recall": (across < reach(fake)[None]).any(1).mean(),
        "density": in_real_ball.sum(0).mean() / k,
        "coverage": in_real_ball.any(1).mean(),
    }
    assert Coverage(k)(samples, real) == pytest.approx(expected, abs=2e-3)
    assert len({round(value, 3) for value in expected.values()}) == 4  # the example tells them apart


def test_classifier_score_is_that_of_its_definition():
    samples = judged(400, 3)
    p = samples.logits.double().softmax(1).numpy()
    expected = np.exp((p * (np.log(p) - np.log(p.mean(0)))).sum(1).mean())
    score = ClassifierScore(splits=1)(samples, Real(samples))["classifier_score"]
    assert score == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("drawn", "classes"), [(range(10), 10), ([3], 1), ([1, 7], 2)])
def test_class_balance_counts_the_classes_and_weighs_them_against_the_prior(drawn, classes):
    labels = torch.tensor(list(drawn) * (100 // len(drawn)))
    samples = judged(len(labels), 0)
    samples = Judged(samples.images, samples.seen, samples.features, 9.0 * torch.eye(10)[labels])
    figures = ClassBalance(sure_above=0.9)(samples, Real(samples))
    assert figures["classes"] == classes
    assert figures["class_kl"] == pytest.approx(math.log(10 / classes), abs=1e-6)
    assert figures["sure"] == 1
    unsure = Judged(samples.images, samples.seen, samples.features, 1.0 * torch.eye(10)[labels])
    assert ClassBalance(sure_above=0.9)(unsure, Real(samples))["sure"] == 0


def test_a_class_that_is_hardly_drawn_is_not_found():
    labels = torch.tensor([0] * 995 + [1] * 5)
    samples = judged(1000, 0)
    samples = Judged(samples.images, samples.seen, samples.features, torch.eye(10)[labels])
    assert ClassBalance(0.9)(samples, Real(samples))["classes"] == 1


def test_nearest_neighbours_are_those_of_a_full_search():
    rng = torch.Generator().manual_seed(0)
    points, others = torch.rand(1300, 20, generator=rng), torch.rand(700, 20, generator=rng)
    sorted_, order = torch.cdist(points.double(), others.double()).sort(dim=1)
    distances, indices = nearest_distances(points, others)
    assert torch.allclose(distances.double(), sorted_[:, :2], atol=1e-4)
    assert torch.equal(indices, order[:, 0])
    assert torch.allclose(
        radii(others, 3).double(), torch.cdist(others.double(), others.double()).sort(1).values[:, 3], atol=1e-4
    )
    assert radii(others[:3], 3).isinf().all()


def test_planted_copies_of_training_images_are_found():
    train, test = judged(300, 5).images, judged(200, 6)
    real = Real(test, train)
    samples = judged(100, 7).images.clone()
    samples[:25] = train[100:125]
    samples[:25, 0, 0, 0] += 1  # a copy but for a pixel
    copied = Judged(samples, samples, test.features[:100], test.logits[:100])
    figures = Memorization()(copied, real)
    assert figures["near_copies"] == 0.25
    assert figures["nearest_train"] == pytest.approx(0.75, abs=0.02)
    found, twins = closest_pairs(copied, real, 25)
    assert {tuple(x.flatten()[1:].tolist()) for x in found} == {tuple(x.flatten()[1:].tolist()) for x in twins}
    fresh = Memorization()(judged(100, 8), real)
    assert fresh["near_copies"] == 0
    assert fresh["nearest_train"] == pytest.approx(1, abs=0.02)
    assert Memorization().floor(test, real) == {"nearest_train": 1.0, "near_copies": 0.0}


EVERY = [FrechetDistance(), KernelDistance(5, 100), Coverage(5), ClassifierScore(10), ClassBalance(0.9), Memorization()]


@pytest.mark.parametrize("metric", EVERY, ids=lambda metric: type(metric).__name__)
@pytest.mark.parametrize("n", [1, 2, 4, 50])
def test_every_metric_has_a_figure_or_nan_for_one_image_repeated_and_for_few(metric, n):
    one = judged(1, 0)
    repeated = Judged(
        *(part.repeat(n, *[1] * (part.dim() - 1)) for part in (one.images, one.seen, one.features, one.logits))
    )
    figures = metric(repeated, Real(judged(50, 1), judged(50, 2).images))
    assert figures.keys() == metric.figures.keys()
    assert all(isinstance(value, int | float) for value in figures.values())
    if n == 50:
        assert all(math.isfinite(value) for value in figures.values()), figures


@pytest.mark.parametrize(
    "make",
    [
        lambda: Coverage(0),
        lambda: KernelDistance(0, 10),
        lambda: KernelDistance(10, 1),
        lambda: ClassifierScore(0),
        lambda: ClassBalance(2),
    ],
)
def test_bad_settings_are_refused(make):
    with pytest.raises(ValueError, match="must be"):
        make()


def test_the_floor_is_the_figure_of_training_images():
    train, real = judged(80, 1), Real(judged(90, 2))
    assert FrechetDistance().floor(train, real) == FrechetDistance()(train, real)


def test_inception_says_what_is_missing(monkeypatch, tmp_path):
    from dcgan.checks import UserError
    from dcgan.metrics.inception import InceptionDistance

    with pytest.raises(UserError, match=r"there is no file nowhere\.pth"):
        InceptionDistance("nowhere.pth")
    damaged = tmp_path / "weights.pth"
    damaged.write_bytes(b"no weights")
    with pytest.raises(UserError, match=r"cannot be had .*evaluator\.inception\.weights"):
        InceptionDistance(str(damaged))


def test_inception_distance_reads_its_statistics_of_the_test_images_from_the_cache(monkeypatch):
    """With another network in Inception's place, whose weights cannot be had here."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    from dcgan.metrics import inception

    class Means(torch.nn.Module):
        num_features = 4
        seen = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert x.dtype == torch.uint8
            assert x.shape[1] == 3
            Means.seen += len(x)
            return x.float().unflatten(2, (2, 14)).unflatten(4, (2, 14)).mean((1, 3, 5)).flatten(1)

    monkeypatch.setattr(inception, "FrechetInceptionDistance", lambda **_: FrechetInceptionDistance(Means()))
    metric, real = inception.InceptionDistance(None), SimpleNamespace(test=judged(150, 4), key="a test's")
    first = metric(judged(250, 5), real)
    assert Means.seen == 400
    assert metric(judged(250, 5), real) == first
    assert Means.seen == 650
