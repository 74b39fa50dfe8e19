"""The checkerboard that upsampling leaves, in the spectrum and in the pixels.

Odena et al. 2016 ("Deconvolution and checkerboard artifacts", Distill) show where it comes from, Durall et al. 2020
how it shows in the spectrum; the scores are this project's. On MNIST's test set their null has a standard deviation of
.09 dB (CB2), .04 % (PV2) and .11 % (PV4) and a checker of 1, 2 or 5 % of the pixels' value has a CB2 of 1.1, 2.7 or
7.3 dB.
"""

import math
from itertools import product

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from dcgan.metrics.judge import Judged
from dcgan.metrics.metric import Figure, Metric
from dcgan.metrics.reference import Reference

BLOCK = 1000
SMALLEST = 20  # below, the frequencies of the comparison would run into those of the checkerboard
STROKE = 0.6  # pixel values, of 0 to 1, where ripples are looked for
FEWEST_PIXELS = 1000


class Checkerboard(Metric):
    """CB2 in dB and PV2, PV4 in percent, of the images in their own size against as many real ones.

    Image sizes that are no multiple of 4 or below 20 have none.
    """

    figures = {
        "cb2": Figure("checkerboard in the spectrum, dB", "zero"),
        "pv2": Figure("ripple of period 2, %", "lower"),
        "pv4": Figure("ripple of period 4, %", "lower"),
    }
    needs_judge = False

    def __call__(self, samples: Judged, real: Reference) -> dict[str, float]:
        size = samples.images.shape[-1]
        if size % 4 or size < SMALLEST:
            return dict.fromkeys(self.figures, math.nan)
        n = min(len(samples), len(real))
        generated, native = samples.images[:n], real.native(n)
        return {
            "cb2": cb2(power(generated), power(native)),
            "pv2": phase_ripple(generated, native, 2),
            "pv4": phase_ripple(generated, native, 4),
        }


def power(images: UInt8[Tensor, "n c s s"]) -> Float[Tensor, "s s"]:
    """The mean of |DFT|^2 over images (and their channels) of pixels in [0, 1]; frequency 0 comes first."""
    total = torch.zeros(images.shape[-2:], dtype=torch.float64)
    for part in images.split(BLOCK):
        total += torch.fft.fft2(part.double() / 255).abs().square().sum(dim=(0, 1))
    return total / (len(images) * images.shape[1])


def cb2(generated: Float[Tensor, "s s"], real: Float[Tensor, "s s"]) -> float:
    """10 log10 of the mean ratio of powers at the frequencies of a checker of period 2, less that at nearby ones."""
    size = len(real)
    half, quarter = size // 2, size // 4
    checker = [(half, 0), (0, half), (half, half)]
    frequencies = [sign * (quarter + d) for sign, d in product((1, -1), (-4, -3, 3, 4))]
    nearby = [(u, v) for u, v in product(frequencies, repeat=2) if math.hypot(u, v) >= 9 * size / 28]

    def level(where: list[tuple[int, int]]) -> float:
        u, v = torch.tensor(where).T
        ratio = (generated[u, v] / real[u, v]).mean().item()
        return 10 * math.log10(ratio) if 0 < ratio < math.inf else math.nan

    return level(checker) - level(nearby)


def phase_ripple(generated: UInt8[Tensor, "n c s s"], real: UInt8[Tensor, "m c s s"], period: int) -> float:
    """How much the strokes' brightness depends on the place modulo the period, beyond the real images: RMS, percent."""
    difference = phase_means(generated, period) - phase_means(real, period)
    return 100 * (difference - difference.mean()).square().mean().sqrt().item()


def phase_means(images: UInt8[Tensor, "n c s s"], period: int) -> Float[Tensor, "p p"]:
    """Mean of (x - b) / b at each phase over the pixels whose binomial blur b exceeds .6; NaN with too few of them."""
    binomial = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64)
    kernel = (binomial[:, None] * binomial / 16)[None, None]
    total = torch.zeros(period, period, dtype=torch.float64)
    count = torch.zeros(period, period, dtype=torch.float64)
    for part in images.flatten(0, 1)[:, None].split(BLOCK):
        x = part.double() / 255
        b = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel)
        inside = b > STROKE
        h = torch.where(inside, (x - b) / b, 0)
        for i, j in product(range(period), repeat=2):
            total[i, j] += h[..., i::period, j::period].sum()
            count[i, j] += inside[..., i::period, j::period].sum()
    return torch.where(count.amin() >= FEWEST_PIXELS, total / count, math.nan)
