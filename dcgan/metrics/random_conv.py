"""Features of a convolutional network with fixed random weights, which need no training, no labels and no download.

Naeem et al. 2020 ("Reliable fidelity and diversity metrics for generative models", section 4.4) show that such
features rank generators.
"""

import math
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from dcgan.common.arg_checks import check_int
from dcgan.data.datamodule import BaseDataModule
from dcgan.data.pixel_range import resize_images
from dcgan.metrics.features import FeatureExtractor

VERSION = 1  # increase it if the features change
SIZES = (32, 64)  # pixels of the input: images are resized to the smallest that is not smaller, or to the largest
CHANNELS = (3, 32, 64, 128)
GRID = 4  # the last maps are averaged to GRID x GRID values, which keeps the layout of an image
FEATURE_DIM = 128


class RandomNetwork:
    """Three random 3x3 convolutions (He et al. 2015), each followed by ReLU and 2x2 average pooling, and a projection.

    The projection onto 128 orthonormal directions keeps the distances between images (Johnson and Lindenstrauss 1984).

    Args:
        image_size: Pixels of the images to compare. `size` is that of the network's input.
        device: The device of the network and the features.
        seed: Seed of the weights, >= 0.
    """

    def __init__(self, image_size: int, device: torch.device, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)  # its stream is the same on every machine, unlike torch's
        kernels = [
            rng.standard_normal((outputs, inputs, 3, 3)) * math.sqrt(2 / (9 * inputs))
            for inputs, outputs in pairwise(CHANNELS)
        ]
        projection = np.linalg.qr(rng.standard_normal((CHANNELS[-1] * GRID**2, FEATURE_DIM)))[0]
        self.kernels = [torch.tensor(kernel, dtype=torch.float32, device=device) for kernel in kernels]
        self.projection = torch.tensor(projection, dtype=torch.float32, device=device)
        self.size = next((size for size in SIZES if size >= image_size), SIZES[-1])

    def __call__(self, x: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b d"]:
        """Return the features of images in [-1, 1] at the network's size. Differentiable."""
        x = x.contiguous(memory_format=torch.channels_last)
        for kernel in self.kernels:
            x = F.avg_pool2d(F.conv2d(x, kernel, padding=1).relu_(), 2)
        return F.adaptive_avg_pool2d(x, GRID).flatten(1) @ self.projection


class RandomConv(FeatureExtractor):
    """The features of `RandomNetwork`. Grey images get three equal channels.

    Args:
        data: The real images.
        device: The device of the network and the features.
        seed: Seed of the weights, >= 0. Values of different seeds cannot be compared.

    Raises:
        ValueError: `seed` is out of range.
    """

    name = "random_conv"
    description = f"random convolutional network, version {VERSION}"

    def __init__(self, data: BaseDataModule, device: torch.device, seed: int = 0) -> None:
        check_int("features.random_conv.seed", seed, 0)
        self.network, self.device = RandomNetwork(data.image_size, device, seed), device
        self.facts = {"version": VERSION, "seed": seed, "size": self.network.size}

    def extract(self, images: UInt8[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        return self.network(resize_images(images, self.network.size, 3).float() / 127.5 - 1)
