"""The generator and the discriminator; every size, width and layer type is an argument.

Radford et al. 2016, "Unsupervised representation learning with deep convolutional GANs" (the DCGAN paper), with the
dense hidden layer of its authors' own MNIST network in front, and, where the networks are told the class (Mirza and
Osindero 2014), the label where that network has it: beside the input of every layer.
"""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from dcgan.checks import check_int, check_number, first_line
from dcgan.normalization import BATCH_NORM, Normalization
from dcgan.prior import Prior
from dcgan.upsampling import PixelShuffleConv

Activation = Callable[[], nn.Module]  # a new module at each call: a PReLU must not share its slope between layers
Resampling = Callable[..., nn.Module]  # (in_channels, out_channels, bias=)
Weighted = nn.Conv2d | nn.ConvTranspose2d | nn.Linear
INITIAL_STD = 0.02


def doublings(image_size: int) -> tuple[int, int]:
    """(start, k) with image_size = start * 2^k, 4 <= start <= 7 and k >= 1; ValueError where there is none."""
    check_int("image_size", image_size, 1)
    reachable = sorted(start * 2**k for start in range(4, 8) for k in range(1, 10))
    if image_size not in reachable:
        near = sorted(reachable, key=lambda size: abs(size - image_size))[:2]
        raise ValueError(
            f"image_size must be 4, 5, 6 or 7 doubled at least once (8, 10, ..., 28, 32, ..., 64, ...), "
            f"got {image_size}; the nearest are {min(near)} and {max(near)}"
        )
    k = (image_size // 4).bit_length() - 1
    return image_size >> k, k


def widths(k: int, base_channels: int) -> list[int]:
    """Channels of the maps from the smallest to the largest: base_channels * min(8, 2^(k-1-i)), i = 0..k-1."""
    return [base_channels * min(8, 2 ** (k - 1 - i)) for i in range(k)]


def hidden_features(hidden_width: int | None, image_size: int) -> int:
    """The dense hidden layer's width: as given; by default 1024 below 64 x 64 pixels and none (0) from there."""
    if hidden_width is None:
        return 1024 if image_size < 64 else 0
    check_int("hidden_width", hidden_width, 0)
    return hidden_width


def init_weights(module: nn.Module) -> None:
    """Weights N(0, .02), batch-norm scales N(1, .02), biases 0 (DCGAN paper, section 4; its authors' code)."""
    if isinstance(module, Weighted):
        nn.init.normal_(module.weight, 0.0, INITIAL_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, BATCH_NORM):
        nn.init.normal_(module.weight, 1.0, INITIAL_STD)
        nn.init.zeros_(module.bias)
    elif isinstance(module, PixelShuffleConv):  # ties the weights of its children, whose turn came before
        module.icnr()


class HeWeights:
    """Rescales the weights that `init_weights` has drawn to a standard deviation of sqrt(2 / fan-in), with which ReLU
    layers keep the size of their signal where nothing normalises it (He et al. 2015, section 2.2). A spectrally
    normalised weight has the same size at any scale.
    """

    @torch.no_grad()
    def __call__(self, network: nn.Module) -> None:
        for module in network.modules():
            if isinstance(module, Weighted):
                module.weight.mul_(math.sqrt(2 / fan_in(module)) / INITIAL_STD)


def fan_in(layer: Weighted) -> float:
    """How many inputs one output sums up; of a transposed convolution a kernel's share of a stride each way."""
    if isinstance(layer, nn.ConvTranspose2d):
        return layer.weight[:, 0].numel() / math.prod(layer.stride)
    return layer.weight[0].numel()


def block(
    layer: Callable[..., nn.Module], norm: nn.Module, activation: Activation, dropout: float = 0.0
) -> nn.Sequential:
    """layer(bias=), normalisation, activation, dropout. A normalised layer has no bias: the norm would undo it."""
    layers = nn.Sequential()
    layers.add_module("layer", layer(bias=isinstance(norm, nn.Identity)))
    if not isinstance(norm, nn.Identity):
        layers.add_module("norm", norm)
    layers.add_module("activation", working(activation))
    if dropout:
        layers.add_module("dropout", nn.Dropout(dropout))
    return layers


def working(activation: Activation) -> nn.Module:
    """One more of it; ValueError where its settings are none that it can compute with, as torch.nn looks at none."""
    try:
        module = activation()
        module(torch.zeros(1))
    except (TypeError, ValueError, RuntimeError) as error:
        named = getattr(activation, "keywords", {})
        raise ValueError(f"activation cannot be computed with {named}: {first_line(error)}") from error
    return module


def one_hot(label: Int64[Tensor, " n"] | None, classes: int) -> Float[Tensor, "n k"] | None:
    """The label as a 1 among zeros; None where the network has no classes.

    ValueError where a network with classes is given no label, or one without classes is given one.
    """
    if (label is None) == (classes > 0):
        raise ValueError(f"a label must be given to a conditional network and to no other: it has {classes} classes")
    return None if label is None else (label[:, None] == torch.arange(classes, device=label.device)).float()


def beside(x: Float[Tensor, "n c *hw"], y: Float[Tensor, "n k"] | None) -> Float[Tensor, "n d *hw"]:
    """x and the one-hot label, where there is one, as k more channels: constant planes beside maps."""
    if y is None:
        return x
    planes = y.reshape(*y.shape, *(1,) * (x.dim() - 2)).expand(-1, -1, *x.shape[2:])
    return torch.cat((x, planes), dim=1)


class ToFeatures(nn.Module):
    """Maps to rows of features, pixel after pixel: the order they have in memory (channels_last), so nothing moves."""

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n h*w*c"]:
        return x.permute(0, 2, 3, 1).flatten(1)


class ToMap(nn.Module):
    """The way back, from rows of features to maps of so many channels and size x size pixels."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.channels, self.size = channels, size

    def forward(self, x: Float[Tensor, "n features"]) -> Float[Tensor, "n c h w"]:
        return x.unflatten(1, (self.size, self.size, self.channels)).permute(0, 3, 1, 2)


class Layers(nn.Sequential):
    """Layers in a row; each but a mere reshaping sees the one-hot label, where there is one, beside its input."""

    def forward(self, x: Float[Tensor, "*shape"], y: Float[Tensor, "n k"] | None = None) -> Float[Tensor, "*out"]:
        for layer in self:
            x = layer(x) if isinstance(layer, ToFeatures | ToMap) else layer(beside(x, y))
        return x


def hidden_activations(network: nn.Module) -> dict[str, nn.Module]:
    """The activations between a network's layers, by the name of the block they close, in the order of the data."""
    suffix = ".activation"
    return {name.removesuffix(suffix): module for name, module in network.named_modules() if name.endswith(suffix)}


def count_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


class LatentModel(nn.Module):
    """What every generator is: from a latent vector of a prior, and a label where there are classes, over a start map
    and its doublings to an image.

    classes: number of labels; 0: an unconditional network. label_prior: each label's share of the training images,
    equal until a training sets it. Raises ValueError for a latent_dim, channels or base_channels below 1, classes
    below 0.
    """

    start: Layers
    doublings: Layers
    to_image: nn.Module
    output_activation: nn.Module
    label_prior: Tensor

    def __init__(self, prior: Prior, latent_dim: int, channels: int, base_channels: int, classes: int) -> None:
        super().__init__()
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
        return self.output_activation(self.to_image(beside(self.doublings(self.start(z, y), y), y)))

    def draw_z(self, n: int, device: torch.device, rng: torch.Generator | None = None) -> Float[Tensor, "n latent_dim"]:
        """n latent vectors on `device`; `rng` lives there too (default: that device's global generator)."""
        return self.prior(n, self.latent_dim, device, rng)


class Generator(LatentModel):
    """G: z -> (dense hidden layer) -> start map -> k doublings -> image; each layer sees the label, if there is one.

    image_size: start * 2^k pixels (see `doublings`); channels: of the image, 1 or 3.
    upsampling: makes the module of one doubling; activation, normalization: of the hidden layers.
    output_activation: bounds the pixels: tanh for [-1, 1], sigmoid for [0, 1].
    prior: draws z; latent_dim: its length.
    base_channels: channels before the last doubling; the map before it has twice as many, and so on up to 8 times.
    hidden_width: of the dense hidden layer; 0: none, z is projected straight to the start map (the paper's
    all-convolutional form); None: 1024 below 64 x 64 pixels, else 0.
    classes: number of labels, 0: none.
    Raises ValueError for a size that no doublings reach and for widths below 1.
    """

    def __init__(
        self,
        image_size: int,
        channels: int,
        upsampling: Resampling,
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
        start, k = doublings(image_size)
        channels_in = widths(k, base_channels)
        hidden = hidden_features(hidden_width, image_size)

        self.start = Layers()
        if hidden:
            features = channels_in[0] * start**2
            self.start.add_module(
                "hidden",
                block(partial(nn.Linear, latent_dim + classes, hidden), normalization.dense(hidden), activation),
            )
            self.start.add_module(
                "project",
                block(partial(nn.Linear, hidden + classes, features), normalization.dense(features), activation),
            )
            self.start.add_module("to_map", ToMap(channels_in[0], start))
        else:
            self.start.add_module("to_map", ToMap(latent_dim, 1))
            self.start.add_module(
                "project",
                block(
                    # of a single pixel, so that the stride moves nothing; it says that each output has one input
                    partial(nn.ConvTranspose2d, latent_dim + classes, channels_in[0], start, stride=start),
                    normalization.conv(channels_in[0]),
                    activation,
                ),
            )
        self.doublings = Layers(
            *(
                block(partial(upsampling, i + classes, o), normalization.conv(o), activation)
                for i, o in pairwise(channels_in)
            )
        )
        self.to_image = upsampling(channels_in[-1] + classes, channels, bias=True)
        self.output_activation = output_activation
        self.apply(init_weights)


def packed(x: Float[Tensor, "n c h w"], pack: int) -> Float[Tensor, "m d h w"]:
    """Each `pack` images in a row as the channels of one. ValueError where they do not come out even."""
    if pack == 1:
        return x
    if len(x) % pack:
        raise ValueError(f"images must come in packs of {pack}, got {len(x)}")
    return x.unflatten(0, (-1, pack)).flatten(1, 2)


class ImageModel(nn.Module):
    """What every discriminator is: from an image, and a label where there are classes, over halvings and a head to one
    logit. A discriminator makes its halvings and its head and then calls `finish`.

    classes: number of labels; 0: an unconditional network.
    projection: the label enters at the end alone, as <embedding(y), features> added to the logit (Miyato and Koyama
    2018, equation 3), instead of beside the input of every layer. planes: channels that the label takes beside those.
    pack: images that D judges together, as the channels of one, with one logit (PacGAN, Lin et al. 2018): it takes
    images, or what `packed` makes of them. in_channels: what the first layer sees.
    Raises ValueError for channels or a pack below 1, classes below 0, a projection without classes and a pack with.
    """

    halvings: Layers
    head: Layers

    def __init__(self, channels: int, classes: int, projection: bool, pack: int) -> None:
        super().__init__()
        check_int("channels", channels, 1)
        check_int("data.classes", classes, 0)
        check_int("discriminator.pack", pack, 1)
        if pack > 1 and classes:
            raise ValueError(f"discriminator.pack must be 1 where images have labels, got {pack}: one logit, one label")
        if not isinstance(projection, bool) or (projection and not classes):
            raise ValueError(f"discriminator.projection must be false, or true with classes, got {projection!r}")
        self.classes, self.planes, self.pack = classes, 0 if projection else classes, pack
        self.packed_channels = pack * channels
        self.in_channels = self.packed_channels + self.planes
        self.embedding: nn.Linear | None = None

    def finish(self, features: int, spectral_norm: bool) -> None:
        """Add the logit of so many features, and initialise all layers."""
        self.logit = nn.Linear(features + self.planes, 1)
        if self.classes and not self.planes:
            self.embedding = nn.Linear(self.classes, features, bias=False)
        self.apply(init_weights)
        if spectral_norm:
            apply_spectral_norm(self)

    def forward(self, x: Float[Tensor, "n c h w"], label: Int64[Tensor, " n"] | None = None) -> Float[Tensor, " m"]:
        y = one_hot(label, self.classes)
        planes = y if self.planes else None
        x = x if x.shape[1] == self.packed_channels else packed(x, self.pack)
        features = self.head(self.halvings(x, planes), planes)
        logits = self.logit(beside(features, planes)).squeeze(1)
        return logits if self.embedding is None else logits + (self.embedding(y) * features).sum(dim=1)


class Discriminator(ImageModel):
    """D: image -> k halvings -> (dense hidden layer) -> one logit; the generator's widths mirrored.

    image_size, channels, base_channels, hidden_width: as the generator's.
    downsampling: makes the module of one halving; no normalisation behind the first one (DCGAN paper, section 3).
    activation, normalization: of the hidden layers.
    dropout: probability behind each activation, in [0, 1).
    spectral_norm: divide each weight by its largest singular value (Miyato et al. 2018).
    classes, projection, pack: as `ImageModel`'s.
    Raises ValueError for a size that no halvings reach, widths below 1, and a dropout outside [0, 1).
    """

    def __init__(
        self,
        image_size: int,
        channels: int,
        downsampling: Resampling,
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
        start, k = doublings(image_size)
        check_int("base_channels", base_channels, 1)
        check_number("dropout", dropout, 0, 1, brackets="[)")
        channels_out = widths(k, base_channels)[::-1]
        hidden = hidden_features(hidden_width, image_size)
        features, planes = channels_out[-1] * start**2, self.planes

        self.halvings = Layers(
            block(partial(downsampling, self.in_channels, channels_out[0]), nn.Identity(), activation, dropout),
            *(
                block(partial(downsampling, i + planes, o), normalization.conv(o), activation, dropout)
                for i, o in pairwise(channels_out)
            ),
        )
        self.head = Layers()
        self.head.add_module("flatten", ToFeatures())
        if hidden:
            self.head.add_module(
                "hidden",
                block(partial(nn.Linear, features + planes, hidden), normalization.dense(hidden), activation, dropout),
            )
        self.finish(hidden or features, spectral_norm)


def apply_spectral_norm(network: nn.Module) -> None:
    """Give every convolution and dense layer of the network a spectrally normalised weight, in place."""
    for module in list(network.modules()):
        if isinstance(module, nn.Conv2d | nn.Linear):
            parametrizations.spectral_norm(module)
