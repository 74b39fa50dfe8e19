"""Running statistics of several ranks: each rank tracks its own batches, samples are generated with the mean."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from torch import Tensor

from dcgan.common.distributed import all_gather
from dcgan.gan import GAN

FIXED = ("fixed_z", "fixed_label")  # the same on all ranks


def gather_buffers(trainer: L.Trainer, gan: GAN) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
    """Return each rank's running statistics, and their mean: what one process would track over all batches.

    A collective operation.
    """
    own = {name: buffer for name, buffer in gan.named_buffers() if name not in FIXED}
    ranks = all_gather(trainer, {name: buffer.cpu() for name, buffer in own.items()})
    return ranks, {
        name: torch.stack([rank[name].double() for rank in ranks]).mean(0).to(buffer.dtype)
        for name, buffer in own.items()
    }


@contextmanager
def mean_running_stats(trainer: L.Trainer, gan: GAN) -> Iterator[None]:
    """Within the context, all ranks have the mean running statistics. A collective operation."""
    if trainer.world_size == 1:
        yield
        return
    ranks, mean = gather_buffers(trainer, gan)
    gan.load_state_dict(mean, strict=False)
    try:
        yield
    finally:
        gan.load_state_dict(ranks[trainer.global_rank], strict=False)


def save_buffers(trainer: L.Trainer, gan: GAN, checkpoint: dict[str, Any]) -> None:
    """Put each rank's statistics into the checkpoint, and their mean into its state_dict. A collective operation."""
    if trainer.world_size > 1:
        checkpoint["rank_buffers"], mean = gather_buffers(trainer, gan)
        checkpoint["state_dict"].update(mean)


def load_buffers(trainer: L.Trainer, gan: GAN, checkpoint: dict[str, Any]) -> None:
    """Give this rank its own statistics back, if the checkpoint was made by as many ranks."""
    ranks = checkpoint.get("rank_buffers", [])
    if len(ranks) == trainer.world_size:
        gan.load_state_dict(ranks[trainer.global_rank], strict=False)
