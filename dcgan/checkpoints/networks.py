"""Networks of a checkpoint, built from its config and loaded with its weights."""

from typing import Any

import torch
from torch import Tensor, nn

from dcgan.checkpoints.safe_instantiate import safe_instantiate
from dcgan.common.errors import UserError


def build_network(content: dict[str, Any], key: str) -> nn.Module:
    """Return the network that the content's config describes at `key`, in eval mode and without gradients.

    Its weights are random, from torch's global generator.
    """
    network: nn.Module = safe_instantiate(content["config"], key)
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def load_network(checkpoint: dict[str, Any], key: str, prefix: str) -> nn.Module:
    """Return the network of the config's `key` with the weights whose names begin with `prefix`, in eval mode."""
    network = build_network(checkpoint, key)
    load_weights(network, strip_prefix(checkpoint["state_dict"], prefix), key)
    return network


def load_weights(network: nn.Module, weights: dict[str, Tensor], key: str) -> None:
    """Load weights into a network that was built from the config's `key`. UserError if they do not fit."""
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"the checkpoint's {key} has other weights than its config says: use another copy") from error


def strip_prefix(state_dict: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in state_dict.items() if name.startswith(prefix)}
