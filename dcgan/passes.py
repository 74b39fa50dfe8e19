"""Forward passes that are not the plain ones: what they leave behind, and whose statistics batch norm uses."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from dcgan.normalization import batch_norms


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Forward passes in here leave the network as it is: no weight gradients, no running statistics, no power
    iteration of spectral norm. Batch norm still normalises by its batch and dropout still drops."""
    trainable = [p for p in network.parameters() if p.requires_grad]
    norms = batch_norms(network)
    parametrized = [m for m in network.modules() if isinstance(m, parametrize.ParametrizationList)]
    for parameter in trainable:
        parameter.requires_grad_(False)
    for norm in norms:
        norm.track_running_stats = False
    for module in parametrized:
        module.eval()
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
        for norm in norms:
            norm.track_running_stats = True
        for module in parametrized:
            module.train()


@contextmanager
def separate_statistics(network: nn.Module, batches: int) -> Iterator[None]:
    """In here an input is so many batches of one length in a row, and batch norm treats each as it would in a pass of
    its own, in their order. Other layers look at one image at a time: one long pass is the same for them and faster
    (experiments/hot_path). But spectral norm takes one power iteration a pass, as Miyato et al. (2018, algorithm 1)
    do for an update."""
    norms: Sequence[nn.Module] = batch_norms(network)
    for norm in norms:
        norm.forward = partial(one_by_one, norm.forward, batches)
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward  # the class's own comes to light again


def one_by_one(
    forward: Callable[[Tensor], Tensor], batches: int, x: Float[Tensor, "bn c *hw"]
) -> Float[Tensor, "bn c *hw"]:
    return torch.cat([forward(batch) for batch in x.chunk(batches)])


@contextmanager
def evaluating(*networks: nn.Module) -> Iterator[None]:
    """The networks in eval mode: no running statistics move, no dropout drops. Each gets its own mode back."""
    modes = [network.training for network in networks]
    for network in networks:
        network.eval()
    try:
        yield
    finally:
        for network, mode in zip(networks, modes, strict=True):
            network.train(mode)


@torch.no_grad()
def start_statistics(network: nn.Module, *batch: Tensor | None) -> None:
    """Set the running statistics of batch norm to those of the batch, so that a new network draws in eval mode
    what it draws in training: from (0, 1) they would need some 50 steps to get there, and pictures until then would
    be grey."""
    norms = batch_norms(network)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    network(*batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
