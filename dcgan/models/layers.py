"""Building blocks of both networks: sizes, hidden layers, labels as input, and channels-last reshaping."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from dcgan.common.arg_checks import check_int
from dcgan.common.errors import first_line

Activation = Callable[[], nn.Module]  # returns a new module per call: two layers must not share a PReLU's slope
Resampling = Callable[..., nn.Module]  # called with in_channels, out_channels and bias=
WeightLayer = nn.Conv2d | nn.ConvTranspose2d | nn.Linear

# --- sizes


def split_image_size(image_size: int) -> tuple[int, int]:
    """Return (start, k) with image_size = start * 2^k, 4 <= start <= 7 and k >= 1; raise ValueError if impossible."""
    check_int("image_size", image_size, 1)
    valid = sorted(start * 2**k for start in range(4, 8) for k in range(1, 10))
    if image_size not in valid:
        nearest = sorted(valid, key=lambda size: abs(size - image_size))[:2]
        raise ValueError(
            f"image_size must be 4, 5, 6 or 7 times 2, 4, 8, ... (8, 10, ..., 28, 32, ..., 64, ...), "
            f"got {image_size}; the nearest are {min(nearest)} and {max(nearest)}"
        )
    k = (image_size // 4).bit_length() - 1
    return image_size >> k, k


def channel_widths(k: int, base_channels: int) -> list[int]:
    """Return the channels of k maps, the smallest map first: base_channels * min(8, 2^(k-1-i)) for i = 0..k-1."""
    return [base_channels * min(8, 2 ** (k - 1 - i)) for i in range(k)]


def resolve_hidden_width(hidden_width: int | None, image_size: int) -> int:
    """Return the width of the dense hidden layer. None means 1024 below 64 x 64 pixels, else 0 (no such layer)."""
    if hidden_width is None:
        return 1024 if image_size < 64 else 0
    check_int("hidden_width", hidden_width, 0)
    return hidden_width


# --- hidden layers


def build_block(
    layer: Callable[..., nn.Module], norm: nn.Module, activation: Activation, dropout: float = 0.0
) -> nn.Sequential:
    """Return layer, normalization, activation and dropout as one module.

    `layer` is called with bias=False if a normalization follows, which would cancel a bias. nn.Identity means no
    normalization.
    """
    block = nn.Sequential()
    block.add_module("layer", layer(bias=isinstance(norm, nn.Identity)))
    if not isinstance(norm, nn.Identity):
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
