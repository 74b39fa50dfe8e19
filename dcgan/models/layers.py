"""Building blocks of both networks: sizes, hidden layers, labels as input, and channels-last reshaping."""

import re
from collections import OrderedDict
from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from dcgan.common.arg_checks import check_image_size, check_int
from dcgan.common.errors import first_line

Activation = Callable[[], nn.Module]  # returns a new module per call: two layers must not share a PReLU's slope
LayerFactory = Callable[..., nn.Module]  # called with (in_channels, out_channels, bias=)
WeightLayer = nn.Conv2d | nn.ConvTranspose2d | nn.Linear

# --- sizes


def layer_sizes(image_size: int, base_channels: int, hidden_width: int | None) -> tuple[int, list[int], int]:
    """Return the sizes that both networks share: D mirrors G.

    Args:
        image_size: Height and width of the images: start * 2^k pixels, 4 <= start <= 7, k >= 1.
        base_channels: Channels of the largest map, >= 1; twice as many per smaller map, up to 8 times.
        hidden_width: Width of the dense hidden layer. 0: none. None: 1024 below 64 x 64 pixels, else 0.

    Returns:
        The size `start` of the smallest map, the channels of all k maps (smallest map first), the hidden width.

    Raises:
        ValueError: A size is out of range.
    """
    check_image_size("image_size", image_size, 1)
    check_int("hidden_width", hidden_width, 0, optional=True)
    valid = sorted(start * 2**k for start in range(4, 8) for k in range(1, 10))
    if image_size not in valid:
        nearest = sorted(valid, key=lambda size: abs(size - image_size))[:2]
        raise ValueError(
            f"image_size must be 4, 5, 6 or 7 times 2, 4, 8, ... (8, 10, ..., 28, 32, ..., 64, ...), "
            f"got {image_size}; the nearest are {min(nearest)} and {max(nearest)}"
        )
    k = (image_size // 4).bit_length() - 1
    channels = [base_channels * min(8, 2**i) for i in reversed(range(k))]
    if hidden_width is None:
        hidden_width = 1024 if image_size < 64 else 0
    return image_size >> k, channels, hidden_width


# --- hidden layers


def build_block(
    layer: LayerFactory, inputs: int, outputs: int, norm: nn.Module, activation: Activation, dropout: float = 0.0
) -> nn.Sequential:
    """Return layer, normalization, activation and dropout as one module.

    Args:
        layer: Called with (inputs, outputs, bias=), with bias=False if a normalization follows, which would cancel it.
        inputs: Input channels, or features of a dense layer.
        outputs: Output channels or features.
        norm: nn.Identity means no normalization.
        activation: Returns a new activation module.
        dropout: Probability; 0: no dropout.
    """
    has_norm = not isinstance(norm, nn.Identity)
    block = nn.Sequential(OrderedDict(layer=layer(inputs, outputs, bias=not has_norm)))
    if has_norm:
        block.add_module("norm", norm)
    block.add_module("activation", build_activation(activation))
    if dropout:
        block.add_module("dropout", nn.Dropout(dropout))
    return block


def build_activation(activation: Activation) -> nn.Module:
    """Return a new activation module. Raise ValueError if it fails on a number: torch.nn checks few arguments."""
    try:
        module = activation()
        module(torch.zeros(1))
    except (TypeError, ValueError, RuntimeError) as error:
        arguments = getattr(activation, "keywords", {})
        raise ValueError(f"activation fails with the arguments {arguments}: {first_line(error)}") from error
    return module


def hidden_activations(network: nn.Module) -> dict[str, nn.Module]:
    """Return the activation modules of the network's blocks by block name, in the order of the forward pass."""
    suffix = ".activation"
    return {name.removesuffix(suffix): module for name, module in network.named_modules() if name.endswith(suffix)}


def layer_name(path: str) -> str:
    """Return what logs and graphs call the module with this path: up_1 for up_blocks.0, and down_2 for down_blocks.1.

    Args:
        path: Attribute names, joined by "." or "/".
    """
    return re.sub(r"_blocks[./](\d+)", lambda match: f"_{int(match[1]) + 1}", path)


def count_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


# --- channels-last reshaping


class ChannelsLastFlatten(nn.Module):
    """Flatten maps to features in the memory order of channels_last (pixel by pixel), so that no data moves."""

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n h*w*c"]:
        return x.permute(0, 2, 3, 1).flatten(1)


class ChannelsLastUnflatten(nn.Module):
    """The inverse of `ChannelsLastFlatten`: features to maps of `channels` x `size` x `size`."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.channels, self.size = channels, size

    def forward(self, x: Float[Tensor, "n features"]) -> Float[Tensor, "n c h w"]:
        return x.unflatten(1, (self.size, self.size, self.channels)).permute(0, 3, 1, 2)


# --- labels as input


def one_hot(label: Int64[Tensor, " n"] | None, classes: int) -> Float[Tensor, "n k"] | None:
    """Return the one-hot encoding of the labels; None for an unconditional network (classes = 0).

    Raise ValueError if a conditional network gets no label, or an unconditional one gets a label.
    """
    if label is None and classes:
        raise ValueError(f"label is required: the network is conditional, with {classes} classes")
    if label is not None and not classes:
        raise ValueError("label must be None: the network is unconditional")
    return None if label is None else (label[:, None] == torch.arange(classes, device=label.device)).float()


def concat_label(x: Float[Tensor, "n c *hw"], y: Float[Tensor, "n k"] | None) -> Float[Tensor, "n d *hw"]:
    """Append the one-hot label to the channels: as constant planes to maps, as k numbers to features."""
    if y is None:
        return x
    planes = y.reshape(*y.shape, *(1,) * (x.dim() - 2)).expand(-1, -1, *x.shape[2:])
    return torch.cat((x, planes), dim=1)


class ConditionalSequential(nn.Sequential):
    """A sequence of layers that each get the one-hot label, if any, in addition to their input, except reshapes."""

    def forward(self, x: Float[Tensor, "*shape"], y: Float[Tensor, "n k"] | None = None) -> Float[Tensor, "*out"]:
        for layer in self:
            is_reshape = isinstance(layer, ChannelsLastFlatten | ChannelsLastUnflatten)
            x = layer(x if is_reshape else concat_label(x, y))
        return x
