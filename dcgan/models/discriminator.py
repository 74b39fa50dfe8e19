"""Discriminators: image (and a label) -> logit (Radford et al. 2016, the DCGAN paper)."""

from collections import OrderedDict
from functools import partial
from itertools import pairwise

from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from dcgan.common.arg_checks import check_bool, check_int, check_number
from dcgan.models.initialization import init_weights
from dcgan.models.layers import (
    Activation,
    ChannelsLastFlatten,
    ConditionalSequential,
    LayerFactory,
    build_block,
    concat_label,
    layer_sizes,
    one_hot,
)
from dcgan.models.normalization import Normalization


def pack_images(x: Float[Tensor, "n c h w"], pack: int) -> Float[Tensor, "m d h w"]:
    """Concatenate the channels of each `pack` consecutive images. Raise ValueError if some are left over."""
    if pack == 1:
        return x
    if len(x) % pack:
        raise ValueError(f"the number of images must be a multiple of discriminator.pack ({pack}), got {len(x)}")
    return x.unflatten(0, (-1, pack)).flatten(1, 2)


class BaseDiscriminator(nn.Module):
    """Base class of discriminators: image -> `down_blocks` -> `head` -> features -> `logit`.

    Subclasses build `down_blocks` and `head`, then call `finalize`.

    Args:
        channels: Channels of an image, >= 1.
        classes: Number of labels; 0: unconditional. The one-hot label is an additional input of every layer (Mirza and
            Osindero 2014).
        projection: Instead, the label adds <embedding(label), features> to the logit (Miyato and Koyama 2018, eq. 3).
        pack: Number of images that are judged together, with one logit (PacGAN, Lin et al. 2018). The input is single
            images, or packs from `pack_images`.

    Attributes:
        in_channels: Input channels of the first layer.
        label_channels: Channels that the label adds to the input of every layer.

    Raises:
        ValueError: An argument is out of range, `projection` without classes, or a pack with classes.
    """

    down_blocks: ConditionalSequential
    head: ConditionalSequential

    def __init__(self, channels: int, classes: int, projection: bool, pack: int) -> None:
        super().__init__()
        check_int("channels", channels, 1)
        check_int("data.classes", classes, 0)
        check_int("discriminator.pack", pack, 1)
        if pack > 1 and classes:
            raise ValueError(
                f"discriminator.pack must be 1 for a conditional network, got {pack}: a pack has one logit but several "
                "labels"
            )
        if not isinstance(projection, bool) or (projection and not classes):
            raise ValueError(f"discriminator.projection must be false, or true with classes, got {projection!r}")
        self.classes, self.pack = classes, pack
        self.label_channels = 0 if projection else classes
        self.packed_channels = pack * channels
        self.in_channels = self.packed_channels + self.label_channels
        self.embedding: nn.Linear | None = None

    def finalize(self, features: int, spectral_norm: bool) -> None:
        """Build the logit from the number of features, initialize all weights, and apply spectral norm if requested."""
        check_bool("spectral_norm", spectral_norm)
        self.logit = nn.Linear(features + self.label_channels, 1)
        if self.classes and not self.label_channels:
            self.embedding = nn.Linear(self.classes, features, bias=False)
        self.apply(init_weights)
        if spectral_norm:
            for module in list(self.modules()):
                if isinstance(module, nn.Conv2d | nn.Linear):
                    parametrizations.spectral_norm(module)

    def forward(self, x: Float[Tensor, "n c h w"], label: Int64[Tensor, " n"] | None = None) -> Float[Tensor, " m"]:
        y = one_hot(label, self.classes)
        layer_y = y if self.label_channels else None
        if x.shape[1] != self.packed_channels:
            x = pack_images(x, self.pack)
        features = self.head(self.down_blocks(x, layer_y), layer_y)
        logits = self.logit(concat_label(features, layer_y)).squeeze(1)
        return logits if self.embedding is None else logits + (self.embedding(y) * features).sum(dim=1)


class Discriminator(BaseDiscriminator):
    """The DCGAN discriminator: image -> k downsampling layers -> (dense hidden layer) -> logit.

    Its widths mirror the generator's. There is no normalization after the first layer (DCGAN paper, section 3).

    Args:
        image_size: Height and width of the images: start * 2^k pixels (see `layer_sizes`).
        channels: Channels of the images: 1 for grayscale, 3 for RGB.
        downsampling: Called with (in_channels, out_channels, bias=); returns a module that halves height and width.
        activation: Returns a new activation module for each hidden layer.
        normalization: Provides the normalization of the hidden layers.
        base_channels: Channels after the first downsampling; twice as many per smaller map, up to 8 times.
        hidden_width: Width of the dense hidden layer. 0: none. None: 1024 below 64 x 64 pixels, else 0.
        dropout: Probability of dropout after each activation, in [0, 1).
        spectral_norm: Divide each weight by its largest singular value (Miyato et al. 2018).
        classes, projection, pack: As in `BaseDiscriminator`.

    Raises:
        ValueError: An argument is out of range, or as in `BaseDiscriminator`.
    """

    def __init__(
        self,
        image_size: int,
        channels: int,
        downsampling: LayerFactory,
        activation: Activation,
        normalization: Normalization,
        base_channels: int = 64,
        hidden_width: int | None = None,
        dropout: float = 0.0,
        spectral_norm: bool = False,
        classes: int = 0,
        projection: bool = False,
        pack: int = 1,
    ) -> None:
        super().__init__(channels, classes, projection, pack)
        check_int("base_channels", base_channels, 1)
        check_number("dropout", dropout, 0, 1, brackets="[)")
        start_size, widths, hidden = layer_sizes(image_size, base_channels, hidden_width)
        features = widths[0] * start_size**2
        widths.reverse()  # D sees the largest map first

        block = partial(build_block, activation=activation, dropout=dropout)
        self.down_blocks = ConditionalSequential(
            block(downsampling, self.in_channels, widths[0], nn.Identity()),
            *(block(downsampling, i + self.label_channels, o, normalization.conv(o)) for i, o in pairwise(widths)),
        )
        head = OrderedDict[str, nn.Module](flatten=ChannelsLastFlatten())
        if hidden:
            head["hidden"] = block(nn.Linear, features + self.label_channels, hidden, normalization.dense(hidden))
        self.head = ConditionalSequential(head)
        self.finalize(hidden or features, spectral_norm)
