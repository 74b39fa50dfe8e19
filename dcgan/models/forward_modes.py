"""Context managers for forward passes, and the initial running statistics of batch norm."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from dcgan.models.normalization import batch_norms


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Within the context, forward passes leave the network unchanged.

    No weight gradients, no running statistics, no power iteration of spectral norm. Batch norm still normalizes by its
    batch, and dropout still drops.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    norms = batch_norms(network)
    parametrized = [m for m in network.modules() if isinstance(m, parametrize.ParametrizationList)]

    def set_trainable(trainable: bool) -> None:
        for parameter in parameters:
            parameter.requires_grad_(trainable)
        for norm in norms:
            norm.track_running_stats = trainable
        for module in parametrized:
            module.train(trainable)

    set_trainable(False)
    try:
        yield
    finally:
        set_trainable(True)


@contextmanager
def eval_mode(*networks: nn.Module) -> Iterator[None]:
    """Within the context, the networks are in eval mode; afterwards each has its former mode."""
    modes = [network.training for network in networks]
    for network in networks:
        network.eval()
    try:
        yield
    finally:
        for network, mode in zip(networks, modes, strict=True):
            network.train(mode)


@torch.no_grad()
def init_running_stats(network: nn.Module, *batch: Tensor | None) -> None:
    """Set the running statistics of batch norm to those of the batch.

    A new network then generates the same in eval mode as in training mode. PyTorch's initial statistics, mean 0 and
    variance 1, would need some 50 steps to adapt; until then, samples would be grey.
    """
    norms = batch_norms(network)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    network(*batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
