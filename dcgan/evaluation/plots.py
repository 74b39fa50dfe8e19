"""Matplotlib figures of an evaluation, rendered to images for files and TensorBoard."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from torch import Tensor

from dcgan.common.image_grid import image_grid
from dcgan.metrics.base import isolated_library_call
from dcgan.metrics.checkerboard import power_spectrum
from dcgan.metrics.classes import class_histogram
from dcgan.metrics.features import ImageFeatures
from dcgan.metrics.real_images import RealStatistics

DPI = 110
BLUE, GREY = "#4477aa", "0.7"  # of generated and of real images
GRID_IMAGES = 100
MAX_TICK_LABELS = 20  # with more classes, only the first and the last are labeled
MAX_POINTS = 2000  # generated images, and real ones, in a plot of features
MAX_PANELS = 20  # with more classes, they have no panels
PANEL_COLUMNS = 5


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
    axes.bar(labels, shares, color=BLUE, label="generated")
    edges = np.append(labels, len(shares)) - 0.5
    axes.stairs(prior, edges, baseline=None, color="black", linewidth=1.5, label="training set")
    axes.set_xticks(labels if len(shares) <= MAX_TICK_LABELS else [0, len(shares) - 1])
    axes.set(title="classes, by the judge", ylabel="share", ylim=(0, 1.25 * max(*shares, *prior)))
    axes.legend(frameon=False, loc="upper right")


def pairs_figure(samples: UInt8[Tensor, "n c h w"], train: UInt8[Tensor, "n c h w"]) -> UInt8[Tensor, "3 gh gw"]:
    """Place each sample next to its nearest training image, eight pairs per row."""
    return image_grid(torch.cat((samples, train), dim=3), columns=8)


def feature_figure(samples: ImageFeatures, real: RealStatistics, space: str) -> UInt8[Tensor, "3 h w"]:
    """Plot the features of generated and real images in the plane of the real ones' first two principal components.

    Each class, if there are at most 20, has a panel with its own plane, which shows the differences within the class.
    The class of a generated image is the judge's choice, or without a judge the label that it was generated with.
    """
    indices = real.random_test_indices(MAX_POINTS)
    test, generated = real.spaces[space].test[indices].cpu(), samples.features[space][:MAX_POINTS].cpu()
    labels = samples.logits.argmax(dim=1) if real.judge else samples.labels
    panels = {}
    if real.test_labels is not None and labels is not None:
        test_labels, labels = real.test_labels[indices.cpu()], labels[:MAX_POINTS].cpu()
        panels = {k: (test[test_labels == k], generated[labels == k]) for k in test_labels.unique().tolist()}
    rows = math.ceil(len(panels) / PANEL_COLUMNS) if len(panels) <= MAX_PANELS else 0
    widths = (5, 1.9 * PANEL_COLUMNS) if rows else (5, 0)
    figure = Figure(figsize=(sum(widths), max(4.5, 2.1 * rows)), dpi=DPI, layout="constrained")
    overview: SubFigure | Figure = figure
    if rows:
        overview, right = figure.subfigures(1, 2, width_ratios=widths, squeeze=False)[0]
        cells = right.subplots(rows, PANEL_COLUMNS, squeeze=False).flatten()
        for cell, (k, features) in zip(cells, panels.items(), strict=False):
            plot_features(cell, *features)
            cell.set(xticks=[], yticks=[], xlabel="", ylabel="")
            cell.set_title(f"class {k}", fontsize="medium")
        for cell in cells[len(panels) :]:
            cell.axis("off")
    axes = overview.subplots()
    plot_features(axes, test, generated)
    axes.set_title(f"features of {space}: test images and samples", fontsize="medium")
    axes.legend(frameon=False, markerscale=3)
    return render(figure)


def plot_features(axes: Axes, real: Float[Tensor, "n d"], generated: Float[Tensor, "m d"]) -> None:
    """Plot features in the plane of the real ones' first two principal components."""
    mean = real.mean(dim=0)
    with isolated_library_call():
        components = torch.pca_lowrank(real, q=min(6, *real.shape), niter=4)[2][:, :2]
    plane = F.pad(components, (0, 2 - components.shape[1]))
    for features, color, name in ((real, GREY, "real"), (generated, BLUE, "generated")):
        x, y = ((features - mean) @ plane).T.numpy()
        axes.scatter(x, y, s=6, color=color, alpha=0.7, linewidth=0, label=name)
    shares = ((real - mean) @ plane).square().sum(dim=0) / (real - mean).square().sum().clamp_min(1e-12)
    axes.set_xlabel(f"component 1: {shares[0]:.0%} of the variance")
    axes.set_ylabel(f"component 2: {shares[1]:.0%} of the variance")
