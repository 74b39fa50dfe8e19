"""Initial weights: those of the DCGAN paper, optionally rescaled to He initialization."""

import math

import torch
from torch import nn

from dcgan.models.layers import WeightLayer
from dcgan.models.normalization import BATCH_NORM_LAYERS

INITIAL_STD = 0.02


def init_weights(module: nn.Module) -> None:
    """Initialize one module as the DCGAN paper (section 4) and its authors' code do; for `nn.Module.apply`.

    Weights ~ N(0, 0.02), batch-norm scales ~ N(1, 0.02), biases 0. A module with a method `init_weights` initializes
    itself, or adjusts the weights of its children.
    """
    if callable(own := getattr(module, "init_weights", None)):
        own()
    elif isinstance(module, WeightLayer):
        nn.init.normal_(module.weight, 0.0, INITIAL_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, BATCH_NORM_LAYERS):
        nn.init.normal_(module.weight, 1.0, INITIAL_STD)
        nn.init.zeros_(module.bias)


class HeInitialization:
    """Rescale the initial weights to a standard deviation of sqrt(2 / fan_in) (He et al. 2015, section 2.2).

    ReLU layers then keep the magnitude of their input without normalization. Scaling does not affect layers with
    spectral norm, and leaves out those that initialize themselves.
    """

    @torch.no_grad()
    def __call__(self, network: nn.Module) -> None:
        for module in network.modules():
            if isinstance(module, WeightLayer) and not hasattr(module, "init_weights"):
                module.weight.mul_(math.sqrt(2 / fan_in(module)) / INITIAL_STD)


def fan_in(layer: WeightLayer) -> float:
    """Return the number of inputs per output, for a transposed convolution the average over its output pixels."""
    if isinstance(layer, nn.ConvTranspose2d):
        return layer.weight[:, 0].numel() / math.prod(layer.stride)
    return layer.weight[0].numel()
