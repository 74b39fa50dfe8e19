"""Generators: z (and a label) -> image (Radford et al. 2016, the DCGAN paper)."""

from collections import OrderedDict
from functools import partial
from itertools import pairwise

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from dcgan.common.arg_checks import check_instance, check_int
from dcgan.models.initialization import init_weights
from dcgan.models.layers import (
    Activation,
    ChannelsLastUnflatten,
    ConditionalSequential,
    LayerFactory,
    build_block,
    concat_label,
    layer_sizes,
    one_hot,
)
from dcgan.models.normalization import Normalization
from dcgan.models.prior import RNG, Prior


class BaseGenerator(nn.Module):
    """Base class of generators: z -> `start` -> `up_blocks` -> `to_image` -> `output_activation`.

    Subclasses build these four modules. Every layer also gets the one-hot label, if any (Mirza and Osindero 2014).

    Args:
        prior: Samples z.
        latent_dim: Length of z, >= 1.
        channels: Channels of the images, >= 1.
        base_channels: Unit of the layers' widths, >= 1.
        classes: Number of labels; 0: unconditional.

    Attributes:
        label_prior: Each label's frequency in the training images, uniform until training starts.

    Raises:
        ValueError: An argument is out of range.
    """

    start: ConditionalSequential
    up_blocks: ConditionalSequential
    to_image: nn.Module
    output_activation: nn.Module
    label_prior: Tensor

    def __init__(self, prior: Prior, latent_dim: int, channels: int, base_channels: int, classes: int) -> None:
        super().__init__()
        check_instance("prior", prior, Prior)
        check_int("latent_dim", latent_dim, 1)
        check_int("channels", channels, 1)
        check_int("base_channels", base_channels, 1)
        check_int("data.classes", classes, 0)
        self.prior, self.latent_dim, self.classes = prior, latent_dim, classes
        if classes:
            self.register_buffer("label_prior", torch.full((classes,), 1 / classes))

    def forward(
        self, z: Float[Tensor, "n latent_dim"], label: Int64[Tensor, " n"] | None = None
    ) -> Float[Tensor, "n c h w"]:
        y = one_hot(label, self.classes)
        x = self.up_blocks(self.start(z, y), y)
        return self.output_activation(self.to_image(concat_label(x, y)))

    def sample_z(self, n: int, device: torch.device, rng: RNG = None) -> Float[Tensor, "n latent_dim"]:
        """Sample n latent vectors on `device` from `rng`, a generator on that device (default: its global one)."""
        return self.prior(n, self.latent_dim, device, rng)


class Generator(BaseGenerator):
    """The DCGAN generator: z -> (dense hidden layer) -> start map -> k upsampling layers -> image.

    Args:
        image_size: Height and width of the images: start * 2^k pixels (see `layer_sizes`).
        channels: Channels of the images: 1 for grayscale, 3 for RGB.
        upsampling: Called with (in_channels, out_channels, bias=); returns a module that doubles height and width.
        activation: Returns a new activation module for each hidden layer.
        normalization: Provides the normalization of the hidden layers.
        output_activation: Bounds the pixels: tanh to [-1, 1], sigmoid to [0, 1].
        prior: Samples z.
        latent_dim: Length of z.
        base_channels: Channels before the last upsampling; twice as many per smaller map, up to 8 times.
        hidden_width: Width of the dense hidden layer (of the DCGAN authors' MNIST network). 0: none, a convolution
            projects z to the start map (the paper's network). None: 1024 below 64 x 64 pixels, else 0.
        classes: Number of labels; 0: unconditional.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        image_size: int,
        channels: int,
        upsampling: LayerFactory,
        activation: Activation,
        normalization: Normalization,
        output_activation: nn.Module,
        prior: Prior,
        latent_dim: int = 100,
        base_channels: int = 64,
        hidden_width: int | None = None,
        classes: int = 0,
    ) -> None:
        super().__init__(prior, latent_dim, channels, base_channels, classes)
        start_size, widths, hidden = layer_sizes(image_size, base_channels, hidden_width)

        def dense(inputs: int, outputs: int) -> nn.Module:
            return build_block(nn.Linear, inputs + classes, outputs, normalization.dense(outputs), activation)

        def conv(layer: LayerFactory, inputs: int, outputs: int) -> nn.Module:
            return build_block(layer, inputs + classes, outputs, normalization.conv(outputs), activation)

        if hidden:
            start = OrderedDict(
                hidden=dense(latent_dim, hidden),
                project=dense(hidden, widths[0] * start_size**2),
                to_map=ChannelsLastUnflatten(widths[0], start_size),
            )
        else:
            # The input has one pixel, so that the stride does not change the output. It is set for `fan_in`.
            projection = partial(nn.ConvTranspose2d, kernel_size=start_size, stride=start_size)
            start = OrderedDict(
                to_map=ChannelsLastUnflatten(latent_dim, 1), project=conv(projection, latent_dim, widths[0])
            )
        self.start = ConditionalSequential(start)
        self.up_blocks = ConditionalSequential(*(conv(upsampling, i, o) for i, o in pairwise(widths)))
        self.to_image = upsampling(widths[-1] + classes, channels, bias=True)
        check_instance("output_activation", output_activation, nn.Module)
        self.output_activation = output_activation
        self.apply(init_weights)
