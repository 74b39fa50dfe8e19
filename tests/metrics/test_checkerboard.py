import math
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dcgan.metrics.checkerboard import Checkerboard, cb2, phase_means, phase_ripple, power_spectrum


def random_images(n: int, size: int, seed: int = 0, low: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(low, 256, (n, 1, size, size), dtype=np.uint8))


def add_pattern(images: torch.Tensor, strength: float, pattern: np.ndarray) -> torch.Tensor:
    """Return the images with every pixel multiplied by 1 + strength * pattern."""
    x = images.double() / 255 * (1 + strength * torch.from_numpy(pattern))
    return (x.clamp(0, 1) * 255).round().to(torch.uint8)


def checkerboard(size: int) -> np.ndarray:
    i = np.arange(size)
    return np.where((i[:, None] + i) % 2, 1.0, -1.0)


@pytest.fixture(scope="module")
def mnist(real_mnist) -> torch.Tensor:
    return real_mnist.load(train=False)[0]


@pytest.mark.parametrize(("strength", "expected"), [(0.01, 1.1), (0.02, 2.7), (0.05, 7.3)])
def test_cb2_of_added_checkerboard_has_calibrated_value(mnist, strength, expected):
    images = add_pattern(mnist, strength, checkerboard(28))
    assert cb2(power_spectrum(images), power_spectrum(mnist)) == pytest.approx(expected, abs=0.1)


def test_pv4_of_added_ripple_has_calibrated_value(mnist):
    ripple = np.tile(np.cos(np.pi / 2 * np.arange(28)), (28, 1))
    assert phase_ripple(add_pattern(mnist, 0.05, ripple), mnist, 4) == pytest.approx(1.76, abs=0.01)
    assert phase_ripple(mnist, mnist, 4) == 0


def test_cb2_of_blurred_images_is_negative(mnist):
    padded = torch.nn.functional.pad(mnist.double(), (0, 1, 0, 1))
    blurred = torch.nn.functional.avg_pool2d(padded, 2, 1).round().to(torch.uint8)
    assert cb2(power_spectrum(blurred), power_spectrum(mnist)) < -15


def test_real_images_have_no_checkerboard(real_mnist, mnist):
    train = real_mnist.load(train=True)[0][:10_000]
    assert abs(cb2(power_spectrum(train), power_spectrum(mnist))) < 0.3
    assert phase_ripple(train, mnist, 2) < 0.15
    assert phase_ripple(train, mnist, 4) < 0.4


@pytest.mark.parametrize("size", [20, 28, 32, 64])
def test_cb2_matches_its_definition(size):
    generated, real = random_images(5, size, 1), random_images(6, size, 2)

    def power(images: torch.Tensor, u: int, v: int) -> float:
        """Return the mean |DFT|^2 at one frequency, computed as a sum."""
        i = np.arange(size)
        wave = np.exp(-2j * np.pi * (u * i[:, None] + v * i[None]) / size)
        return float(np.mean([abs((image.numpy() / 255 * wave).sum()) ** 2 for image in images[:, 0]]))

    def level(pairs: list[tuple[int, int]]) -> float:
        return 10 * math.log10(np.mean([power(generated, u, v) / power(real, u, v) for u, v in pairs]))

    half, nearby = size // 2, [size // 4 + d for d in (-4, -3, 3, 4)]
    signed = [sign * f for f in nearby for sign in (1, -1)]
    pairs = [(u, v) for u, v in product(signed, signed) if math.sqrt(u * u + v * v) >= 9 * size / 28]
    if size == 28:
        assert sorted({abs(f) for f in signed}) == [3, 4, 10, 11]
    expected = level([(half, 0), (0, half), (half, half)]) - level(pairs)
    assert cb2(power_spectrum(generated), power_spectrum(real)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("period", [2, 4])
def test_phase_means_match_their_definition(period):
    images = random_images(12, 20, 3, low=120)
    x = images[:, 0].numpy() / 255
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)), mode="reflect")
    kernel = np.outer([1, 2, 1], [1, 2, 1]) / 16
    blurred = sum(kernel[i, j] * padded[:, i : i + 20, j : j + 20] for i in range(3) for j in range(3))
    expected = np.zeros((period, period))
    for i, j in product(range(period), repeat=2):
        values = [
            (x[n, r, c] - blurred[n, r, c]) / blurred[n, r, c]
            for n, r, c in product(range(12), range(20), range(20))
            if (r % period, c % period) == (i, j) and blurred[n, r, c] > 0.6
        ]
        expected[i, j] = np.mean(values)
    means = phase_means(images.repeat(20, 1, 1, 1), period)
    assert means.numpy() == pytest.approx(expected, abs=1e-12)


def test_black_images_and_too_few_strokes_are_nan():
    black, real = torch.zeros(8, 1, 28, 28, dtype=torch.uint8), random_images(8, 28)
    assert math.isnan(cb2(power_spectrum(black), power_spectrum(real)))
    assert math.isnan(phase_ripple(black, real, 2))
    assert math.isnan(phase_ripple(random_images(2, 28, low=200), random_images(40, 28, low=200), 4))


@pytest.mark.parametrize("size", [10, 16, 22])
def test_unsupported_image_sizes_are_nan(size):
    real = SimpleNamespace(random_test_images=lambda n: random_images(n, size, 1), __len__=None)
    samples = SimpleNamespace(images=random_images(9, size))
    assert all(math.isnan(value) for value in Checkerboard()(samples, real).values())


def test_power_spectrum_averages_over_channels():
    rgb = random_images(8, 28).expand(-1, 3, -1, -1)
    assert torch.allclose(power_spectrum(rgb), power_spectrum(random_images(8, 28)))
