import math

import numpy as np
import pytest
import scipy.ndimage
import torch

from dcgan.metrics.sliced_wasserstein import (
    SlicedWasserstein,
    laplacian_pyramid,
    normalized_patches,
    sliced_wasserstein,
)

KERNEL = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256


def smooth_images(n: int, size: int, seed: int, channels: int = 3) -> torch.Tensor:
    """Return random images with details of several pixels."""
    noise = np.random.default_rng(seed).normal(size=(n, channels, size, size))
    blurred = scipy.ndimage.gaussian_filter(noise, (0, 0, 2, 2), mode="wrap")
    return torch.from_numpy((128 + 200 * blurred).clip(0, 255).astype(np.uint8))


class ImageSet:
    """The parts of `ImageFeatures` and of `RealStatistics` that the metric reads."""

    def __init__(self, images: torch.Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def random_test_images(self, n: int) -> torch.Tensor:
        return self.images[:n]


def swd(generated: torch.Tensor, real: torch.Tensor) -> float:
    return SlicedWasserstein()(ImageSet(generated), ImageSet(real))["swd"]


REAL, OTHER = smooth_images(60, 32, 0), smooth_images(60, 32, 1)


def noisy(images: torch.Tensor, deviation: float) -> torch.Tensor:
    noise = deviation * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return (images + noise).clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [16, 28, 32])
def test_identical_sets_have_distance_0(size, channels):
    images = smooth_images(20, size, 0, channels)
    assert swd(images, images) == 0
    assert swd(smooth_images(20, size, 1, channels), images) > 0


def test_distance_increases_with_noise():
    distances = [swd(noisy(OTHER, deviation), REAL) for deviation in (0, 4, 16, 64)]
    assert distances == sorted(distances)
    assert distances[-1] > 2 * distances[0]


def test_wrong_colors_are_a_larger_distance():
    """Each channel keeps its mean and deviation, but the channels no longer change together."""
    colored = REAL[:, :1].expand(-1, 3, -1, -1)
    other = OTHER[:, :1].expand(-1, 3, -1, -1)
    assert swd(OTHER, colored) > 3 * swd(other, colored)


def test_blur_is_a_larger_distance():
    real, other = noisy(REAL, 16), noisy(OTHER, 16)
    blurred = torch.from_numpy(scipy.ndimage.gaussian_filter(other.numpy(), (0, 0, 1, 1)))
    assert swd(blurred, real) > 2 * swd(other, real)


def test_result_is_deterministic_and_leaves_the_random_state():
    state = torch.get_rng_state()
    first = swd(OTHER, REAL)
    torch.manual_seed(1)
    torch.rand(3)
    assert swd(OTHER, REAL) == first
    torch.set_rng_state(state)
    swd(OTHER, REAL)
    assert torch.equal(torch.get_rng_state(), state)


def test_distance_of_shifted_points_is_the_mean_length_of_the_projected_shift():
    """In three dimensions, the mean of |cos| of the angle to a random direction is 1/2."""
    points = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    shifted = points + torch.tensor([0.0, 4.0, 3.0])
    distance = sliced_wasserstein(points, shifted.flip(0), torch.Generator().manual_seed(0))
    assert distance == pytest.approx(5 / 2, abs=0.1)
    one = points[:, :1]
    assert sliced_wasserstein(one, one + 5, torch.Generator()) == pytest.approx(5, abs=1e-5)


@pytest.mark.parametrize(
    ("size", "sizes"), [(14, []), (16, [16]), (28, [28]), (33, [33]), (50, [50, 25]), (64, [64, 32, 16])]
)
def test_pyramid_has_levels_of_at_least_16_pixels(size, sizes):
    levels = list(laplacian_pyramid(torch.rand(2, 3, size, size)))
    assert [level.shape for level in levels] == [(2, 3, s, s) for s in sizes]


def test_pyramid_matches_its_definition():
    images = torch.rand(2, 3, 64, 64)
    current = images.double().numpy()
    weights = KERNEL[None, None]
    for level in laplacian_pyramid(images):
        expected = current
        if level.shape[-1] > 16:
            current = scipy.ndimage.convolve(expected, weights, mode="mirror")[..., ::2, ::2]
            enlarged = np.zeros_like(expected)
            enlarged[..., ::2, ::2] = current
            expected = expected - scipy.ndimage.convolve(enlarged, 4 * weights, mode="mirror")
        assert level.numpy() == pytest.approx(expected, abs=1e-6)


def test_patches_are_taken_at_their_positions_and_normalized():
    images = torch.rand(2, 3, 16, 16)
    positions = torch.tensor([[[0, 9], [4, 2]], [[9, 0], [5, 7]]])
    patches = normalized_patches(images, positions)
    expected = torch.stack(
        [images[i, :, y : y + 7, x : x + 7] for i, y, x in [(0, 0, 9), (0, 9, 0), (1, 4, 5), (1, 2, 7)]]
    )
    mean, std = expected.mean((0, 2, 3), keepdim=True), expected.std((0, 2, 3), correction=0, keepdim=True)
    torch.testing.assert_close(patches, ((expected - mean) / std).flatten(1))


def test_small_and_constant_images_are_nan():
    assert math.isnan(swd(OTHER[..., :14, :14], REAL[..., :14, :14]))
    assert math.isnan(swd(torch.zeros_like(OTHER), REAL))


def test_sets_of_unequal_size_are_cut():
    assert swd(OTHER, REAL[:40]) == swd(OTHER[:40], REAL[:40])
