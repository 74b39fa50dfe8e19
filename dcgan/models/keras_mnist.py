"""The networks of the Keras tutorials on MNIST, with widths scaled by base_channels (64 in the tutorials)."""

from collections import OrderedDict
from functools import partial

from torch import nn

from dcgan.common.arg_checks import check_image_size, check_instance, check_int, check_number
from dcgan.models.discriminator import BaseDiscriminator
from dcgan.models.generator import BaseGenerator
from dcgan.models.initialization import init_weights
from dcgan.models.layers import (
    Activation,
    ChannelsLastFlatten,
    ChannelsLastUnflatten,
    ConditionalSequential,
    build_block,
)
from dcgan.models.normalization import Normalization, batch_norms
from dcgan.models.prior import Prior
from dcgan.models.upsampling import UpsampleConv

MOMENTUM = 0.2  # of batch norm; 0.8 in Keras, which defines it as the weight of the old statistics


class KerasGenerator(BaseGenerator):
    """The tutorials' generator: z -> dense layer -> start map -> 2 nearest upsamplings with 3x3 convolutions -> image.

    Its arguments are those of `dcgan.models.generator.Generator`. image_size must be a multiple of 4, >= 8.
    """

    def __init__(
        self,
        image_size: int,
        channels: int,
        activation: Activation,
        normalization: Normalization,
        output_activation: nn.Module,
        prior: Prior,
        latent_dim: int = 100,
        base_channels: int = 64,
        classes: int = 0,
    ) -> None:
        super().__init__(prior, latent_dim, channels, base_channels, classes)
        check_multiple_of_4(image_size)
        start_size, wide, narrow = image_size // 4, 2 * base_channels, base_channels

        block = partial(build_block, activation=activation)
        project = block(nn.Linear, latent_dim + classes, wide * start_size**2, nn.Identity())
        to_map = ChannelsLastUnflatten(wide, start_size)
        self.start = ConditionalSequential(OrderedDict(project=project, to_map=to_map))
        self.up_blocks = ConditionalSequential(
            block(UpsampleConv, wide + classes, wide, normalization.conv(wide)),
            block(UpsampleConv, wide + classes, narrow, normalization.conv(narrow)),
        )
        self.to_image = nn.Conv2d(narrow + classes, channels, 3, padding=1)
        check_instance("output_activation", output_activation, nn.Module)
        self.output_activation = output_activation
        self.apply(init_weights)
        set_momentum(self)


class KerasDiscriminator(BaseDiscriminator):
    """The tutorials' discriminator: image -> 4 convolutions (strides 2, 2, 2, 1) with dropout -> logit.

    There is no normalization after the first convolution. Its arguments are those of
    `dcgan.models.discriminator.Discriminator`. image_size must be a multiple of 4, >= 8.
    """

    def __init__(
        self,
        image_size: int,
        channels: int,
        activation: Activation,
        normalization: Normalization,
        base_channels: int = 64,
        dropout: float = 0.25,
        spectral_norm: bool = False,
        classes: int = 0,
        projection: bool = False,
        pack: int = 1,
    ) -> None:
        super().__init__(channels, classes, projection, pack)
        check_multiple_of_4(image_size)
        check_int("base_channels", base_channels, 2)
        check_number("dropout", dropout, 0, 1, brackets="[)")
        w1, w2, w3, w4 = base_channels // 2, base_channels, 2 * base_channels, 4 * base_channels
        conv = partial(nn.Conv2d, kernel_size=3, padding=1)
        strided_conv = partial(conv, stride=2)

        block = partial(build_block, activation=activation, dropout=dropout)
        self.down_blocks = ConditionalSequential(
            block(strided_conv, self.in_channels, w1, nn.Identity()),
            block(padded_conv, w1 + self.label_channels, w2, normalization.conv(w2)),
            block(strided_conv, w2 + self.label_channels, w3, normalization.conv(w3)),
            block(conv, w3 + self.label_channels, w4, normalization.conv(w4)),
        )
        map_size = (image_size // 4 + 2) // 2  # two strides, one padded row, a stride that rounds up
        self.head = ConditionalSequential(ChannelsLastFlatten())
        self.finalize(w4 * map_size**2, spectral_norm)
        set_momentum(self)


def padded_conv(in_channels: int, out_channels: int, bias: bool) -> nn.Module:
    """Return a 3x3 convolution of stride 2 that adds a row of zeros at the bottom and a column on the right."""
    conv = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1, bias=bias)
    return nn.Sequential(conv, nn.ZeroPad2d((0, 1, 0, 1)))


def set_momentum(network: nn.Module) -> None:
    """Give the network's batch norms, if any, the momentum of the tutorials."""
    for norm in batch_norms(network):
        norm.momentum = MOMENTUM


def check_multiple_of_4(image_size: int) -> None:
    """Raise ValueError unless image_size is a multiple of 4 and at least 8."""
    check_image_size("image_size", image_size, 8)
    if image_size % 4:
        raise ValueError(f"image_size must be a multiple of 4 for keras_mnist, got {image_size}")
