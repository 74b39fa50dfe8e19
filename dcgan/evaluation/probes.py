"""Probes: classifiers fitted on the features or the samples of trained networks, as in the DCGAN paper."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch import Tensor, nn

from dcgan.checkpoints.networks import build_network, load_network, strip_prefix
from dcgan.common.arg_checks import check_int
from dcgan.common.device import tf32
from dcgan.common.errors import UserError
from dcgan.data.pixel_range import PixelRange
from dcgan.metrics.base import MetricSpec
from dcgan.metrics.compute import Report
from dcgan.metrics.nearest_neighbors import IMAGE_BLOCK_SIZE, nearest_in_growing_set
from dcgan.metrics.real_images import RealStatistics
from dcgan.models.discriminator import BaseDiscriminator
from dcgan.models.generator import BaseGenerator
from dcgan.models.layers import hidden_activations
from dcgan.sampling.trained_generator import BATCH_SIZE as SAMPLING_BATCH_SIZE
from dcgan.sampling.trained_generator import TrainedGenerator

POOL_SIZE = 4
BATCH_SIZE = 500
Values = dict[str, float]


@torch.no_grad()
@tf32(allowed=False)
def pooled_features(
    discriminator: nn.Module, images: UInt8[Tensor, "n c h w"], pixels: PixelRange
) -> Float[Tensor, "n d"]:
    """Return the outputs of all convolutional blocks, each max-pooled to a 4 x 4 grid, flattened and concatenated.

    They are on the CPU, for scikit-learn.
    """
    maps: list[Tensor] = []

    def pool_output(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        if output.dim() == 4:
            maps.append(F.adaptive_max_pool2d(output, POOL_SIZE).flatten(1))

    batches = []
    with ExitStack() as hooks:
        for layer in hidden_activations(discriminator).values():
            hooks.enter_context(layer.register_forward_hook(pool_output))
        for batch in images.split(BATCH_SIZE):
            maps.clear()
            discriminator(pixels.encode(batch))
            batches.append(torch.cat(maps, dim=1).cpu())
    return torch.cat(batches)


def load_discriminator(checkpoint: dict[str, Any]) -> BaseDiscriminator:
    weights = strip_prefix(checkpoint["state_dict"], "discriminator.")
    return load_network(checkpoint, "discriminator", BaseDiscriminator, weights)


class Probe:
    """A measurement of a checkpoint that fits a classifier. `specs` describes the values that a call returns."""

    specs: dict[str, MetricSpec]

    def check(self, checkpoint: dict[str, Any]) -> None:
        """Raise UserError if the checkpoint cannot be probed. Called before any images are generated."""

    def __call__(
        self,
        checkpoint: dict[str, Any],
        generator: TrainedGenerator,
        real: RealStatistics,
        seed: int,
        report_progress: Report = lambda _: None,
    ) -> tuple[Values, Values]:
        """Return the values and their baseline."""
        raise NotImplementedError


class LinearProbe(Probe):
    """Test accuracy of a linear SVM (squared hinge, L2) on D's pooled features, D in eval mode (DCGAN paper, sec. 5.1).

    The baseline is an untrained D: its random features reach 96 to 97 % on MNIST.

    Args:
        train_images: Number of training images to fit the SVM on, >= 1.
    """

    specs = {"probe_accuracy": MetricSpec("linear SVM on D's features; baseline: an untrained D", "higher")}

    def __init__(self, train_images: int) -> None:
        check_int("probe.train_images", train_images, 1)
        self.train_images = train_images

    def check(self, checkpoint: dict[str, Any]) -> None:
        discriminator = load_discriminator(checkpoint)
        if discriminator.classes:
            raise UserError("probe=linear needs an unconditional model: a conditional D gets the label as input")
        if discriminator.pack > 1:
            raise UserError(f"probe=linear needs a D that sees one image at a time, got pack={discriminator.pack}")

    def __call__(
        self,
        checkpoint: dict[str, Any],
        generator: TrainedGenerator,
        real: RealStatistics,
        seed: int,
        report_progress: Report = lambda _: None,
    ) -> tuple[Values, Values]:
        torch.manual_seed(seed)
        trained = load_discriminator(checkpoint)
        untrained = build_network(checkpoint, "discriminator", BaseDiscriminator)
        return {"probe_accuracy": self.accuracy(trained, real)}, {"probe_accuracy": self.accuracy(untrained, real)}

    def accuracy(self, discriminator: nn.Module, real: RealStatistics) -> float:
        discriminator.to(real.device)

        def features(images: Tensor) -> np.ndarray:
            resized = real.data.resize(images.to(real.device))
            return pooled_features(discriminator, resized, real.data.pixels).numpy()

        n = self.train_images
        train_images, train_labels = real.train_images[:n], real.require_labels(train=True)[:n]
        svm = make_pipeline(StandardScaler(), LinearSVC(C=1e-3, dual=True, random_state=0))
        svm.fit(features(train_images), train_labels.cpu().numpy())
        return float(svm.score(features(real.test_images), real.require_labels(train=False).cpu().numpy()))


class NearestNeighborProbe(Probe):
    """Test error of a 1-nearest-neighbor classifier of pixels that is fitted on samples and their labels.

    The DCGAN paper (section 8.1) reports 2.98 % on MNIST with 50,000 samples. The baseline is fitted on as many
    training images, or on all. Samples are generated and compared in blocks, so that a million need little memory.

    Args:
        n: Number of samples, >= 1.
    """

    specs = {"nearest_neighbour_error": MetricSpec("1-NN fitted on samples; baseline: on training images", "lower")}

    def __init__(self, n: int) -> None:
        check_int("probe.n", n, 1)
        self.n = n

    def check(self, checkpoint: dict[str, Any]) -> None:
        generator = build_network(checkpoint, "model", BaseGenerator)
        if not generator.classes:
            raise UserError("probe=nearest_neighbour needs a conditional model: train one with conditional=concat")

    def __call__(
        self,
        checkpoint: dict[str, Any],
        generator: TrainedGenerator,
        real: RealStatistics,
        seed: int,
        report_progress: Report = lambda _: None,
    ) -> tuple[Values, Values]:
        for n, sample_error in nearest_neighbor_errors(*generate_labelled(generator, self.n, seed), real):
            report_progress(f"nearest neighbors of {n:,} of {self.n:,} samples")
            error = sample_error
        images, labels = real.train_images[: self.n], real.require_labels(train=True)[: self.n]
        report_progress(f"nearest neighbors of {len(images):,} training images")
        *_, (_, baseline) = nearest_neighbor_errors(images.split(IMAGE_BLOCK_SIZE), labels, real)
        return {"nearest_neighbour_error": error}, {"nearest_neighbour_error": baseline}


def generate_labelled(
    generator: TrainedGenerator, n: int, seed: int
) -> tuple[Iterator[UInt8[Tensor, "b c h w"]], Int64[Tensor, " n"]]:
    """Return n samples of a conditional generator, in blocks that are generated on demand, and their labels."""
    labels = generator.labels(n, seed)
    assert labels is not None  # `check`
    batches = generator.generate(generator.z(n, seed), labels)
    groups = iter(lambda: list(islice(batches, IMAGE_BLOCK_SIZE // SAMPLING_BATCH_SIZE)), [])
    return (torch.cat(group) for group in groups), labels


def nearest_neighbor_errors(
    blocks: Iterable[UInt8[Tensor, "b c h w"]], labels: Int64[Tensor, " n"], real: RealStatistics
) -> Iterator[tuple[int, float]]:
    """Yield, after each block of images, how many they are so far, and the error of a classifier fitted on them.

    The error is the share of test images whose nearest image, of the pixels at 28 x 28, has another label.
    """
    points, classes = real.thumbnails(real.test_images), real.require_labels(train=False)
    labels = labels.to(real.device)
    for n, _, nearest in nearest_in_growing_set(points, map(real.thumbnails, blocks)):
        yield n, (labels[nearest] != classes).double().mean().item()
