"""What the networks have learned, asked by a classifier, as the DCGAN paper did."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch import Tensor, nn

from dcgan.checks import UserError, check_int
from dcgan.metrics.judge import SIZE
from dcgan.metrics.metric import Figure
from dcgan.metrics.neighbours import nearest_distances
from dcgan.metrics.reference import Reference, flat
from dcgan.networks import hidden_activations
from dcgan.pixels import PixelRange, fit_images
from dcgan.trained import TrainedGenerator, build, trained

GRID = 4
BATCH = 500


@torch.no_grad()
def pooled_features(
    discriminator: nn.Module, images: UInt8[Tensor, "n c h w"], pixels: PixelRange
) -> Float[Tensor, "n d"]:
    """The outputs of all convolutional blocks, each max-pooled to a 4 x 4 grid, flattened and joined."""
    found: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        if output.dim() == 4:
            found.append(F.adaptive_max_pool2d(output, GRID).flatten(1).cpu())

    hooks = [activation.register_forward_hook(keep) for activation in hidden_activations(discriminator).values()]
    rows = []
    try:
        for part in images.split(BATCH):
            found.clear()
            discriminator(pixels.encode(part))
            rows.append(torch.cat(found, dim=1))
    finally:
        for hook in hooks:
            hook.remove()
    return torch.cat(rows)


class Probe:
    """Figures of a checkpoint that take a classifier to be fitted; `figures` are those that a call returns."""

    figures: dict[str, Figure]

    def check(self, checkpoint: dict[str, Any]) -> None:
        """Raise UserError where the checkpoint cannot be asked, before anything is drawn."""

    def __call__(
        self, checkpoint: dict[str, Any], generator: TrainedGenerator, real: Reference, seed: int
    ) -> tuple[dict[str, float], dict[str, float]]:
        """The figures and their floor."""
        raise NotImplementedError


class LinearProbe(Probe):
    """Test accuracy of a linear SVM (squared hinge, L2) on D's pooled features, D in eval mode (DCGAN paper, section
    5.1). An untrained D is the floor: its random features alone reach 96 to 97 % on MNIST.

    train_images: so many of the first are fitted.
    """

    figures = {"probe_accuracy": Figure("linear SVM on D's features; floor: an untrained D", "higher")}

    def __init__(self, train_images: int) -> None:
        check_int("probe.train_images", train_images, 1)
        self.train_images = train_images

    def check(self, checkpoint: dict[str, Any]) -> None:
        discriminator: Any = build(checkpoint, "discriminator")
        if discriminator.classes:
            raise UserError("probe=linear asks what D sees, and the D of a conditional model is told the label")
        if discriminator.pack > 1:
            raise UserError("probe=linear asks what D sees in an image, and this D looks at several together")

    def __call__(
        self, checkpoint: dict[str, Any], generator: TrainedGenerator, real: Reference, seed: int
    ) -> tuple[dict[str, float], dict[str, float]]:
        torch.manual_seed(seed)
        learned = trained(checkpoint, "discriminator", "discriminator.")
        accuracy = (self.accuracy(learned, real), self.accuracy(build(checkpoint, "discriminator"), real))
        return {"probe_accuracy": accuracy[0]}, {"probe_accuracy": accuracy[1]}

    def accuracy(self, discriminator: nn.Module, real: Reference) -> float:
        def features(stored: Tensor) -> Float[Tensor, "n d"]:
            return pooled_features(discriminator, real.data.fit(stored), real.data.pixels)

        svm = make_pipeline(StandardScaler(), LinearSVC(C=1e-3, dual=True, random_state=0))
        svm.fit(
            features(real.train_images[: self.train_images]).numpy(), real.train_labels[: self.train_images].numpy()
        )
        return float(svm.score(features(real.test_images).numpy(), real.test_labels.numpy()))


class NearestNeighbour(Probe):
    """Test error of a nearest-neighbour classifier, by pixels, that has only seen generated images and the labels they
    were drawn for (DCGAN paper, section 8.1: 2.98 % on MNIST). The floor is fitted on as many training images.

    n: images to draw.
    """

    figures = {"nearest_neighbour_error": Figure("1-NN fitted on samples; floor: on training images", "lower")}

    def __init__(self, n: int) -> None:
        check_int("probe.n", n, 1)
        self.n = n

    def check(self, checkpoint: dict[str, Any]) -> None:
        generator: Any = build(checkpoint, "model")
        if not generator.classes:
            raise UserError("probe=nearest_neighbour needs a model that knows labels: use conditional=concat")

    def __call__(
        self, checkpoint: dict[str, Any], generator: TrainedGenerator, real: Reference, seed: int
    ) -> tuple[dict[str, float], dict[str, float]]:
        labels = generator.labels(self.n, seed)
        assert labels is not None  # `check`
        samples = torch.cat(list(generator.draw(generator.z(self.n, seed), labels)))
        error = nearest_neighbour_error(samples, labels, real)
        floor = nearest_neighbour_error(real.train_images[: self.n], real.train_labels[: self.n], real)
        return {"nearest_neighbour_error": error}, {"nearest_neighbour_error": floor}


def nearest_neighbour_error(images: UInt8[Tensor, "n c h w"], labels: Int64[Tensor, " n"], real: Reference) -> float:
    """The share of test images whose nearest of `images` has another label, at 28 x 28 pixels."""
    _, nearest = nearest_distances(flat(real.test.seen), flat(fit_images(images, SIZE, images.shape[1])))
    return (labels[nearest] != real.test_labels).double().mean().item()
