"""Networks of a checkpoint, built from its config and loaded with its weights."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from dcgan.checkpoints.safe_instantiate import safe_instantiate, trusted_packages
from dcgan.common.errors import UserError, first_line
from dcgan.models.dry_run import dry_run

N = TypeVar("N", bound=nn.Module)
MIN_CALLS, CALLS_PER_WEIGHT = 1000, 50  # of torch's operations, to initialize and use a tensor; at most
MAX_ELEMENTS = 2**32  # of one tensor, in a batch of two images


def build_network(content: dict[str, Any], key: str, kind: type[N]) -> N:
    """Return the network that the content's config describes at `key`, in eval mode and without gradients.

    Its weights are random, from torch's global generator.
    """
    network = safe_instantiate(content["config"], key, kind)
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def load_network(
    content: dict[str, Any],
    key: str,
    kind: type[N],
    weights: dict[str, Tensor],
    try_out: Callable[[N], object] = lambda network: None,
) -> N:
    """Return the network that the content's config describes at `key`, with these weights; see `check_network`."""
    check_network(content, key, kind, weights, try_out)
    network = build_network(content, key, kind)
    require_same_shapes(network, weights, key)
    if not all(weight.isfinite().all() for weight in weights.values()):
        raise UserError(f"the checkpoint's {key} has weights that are not finite")
    network.load_state_dict(weights)
    return network


def check_network(
    content: dict[str, Any],
    key: str,
    kind: type[N],
    weights: dict[str, Tensor],
    try_out: Callable[[N], object] = lambda network: None,
) -> None:
    """Raise UserError if a network cannot be built from the content's config, has other weights, or does not work.

    It is built without memory for its tensors: the config of a small file can describe a huge network.

    Args:
        content: Of a checkpoint or an export.
        key: Of the config.
        kind: The class that the network must be an instance of.
        weights: All of the network's.
        try_out: Called with the network that has no memory, to find out whether it works.
    """
    if not trusted_packages():  # code of the user's own need not run on the meta device
        with dry_run(MIN_CALLS + CALLS_PER_WEIGHT * len(weights), MAX_ELEMENTS):
            network = build_network(content, key, kind)
            require_same_shapes(network, weights, key)
            try:
                try_out(network)
            except Exception as error:
                raise UserError(f"the checkpoint's {key} does not work ({first_line(error)})") from error


def require_same_shapes(network: nn.Module, weights: dict[str, Tensor], key: str) -> None:
    own, saved = ({name: x.shape for name, x in tensors.items()} for tensors in (network.state_dict(), weights))
    if own != saved:
        raise UserError(f"the checkpoint's {key} has other weights than its config says: use another copy")


def strip_prefix(state_dict: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in state_dict.items() if name.startswith(prefix)}
