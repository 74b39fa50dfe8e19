"""Residual networks without normalization, after R3GAN (Huang et al. 2024, section 3), in the widths of the DCGAN."""

import math
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dcgan.common.arg_checks import check_instance, check_int, check_number
from dcgan.models.discriminator import BaseDiscriminator
from dcgan.models.generator import BaseGenerator
from dcgan.models.initialization import init_weights
from dcgan.models.layers import (
    Activation,
    ChannelsLastFlatten,
    ChannelsLastUnflatten,
    ConditionalSequential,
    build_block,
    layer_sizes,
)
from dcgan.models.prior import Prior

EXPANSION = 2  # width of a block's 3x3 convolution, in units of the map's channels
GROUP_WIDTH = 16  # channels per group of this convolution
ATTENTION_REDUCTION = 8  # of the channels of queries and keys (Zhang et al. 2019, section 3)
HE_GAIN = math.sqrt(2)


class ScaledConv(nn.Conv2d):
    """A convolution with weights ~ N(0, gain^2 / fan_in) (He et al. 2015, section 2.2). gain=0: it starts at zero."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        *,
        groups: int = 1,
        padding: int = 0,
        bias: bool = True,
        gain: float = 1.0,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=padding, groups=groups, bias=bias)
        self.gain = gain

    def init_weights(self) -> None:
        nn.init.normal_(self.weight, 0.0, self.gain / math.sqrt(self.weight[0].numel()))
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class ResidualBlock(nn.Module):
    """x + f(x), where f is a 1x1 convolution to more channels, a grouped 3x3 convolution, and a 1x1 convolution back.

    Initialized so that the variance of the maps does not grow with the number of blocks (Fixup, Zhang et al. 2019,
    section 3): the last convolution starts at zero, the others are scaled by n_blocks^(-1/4).

    Args:
        channels: Of input and output.
        n_blocks: Number of residual blocks of the network.
        activation: Returns a new activation module.
        dropout: Probability of dropout after each activation.
    """

    def __init__(self, channels: int, n_blocks: int, activation: Activation, dropout: float) -> None:
        super().__init__()
        width, conv = EXPANSION * channels, partial(ScaledConv, gain=HE_GAIN * n_blocks**-0.25)
        groups = width // math.gcd(width, GROUP_WIDTH)
        block = partial(build_block, norm=nn.Identity(), activation=activation, dropout=dropout)
        self.expand = block(conv, channels, width)
        self.mix = block(partial(conv, kernel_size=3, padding=1, groups=groups), width, width)
        self.project = ScaledConv(width, channels, bias=False, gain=0.0)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return x + self.project(self.mix(self.expand(x)))


class SelfAttention(nn.Module):
    """Self-attention over the positions of a map, which starts as the identity (Zhang et al. 2019, section 3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        width = max(1, channels // ATTENTION_REDUCTION)
        self.query, self.key = (ScaledConv(channels, width, bias=False) for _ in range(2))
        self.value = ScaledConv(channels, channels, bias=False)
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        query, key, value = (layer(x).flatten(2) for layer in (self.query, self.key, self.value))
        # F.scaled_dot_product_attention has no second derivative, which gradient penalties need
        attention = (query.transpose(1, 2) @ key).softmax(dim=-1)
        return x + self.gain * (value @ attention.transpose(1, 2)).unflatten(2, x.shape[2:])


class Stage(nn.Sequential):
    """Changes size and channels of a map, then applies residual blocks, then self-attention if `attention`.

    Args:
        inputs, outputs: Channels.
        block: Returns a residual block of `outputs` channels.
        blocks: Number of blocks.
        attention: Apply self-attention at the end.
        before: Changes the size before the channels change.
        after: Changes the size after the channels have changed.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        block: Callable[[int], nn.Module],
        blocks: int,
        attention: bool,
        before: nn.Module | None = None,
        after: nn.Module | None = None,
    ) -> None:
        channels = ScaledConv(inputs, outputs, bias=False) if inputs != outputs else None
        named = {"before": before, "channels": channels, "after": after}
        layers = OrderedDict((name, layer) for name, layer in named.items() if layer is not None)
        layers |= {f"block_{i + 1}": block(outputs) for i in range(blocks)}
        if attention:
            layers["attention"] = SelfAttention(outputs)
        super().__init__(layers)


class Basis(nn.Module):
    """Learned maps, of which each is multiplied by a linear function of the input (R3GAN's start of the generator)."""

    def __init__(self, inputs: int, channels: int, size: int) -> None:
        super().__init__()
        self.maps = nn.Parameter(torch.randn(channels, size, size))
        self.coefficients = ScaledConv(inputs, channels, bias=False)

    def forward(self, x: Float[Tensor, "n c 1 1"]) -> Float[Tensor, "n d h w"]:
        return self.maps * self.coefficients(x)


def stage_sizes(image_size: int, base_channels: int, blocks: int, attention_size: int | None) -> list[tuple[int, int]]:
    """Return size and channels of the maps of all stages, smallest map first.

    Maps of the image's size have half of base_channels, the others are those of the DCGAN (see `layer_sizes`).

    Raises:
        ValueError: An argument is out of range.
    """
    check_int("base_channels", base_channels, 2)
    check_int("blocks", blocks, 1)
    start_size, widths, _ = layer_sizes(image_size, base_channels, 0)
    stages = [(start_size * 2**i, width) for i, width in enumerate([*widths, base_channels // 2])]
    sizes = [size for size, _ in stages]
    if attention_size is not None and attention_size not in sizes:
        raise ValueError(f"attention_size must be null or one of {', '.join(map(str, sizes))}, got {attention_size!r}")
    return stages


class ResidualGenerator(BaseGenerator):
    """R3GAN's generator: z -> basis -> residual stages with bilinear upsampling between them -> image.

    Args:
        image_size, channels, activation, output_activation, prior, latent_dim, base_channels, classes: As in
            `dcgan.models.generator.Generator`.
        blocks: Residual blocks per stage, >= 1.
        attention_size: Size of the maps that get self-attention; None: no attention.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        image_size: int,
        channels: int,
        activation: Activation,
        output_activation: nn.Module,
        prior: Prior,
        latent_dim: int = 100,
        base_channels: int = 64,
        blocks: int = 1,
        attention_size: int | None = None,
        classes: int = 0,
    ) -> None:
        super().__init__(prior, latent_dim, channels, base_channels, classes)
        stages = stage_sizes(image_size, base_channels, blocks, attention_size)
        block = partial(ResidualBlock, n_blocks=blocks * len(stages), activation=activation, dropout=0.0)
        stage = partial(Stage, block=block, blocks=blocks)
        (size, width), *_ = stages
        self.start = ConditionalSequential(
            OrderedDict(
                to_map=ChannelsLastUnflatten(latent_dim, 1),
                basis=Basis(latent_dim + classes, width, size),
                stage=stage(width + classes, width, attention=size == attention_size),
            )
        )
        self.up_blocks = ConditionalSequential(
            *(
                # the upsampling of fewer channels is faster, and the same
                stage(
                    inputs + classes,
                    outputs,
                    attention=size == attention_size,
                    after=nn.Upsample(scale_factor=2, mode="bilinear"),
                )
                for (_, inputs), (size, outputs) in pairwise(stages)
            )
        )
        self.to_image = ScaledConv(stages[-1][1] + classes, channels)
        check_instance("output_activation", output_activation, nn.Module)
        self.output_activation = output_activation
        self.apply(init_weights)


class ResidualDiscriminator(BaseDiscriminator):
    """R3GAN's discriminator: image -> residual stages with bilinear downsampling between them -> logit.

    Args:
        image_size, channels, activation, base_channels, dropout, spectral_norm, classes, projection, pack: As in
            `dcgan.models.discriminator.Discriminator`.
        blocks: Residual blocks per stage, >= 1.
        attention_size: Size of the maps that get self-attention; None: no attention.

    Raises:
        ValueError: An argument is out of range, or as in `BaseDiscriminator`.
    """

    def __init__(
        self,
        image_size: int,
        channels: int,
        activation: Activation,
        base_channels: int = 64,
        blocks: int = 1,
        attention_size: int | None = None,
        dropout: float = 0.0,
        spectral_norm: bool = False,
        classes: int = 0,
        projection: bool = False,
        pack: int = 1,
    ) -> None:
        super().__init__(channels, classes, projection, pack)
        check_number("dropout", dropout, 0, 1, brackets="[)")
        stages = stage_sizes(image_size, base_channels, blocks, attention_size)[::-1]
        block = partial(ResidualBlock, n_blocks=blocks * len(stages), activation=activation, dropout=dropout)
        stage = partial(Stage, block=block, blocks=blocks)
        (size, width), *_, (last_size, features) = stages
        first = stage(self.in_channels, width, attention=size == attention_size)
        *others, last = (
            # the mean of 2x2 pixels is bilinear downsampling
            stage(inputs + self.label_channels, outputs, attention=size == attention_size, before=nn.AvgPool2d(2))
            for (_, inputs), (size, outputs) in pairwise(stages)
        )
        basis = ScaledConv(features, features, last_size, groups=features, bias=False)
        self.down_blocks = ConditionalSequential(
            first, *others, nn.Sequential(OrderedDict[str, nn.Module](stage=last, basis=basis))
        )
        self.head = ConditionalSequential(ChannelsLastFlatten())
        self.finalize(features, spectral_norm)
