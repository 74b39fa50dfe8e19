import pytest

from dcgan.metrics.features import ImageFeatures
from dcgan.metrics.memorization import Memorization, closest_pairs
from tests.metrics.building import FakeRealStatistics, random_features

TRAIN = random_features(300, 5).images
TEST = random_features(200, 6)


def test_copies_of_training_images_are_found():
    real = FakeRealStatistics(TEST, TRAIN)
    images = random_features(100, 7).images.clone()
    images[:25] = TRAIN[100:125]
    images[:25, 0, 0, 0] += 1  # a copy except for one pixel
    copies = ImageFeatures(images, {}, TEST.logits[:100])
    values = Memorization()(copies, real)
    assert values["near_copies"] == 0.25
    assert values["nearest_train"] == pytest.approx(0.75, abs=0.02)
    samples, train = closest_pairs(copies, real, 25)
    assert {tuple(x.flatten()[1:].tolist()) for x in samples} == {tuple(x.flatten()[1:].tolist()) for x in train}


def test_new_images_are_no_copies():
    real = FakeRealStatistics(TEST, TRAIN)
    values = Memorization()(random_features(100, 8), real)
    assert values["near_copies"] == 0
    assert values["nearest_train"] == pytest.approx(1, abs=0.02)
    assert Memorization().baseline(TEST, real) == {"nearest_train": 1.0, "near_copies": 0.0}
