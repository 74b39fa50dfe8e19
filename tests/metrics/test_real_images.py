import pytest
import torch
from hydra.utils import instantiate

from dcgan.metrics.compute import load_real_statistics
from dcgan.metrics.judge import load_judge
from dcgan.metrics.real_images import RealStatistics, flatten_pixels
from tests.conftest import compose_config

CPU = torch.device("cpu")


def build_statistics(*overrides: str) -> RealStatistics:
    return load_real_statistics(instantiate(compose_config(*overrides).data), CPU)


def test_near_copies_are_searched_among_images_trained_on():
    few, all_ = build_statistics("data.limit=10"), build_statistics()
    assert len(few.train_pixels) == 10
    assert len(all_.train_pixels) == 64
    assert torch.equal(few.train_pixels, all_.train_pixels[:10])
    assert (few.test_to_train_distances[:, 0] >= all_.test_to_train_distances[:, 0]).all()
    assert (few.test_to_train_distances[:, 0] > all_.test_to_train_distances[:, 0]).any()
    assert len(few.extract_train_features(40)) == 40  # the limit does not apply to the baseline


def test_resized_test_images_are_random_subset():
    resized = build_statistics("data.image_size=32")
    assert resized.resized_test_images(16).shape == (16, 1, 32, 32)
    assert torch.equal(resized.resized_test_images(5), resized.resized_test_images(16)[:5])
    real = build_statistics()
    assert not torch.equal(real.resized_test_images(5), real.test_images[:5])
    sums, expected = (images.flatten(1).sum(1).tolist() for images in (real.resized_test_images(16), real.test_images))
    assert sorted(sums) == sorted(expected)


def test_class_prior_is_share_of_training_labels():
    real = build_statistics()
    assert real.class_prior.sum().item() == pytest.approx(1)
    assert real.class_prior[3].item() == pytest.approx((real.train_labels == 3).double().mean().item())


def test_cached_features_equal_computed_ones():
    first, second = build_statistics(), build_statistics()
    computed = load_judge("MNIST", CPU)(first.test_images)
    for real in (first, second):
        assert torch.equal(real.test.features, computed.features)
        assert torch.equal(real.test.logits, computed.logits)
    distances = first.kth_nearest_distances(3)
    assert torch.equal(distances, second.kth_nearest_distances(3))
    expected = torch.cdist(computed.features.double(), computed.features.double()).sort().values[:, 3]
    assert torch.allclose(distances.double(), expected, atol=1e-3)
    assert not torch.equal(distances, first.kth_nearest_distances(4))


def test_cached_statistics_are_moved_to_the_device():
    filled = build_statistics()
    filled.kth_nearest_distances(3)
    assert len(filled.test_to_train_distances) == 16
    moved = RealStatistics(filled.data, filled.judge, torch.device("meta"))
    # a tensor on meta has no values for a digest
    moved.cache_key, moved.train_images = filled.cache_key, filled.train_images
    tensors = [
        moved.test.images,
        moved.test.judge_input,
        moved.test.features,
        moved.test.logits,
        moved.test_labels,
        moved.kth_nearest_distances(3),
        moved.test_to_train_distances,
        moved.resized_test_images(4),
    ]
    assert {tensor.device.type for tensor in tensors} == {"meta"}


def test_cache_key_depends_on_test_images():
    real = build_statistics()
    key = real.cache_key
    real.test_images = real.test_images + 1
    assert RealStatistics.cache_key.func(real) != key


def test_features_are_empty_without_judge():
    real = RealStatistics(instantiate(compose_config().data), None, CPU)
    features = real.extract_features(real.resized_test_images(4))
    assert features.features.shape == (4, 0)
    assert len(features) == 4
    assert real.judge_facts is None


def test_flattened_pixels_are_between_0_and_1():
    images = torch.tensor([[[[0, 255], [51, 102]]]], dtype=torch.uint8)
    assert flatten_pixels(images).tolist() == [[0, 1, pytest.approx(0.2), pytest.approx(0.4)]]
