"""Checkerboard artifacts of upsampling, in the spectrum and in the pixels.

Odena et al. 2016 ("Deconvolution and checkerboard artifacts", Distill) explain their cause, Durall et al. 2020 their
spectrum. The scores CB2, PV2 and PV4 are this project's. On MNIST's test set their standard deviations without an
artifact are 0.09 dB (CB2), 0.04 % (PV2) and 0.11 % (PV4). A checkerboard of 1, 2 or 5 % of the pixels' value has a CB2
of 1.1, 2.7 or 7.3 dB.
"""

import math
from itertools import product

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from dcgan.data.pixel_range import resize_images
from dcgan.metrics.base import Metric, MetricSpec
from dcgan.metrics.features import ImageFeatures
from dcgan.metrics.real_images import RealStatistics

BLOCK_SIZE = 1000
MIN_IMAGE_SIZE = 20  # below, the reference frequencies would overlap those of the checkerboard
STROKE_THRESHOLD = 0.6  # pixels in [0, 1] above it belong to strokes
BINOMIAL_SUM = 16  # of the 3x3 kernel
MIN_PIXELS = 1000  # of strokes, per phase


class Checkerboard(Metric):
    """CB2 in dB and PV2, PV4 in percent, at the networks' image size, compared with as many real images.

    All are NaN if the image size is below 20 or not a multiple of 4.
    """

    specs = {
        "cb2": MetricSpec("checkerboard in the spectrum, dB", "zero"),
        "pv2": MetricSpec("ripple of period 2, %", "lower"),
        "pv4": MetricSpec("ripple of period 4, %", "lower"),
    }
    at_start = True

    def __call__(self, samples: ImageFeatures, real: RealStatistics) -> dict[str, float]:
        size = samples.images.shape[-1]
        if size % 4 or size < MIN_IMAGE_SIZE:
            return dict.fromkeys(self.specs, math.nan)
        n = min(len(samples), len(real))
        generated, test = samples.images[:n], real.random_test_images(n)
        return {
            "cb2": cb2(power_spectrum(generated), power_spectrum(test)),
            "pv2": phase_ripple(generated, test, 2),
            "pv4": phase_ripple(generated, test, 4),
        }


def power_spectrum(images: UInt8[Tensor, "n c s s"]) -> Float[Tensor, "s s"]:
    """Return the mean of |DFT|^2 over images, of the luminance in [0, 1]; frequency 0 comes first."""
    total = torch.zeros(images.shape[-2:], dtype=torch.float64, device=images.device)
    for block in images.split(BLOCK_SIZE):
        grey = resize_images(block, block.shape[-1], 1)[:, 0]
        total += torch.fft.fft2(grey.double() / 255).abs().square().sum(dim=0)
    return total / len(images)


def cb2(generated: Float[Tensor, "s s"], real: Float[Tensor, "s s"]) -> float:
    """Return the excess power of a checkerboard of period 2, in dB.

    It is the mean ratio of both power spectra at the checkerboard's frequencies, over that at nearby frequencies.
    """
    size = len(real)
    half, quarter = size // 2, size // 4
    checkerboard = [(half, 0), (0, half), (half, half)]
    frequencies = [sign * (quarter + d) for sign, d in product((1, -1), (-4, -3, 3, 4))]
    nearby = [(u, v) for u, v in product(frequencies, repeat=2) if math.hypot(u, v) >= 9 * size / 28]

    def level(pairs: list[tuple[int, int]]) -> float:
        u, v = torch.tensor(pairs, device=real.device).T
        ratio = (generated[u, v] / real[u, v]).mean().item()
        return 10 * math.log10(ratio) if 0 < ratio < math.inf else math.nan

    return level(checkerboard) - level(nearby)


def phase_ripple(generated: UInt8[Tensor, "n c s s"], real: UInt8[Tensor, "m c s s"], period: int) -> float:
    """Return the RMS, in percent, of the difference between both `phase_means`, after its mean was subtracted."""
    difference = phase_means(generated, period) - phase_means(real, period)
    return 100 * (difference - difference.mean()).square().mean().sqrt().item()


def phase_means(images: UInt8[Tensor, "n c s s"], period: int) -> Float[Tensor, "p p"]:
    """Return the mean of (x - b) / b per pixel phase, over pixels whose 3x3 binomial blur b exceeds 0.6.

    x is the luminance.

    All are NaN if a phase has fewer than 1,000 such pixels.
    """
    binomial = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64, device=images.device)
    kernel = (binomial[:, None] * binomial)[None, None]
    total = torch.zeros(period, period, dtype=torch.float64, device=images.device)
    count = torch.zeros_like(total)
    for block in images.split(BLOCK_SIZE):
        x = resize_images(block, block.shape[-1], 1).double()
        # integers, so that rounding, which differs between devices, decides no comparison
        b = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel).round()
        is_stroke = b > STROKE_THRESHOLD * 255 * BINOMIAL_SUM
        h = torch.where(is_stroke, (BINOMIAL_SUM * x - b) / b, 0)
        for i, j in product(range(period), repeat=2):
            total[i, j] += h[..., i::period, j::period].sum()
            count[i, j] += is_stroke[..., i::period, j::period].sum()
    return torch.where(count.amin() >= MIN_PIXELS, total / count, math.nan)
