from types import SimpleNamespace

import pytest
import torch

from dcgan.metrics.random_conv import RandomConv

CPU = torch.device("cpu")
SMALL = SimpleNamespace(image_size=32)


def images(n: int, channels: int = 3, size: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (n, channels, size, size), dtype=torch.uint8, generator=torch.manual_seed(0))


def test_weights_are_fixed_and_keep_the_random_state():
    state = torch.get_rng_state()
    first, second, other = RandomConv(SMALL, CPU), RandomConv(SMALL, CPU), RandomConv(SMALL, CPU, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert first.facts == second.facts != other.facts
    # the same on every machine
    assert first.network.kernels[0][0, 0, 0].tolist() == pytest.approx([0.0342194, -0.0359544, 0.1743010], abs=1e-6)
    assert torch.equal(first(images(3)), second(images(3)))
    assert not torch.allclose(first(images(3)), other(images(3)))


def test_features_do_not_depend_on_the_batch():
    extractor, x = RandomConv(SMALL, CPU), images(600)
    features = extractor(x)
    assert features.shape == (600, 128)
    assert torch.allclose(features[550:], extractor(x[550:]), atol=1e-4)


def test_grey_images_are_repeated_and_others_resized():
    extractor, x = RandomConv(SMALL, CPU), images(4, channels=1)
    assert torch.equal(extractor(x), extractor(x.expand(-1, 3, -1, -1)))
    assert extractor(images(4, size=28)).shape == (4, 128)
    sizes = {size: RandomConv(SimpleNamespace(image_size=size), CPU).network.size for size in (8, 28, 32, 33, 64, 128)}
    assert sizes == {8: 32, 28: 32, 32: 32, 33: 64, 64: 64, 128: 64}


def test_features_keep_the_layout_of_an_image():
    extractor, x = RandomConv(SMALL, CPU), torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    x[..., :16] = 255
    left, right, brighter = extractor(x), extractor(x.flip(3)), extractor(x.clamp(min=20))
    assert (left - right).norm() > 3 * (left - brighter).norm()


def test_projection_is_orthonormal():
    projection = RandomConv(SMALL, CPU).network.projection
    assert torch.allclose(projection.T @ projection, torch.eye(128), atol=1e-5)


def test_bad_seed_is_rejected():
    with pytest.raises(ValueError, match="seed must be"):
        RandomConv(SMALL, CPU, seed=-1)
