"""Matplotlib figures of an evaluation, rendered to images for files and TensorBoard."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from dcgan.common.image_grid import image_grid
from dcgan.metrics.checkerboard import power_spectrum
from dcgan.metrics.classes import class_histogram
from dcgan.metrics.features import ImageFeatures
from dcgan.metrics.real_images import RealStatistics

DPI = 110
GRID_IMAGES = 100
MAX_TICK_LABELS = 20  # with more classes, only the first and the last are labeled


def render(figure: Figure) -> UInt8[Tensor, "3 h w"]:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)


def spectrum(images: UInt8[Tensor, "n c s s"]) -> Float[Tensor, "s s"]:
    """Return the mean power in dB, frequency 0 in the center."""
    return 10 * torch.fft.fftshift(power_spectrum(images)).clamp_min(1e-12).log10()


def evaluation_figure(samples: ImageFeatures, real: RealStatistics) -> UInt8[Tensor, "3 h w"]:
    """Plot the first samples, the spectra of generated and real images, and the class histogram if there is a judge."""
    panels = 4 if real.judge else 3
    figure = Figure(figsize=(3.5 * panels, 4.2), dpi=DPI, layout="constrained")
    grid, generated, test, *classes = figure.subplots(1, panels, width_ratios=(1.1, 1, 1, 1.1)[:panels])

    first = samples.images[:GRID_IMAGES]
    grid.imshow(image_grid(first).permute(1, 2, 0).numpy(), interpolation="nearest")
    grid.set_title(f"{len(first)} of {len(samples):,} samples")
    grid.axis("off")

    test_images = real.random_test_images(min(len(samples), len(real)))
    size = test_images.shape[-1]
    real_spectrum = spectrum(test_images)
    low, high = (limit.item() for limit in real_spectrum.aminmax())
    extent = (-size / 2 - 0.5, size / 2 - 0.5, size / 2 - 0.5, -size / 2 - 0.5)
    for axes, levels, name in ((generated, spectrum(samples.images), "generated"), (test, real_spectrum, "real")):
        image = axes.imshow(
            levels.cpu().numpy(), vmin=low, vmax=high, extent=extent, cmap="magma", interpolation="nearest"
        )
        axes.set(title=f"spectrum, {name}", xlabel=f"cycles per {size} pixels")
    figure.colorbar(image, ax=[generated, test], label="dB", shrink=0.8)

    for axes in classes:
        plot_classes(axes, class_histogram(samples.logits).cpu().numpy(), real.class_prior.cpu().numpy())
    return render(figure)


def plot_classes(axes: Axes, shares: np.ndarray, prior: np.ndarray) -> None:
    """Plot the shares of each class in the samples and in the training images."""
    labels = np.arange(len(shares))
    axes.bar(labels, shares, color="#4477aa", label="generated")
    edges = np.append(labels, len(shares)) - 0.5
    axes.stairs(prior, edges, baseline=None, color="black", linewidth=1.5, label="training set")
    axes.set_xticks(labels if len(shares) <= MAX_TICK_LABELS else [0, len(shares) - 1])
    axes.set(title="classes, by the judge", ylabel="share", ylim=(0, 1.25 * max(*shares, *prior)))
    axes.legend(frameon=False, loc="upper right")


def pairs_figure(samples: UInt8[Tensor, "n c h w"], train: UInt8[Tensor, "n c h w"]) -> UInt8[Tensor, "3 gh gw"]:
    """Place each sample next to its nearest training image, eight pairs per row."""
    return image_grid(torch.cat((samples, train), dim=3), columns=8)
