"""The pair of networks that the Keras tutorials train on MNIST, widths scaled by base_channels (64: the original)."""

from functools import partial

from torch import nn

from dcgan.checks import check_int, check_number
from dcgan.networks import Activation, ImageModel, LatentModel, Layers, ToFeatures, ToMap, block, init_weights
from dcgan.normalization import Normalization, batch_norms
from dcgan.prior import Prior
from dcgan.upsampling import UpsampleConv

MOMENTUM = 0.2  # of batch norm; .8 in Keras' sense


class KerasGenerator(LatentModel):
    """G: z -> dense to an (image_size / 4)^2 map of 2 * base -> two blocks of nearest upsampling, 3x3 convolution
    (2 * base, then base), norm, activation -> 3x3 convolution to the image.

    Arguments as `dcgan.networks.Generator`'s. Raises ValueError unless image_size is a multiple of 4, at least 8.
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
        check_image_size(image_size)
        start, wide, narrow = image_size // 4, 2 * base_channels, base_channels

        self.start = Layers()
        self.start.add_module(
            "project",
            block(partial(nn.Linear, latent_dim + classes, wide * start**2), nn.Identity(), activation),
        )
        self.start.add_module("to_map", ToMap(wide, start))
        self.doublings = Layers(
            block(partial(UpsampleConv, wide + classes, wide), normalization.conv(wide), activation),
            block(partial(UpsampleConv, wide + classes, narrow), normalization.conv(narrow), activation),
        )
        self.to_image = nn.Conv2d(narrow + classes, channels, 3, padding=1)
        self.output_activation = output_activation
        self.apply(init_weights)
        set_momentum(self)


class KerasDiscriminator(ImageModel):
    """D: 3x3 convolutions to base / 2, base, 2 * base, 4 * base with strides 2, 2, 2, 1, a row and a column of zeros
    added right and below after the second, norm from the second on; dropout after each; flatten, one logit.

    Arguments as `dcgan.networks.Discriminator`'s. Raises ValueError unless image_size is a multiple of 4, at least 8.
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
        check_image_size(image_size)
        check_int("base_channels", base_channels, 2)
        check_number("dropout", dropout, 0, 1, brackets="[)")
        a, b, c, d = base_channels // 2, base_channels, 2 * base_channels, 4 * base_channels
        planes = self.planes

        def padded(in_channels: int, out_channels: int, bias: bool) -> nn.Module:
            conv = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1, bias=bias)
            return nn.Sequential(conv, nn.ZeroPad2d((0, 1, 0, 1)))

        self.halvings = Layers(
            block(partial(nn.Conv2d, self.in_channels, a, 3, 2, 1), nn.Identity(), activation, dropout),
            block(partial(padded, a + planes, b), normalization.conv(b), activation, dropout),
            block(partial(nn.Conv2d, b + planes, c, 3, 2, 1), normalization.conv(c), activation, dropout),
            block(partial(nn.Conv2d, c + planes, d, 3, 1, 1), normalization.conv(d), activation, dropout),
        )
        side = (image_size // 4 + 2) // 2  # quartered, one row more, halved and rounded up
        self.head = Layers(ToFeatures())
        self.finish(d * side**2, spectral_norm)
        set_momentum(self)


def set_momentum(network: nn.Module) -> None:
    """Give the network's batch norms, where it has any, the tutorials' momentum."""
    for norm in batch_norms(network):
        norm.momentum = MOMENTUM


def check_image_size(image_size: int) -> None:
    """Raise ValueError unless the networks' two doublings reach image_size."""
    check_int("image_size", image_size, 8)
    if image_size % 4:
        raise ValueError(f"image_size must be a multiple of 4 for keras_mnist, got {image_size}")
