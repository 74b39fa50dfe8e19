"""Plots drawn with matplotlib, as images for a file and for TensorBoard alike."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from dcgan.grids import image_grid
from dcgan.metrics.checkerboard import power
from dcgan.metrics.classes import class_histogram
from dcgan.metrics.judge import Judged
from dcgan.metrics.reference import Reference

DPI = 110
GRID_IMAGES = 100
READABLE = 20  # labels below an axis


def render(figure: Figure) -> UInt8[Tensor, "3 h w"]:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)


def spectrum(images: UInt8[Tensor, "n c s s"]) -> Float[Tensor, "s s"]:
    """The mean power in dB, frequency 0 in the middle."""
    return 10 * torch.fft.fftshift(power(images)).clamp_min(1e-12).log10()


def evaluation_picture(samples: Judged, real: Reference) -> UInt8[Tensor, "3 h w"]:
    """The first samples, the spectra of generated and real images, and how often each class is drawn."""
    figure = Figure(figsize=(14, 4.2), dpi=DPI, layout="constrained")
    grid, generated, test, classes = figure.subplots(1, 4, width_ratios=(1.1, 1, 1, 1.1))

    first = samples.images[:GRID_IMAGES]
    grid.imshow(image_grid(first).permute(1, 2, 0).numpy(), interpolation="nearest")
    grid.set_title(f"{len(first)} of {len(samples):,} samples")
    grid.axis("off")

    native = real.native(min(len(samples), len(real)))
    size = native.shape[-1]
    spectra = {generated: (spectrum(samples.images), "spectrum, generated"), test: (spectrum(native), "spectrum, real")}
    low, high = (f(spectra[test][0]).item() for f in (torch.amin, torch.amax))
    extent = (-size / 2 - 0.5, size / 2 - 0.5, size / 2 - 0.5, -size / 2 - 0.5)
    for axes, (levels, title) in spectra.items():
        shown = axes.imshow(levels.numpy(), vmin=low, vmax=high, extent=extent, cmap="magma", interpolation="nearest")
        axes.set_title(title)
        axes.set_xlabel(f"cycles per {size} pixels")
    figure.colorbar(shown, ax=[generated, test], label="dB", shrink=0.8)

    share, prior = class_histogram(samples.logits).tolist(), real.prior.tolist()
    labels = range(len(share))
    classes.bar(labels, share, color="#4477aa", label="generated")
    classes.step(
        [-0.5, *(k + 0.5 for k in labels)],
        [prior[0], *prior],
        where="pre",
        color="black",
        label="training set",
    )
    classes.set_xticks(labels if len(share) <= READABLE else [0, len(share) - 1])
    classes.set_title("classes, by the judge")
    classes.set_ylabel("share")
    classes.set_ylim(0, 1.25 * max(*share, *prior))
    classes.legend(frameon=False, loc="upper right")
    return render(figure)


def pairs_picture(samples: UInt8[Tensor, "n c h w"], twins: UInt8[Tensor, "n c h w"]) -> UInt8[Tensor, "3 gh gw"]:
    """Each sample beside its nearest training image, eight pairs a row."""
    pairs = torch.cat((samples, twins), dim=3)
    return image_grid(pairs, columns=8)
