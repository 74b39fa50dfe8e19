from copy import copy

import pytest
import torch
from hydra.utils import instantiate

from dcgan.common.errors import UserError
from dcgan.metrics.compute import load_real_statistics
from dcgan.metrics.judge import load_judge
from dcgan.metrics.nearest_neighbors import flatten_pixels
from dcgan.metrics.real_images import RealStatistics
from tests.conftest import compose_config

CPU = torch.device("cpu")


def build_statistics(*overrides: str) -> RealStatistics:
    config = compose_config(*overrides)
    return load_real_statistics(instantiate(config.data), instantiate(config.features), CPU)


def test_near_copies_are_searched_among_images_trained_on():
    few, all_ = build_statistics("data.limit=10"), build_statistics()
    last = all_.train_images[-1:]
    assert all_.nearest_train_images(last)[0][0, 0] == 0
    assert few.nearest_train_images(last)[0][0, 0] > 0
    assert (few.test_to_train_distances[:, 0] >= all_.test_to_train_distances[:, 0]).all()
    assert (few.test_to_train_distances[:, 0] > all_.test_to_train_distances[:, 0]).any()
    assert len(few.extract_train_features(40)) == 40  # the limit does not apply to the baseline


def test_random_test_images_are_random_subset():
    resized = build_statistics("data.image_size=32")
    assert resized.test_images.shape == (16, 1, 32, 32)
    assert torch.equal(resized.random_test_images(5), resized.random_test_images(16)[:5])
    real = build_statistics()
    assert not torch.equal(real.random_test_images(5), real.test_images[:5])
    sums, expected = (images.flatten(1).sum(1).tolist() for images in (real.random_test_images(16), real.test_images))
    assert sorted(sums) == sorted(expected)


def test_baseline_is_of_random_training_images():
    real = build_statistics()
    few, more = real.extract_train_features(5), real.extract_train_features(40)
    assert torch.equal(few.images, more.images[:5])
    assert not torch.equal(few.images, real.train_images[:5])
    every = real.extract_train_features(len(real.train_images))
    assert sorted(every.images.flatten(1).sum(1)) == sorted(real.train_images.flatten(1).sum(1))
    sums = {int(image.sum()): int(label) for image, label in zip(real.train_images, real.train_labels, strict=True)}
    assert [sums[int(image.sum())] for image in few.images] == few.labels.tolist()


def test_class_prior_is_share_of_training_labels():
    real = build_statistics()
    assert real.class_prior.sum().item() == pytest.approx(1)
    assert real.class_prior[3].item() == pytest.approx((real.train_labels == 3).double().mean().item())


def test_cached_features_equal_computed_ones():
    first, second = build_statistics(), build_statistics()
    judge = load_judge("MNIST", CPU)
    computed = judge(first.test_images)
    for real in (first, second):
        assert torch.equal(real.test.features["judge"], computed)
        assert torch.allclose(real.test.logits, judge.logits(computed), atol=1e-4)
    first, second = first.spaces["judge"], second.spaces["judge"]
    distances = first.kth_nearest_distances(3)
    assert torch.equal(distances, second.kth_nearest_distances(3))
    expected = torch.cdist(computed.double(), computed.double()).sort().values[:, 3]
    assert torch.allclose(distances.double(), expected, atol=1e-3)
    assert not torch.equal(distances, first.kth_nearest_distances(4))


def test_cached_statistics_are_moved_to_the_device():
    space = build_statistics().spaces["judge"]
    space.kth_nearest_distances(3)
    moved = copy(space)  # a tensor on meta has no values: these must come from the cache
    moved.images = space.images.to("meta")
    vars(moved).pop("test", None)
    moved.extractor = lambda images: torch.empty(len(images), space.test.shape[1], device="meta")  # for its shape
    assert moved.test.device.type == moved.kth_nearest_distances(3).device.type == "meta"


def test_cache_keys_depend_on_test_images_and_features():
    real, resized = build_statistics(), build_statistics("data.image_size=32")
    assert real.cache_key != resized.cache_key
    keys = {
        build_statistics(f"features={features}", "data.limit=9").spaces[features].cache_key
        for features in ("judge", "random_conv")
    } | {build_statistics("features=random_conv", "features.random_conv.seed=1").spaces["random_conv"].cache_key}
    assert len(keys) == 3


def test_logits_are_empty_without_judge():
    real = RealStatistics(instantiate(compose_config().data), [], None, CPU)
    features = real.extract_features(real.random_test_images(4))
    assert features.logits.shape == (4, 0)
    assert features.features == {}
    assert len(features) == 4
    assert real.judge_facts is None


def test_data_without_test_images_is_rejected(monkeypatch):
    data = instantiate(compose_config().data)
    empty = torch.empty(0, 1, 28, 28, dtype=torch.uint8), torch.empty(0, dtype=torch.int64)
    load = data.load
    monkeypatch.setattr(data, "load", lambda train: load(True) if train else empty)
    with pytest.raises(UserError, match="MNIST has no test images to compare with"):
        RealStatistics(data, [], None, CPU)


def test_flattened_pixels_are_between_0_and_1():
    images = torch.tensor([[[[0, 255], [51, 102]]]], dtype=torch.uint8)
    assert flatten_pixels(images).tolist() == [[0, 1, pytest.approx(0.2), pytest.approx(0.4)]]


def test_flipped_copies_are_found_if_the_images_are_mirrored():
    plain, mirrored = build_statistics(), build_statistics("data.mirrored=true")
    copy_of_a_flipped_image = plain.train_images[7:8].flip(3)
    assert plain.nearest_train_images(copy_of_a_flipped_image)[0][0, 0] > 0
    distances, indices = mirrored.nearest_train_images(copy_of_a_flipped_image)
    assert distances[0, 0] < 0.05  # rounding
    assert indices.tolist() == [7]
    assert torch.equal(mirrored.nearest_train_images(plain.train_images[3:4])[1], torch.tensor([3]))


def test_default_number_of_samples_leaves_as_many_training_images(monkeypatch):
    data = instantiate(compose_config().data)
    load = data.load
    monkeypatch.setattr(data, "load", lambda train: tuple(part[: 5 if train else None] for part in load(train)))
    real = RealStatistics(data, [], None, CPU)
    assert len(real) == len(real.extract_train_features(len(real))) == 5
    assert len(real.random_test_images(16)) == 16
