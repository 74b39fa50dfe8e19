"""What the discriminator has learned to see, as the DCGAN paper tested it (section 5.1)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch import Tensor, nn

from dcgan.data import InMemoryData
from dcgan.networks import hidden_activations
from dcgan.pixels import PixelRange

GRID = 4
BATCH = 500
TRAIN_IMAGES = 10_000


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


def probe_accuracy(discriminator: nn.Module, data: InMemoryData) -> float:
    """Test accuracy of a linear SVM (squared hinge, L2) on D's pooled features, D in eval mode, fitted on the first
    10,000 training images: all 60,000 would take several gigabytes. An untrained D is the floor: its random features
    alone reach 96 to 97 % on MNIST."""
    images, labels = data.load(train=True)
    test_images, test_labels = data.load(train=False)

    def features(stored: Tensor) -> Float[Tensor, "n d"]:
        return pooled_features(discriminator, data.fit(stored), data.pixels)

    svm = make_pipeline(StandardScaler(), LinearSVC(C=1e-3, dual=True, random_state=0))
    svm.fit(features(images[:TRAIN_IMAGES]).numpy(), labels[:TRAIN_IMAGES].numpy())
    return float(svm.score(features(test_images).numpy(), test_labels.numpy()))
