"""The batches of an epoch, as a function of (seed, epoch), and a loader that resumes within an epoch."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from dcgan.common.seeding import Stream, derive_generator


@dataclass(eq=False)
class BatchSampler:
    """The shuffled index batches of an epoch. Rank r of w takes the batches r, r + w, r + 2w, ...

    The shards are disjoint and equally long. Images that do not fill a batch on every rank are dropped in that epoch.

    Args:
        n: Number of images.
        batch_size: Images per batch and rank.
        seed: Seed of the order, >= 0.
        rank: This process's rank.
        world_size: Number of ranks.
        device: Device of the indices.
    """

    n: int
    batch_size: int
    seed: int
    rank: int = 0
    world_size: int = 1
    device: torch.device | str = "cpu"
    epoch: int = field(default=0, init=False)
    start: int = field(default=0, init=False)  # next batch of the epoch, > 0 in a run that resumes within it

    def __len__(self) -> int:
        return self.n // (self.batch_size * self.world_size)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[Int64[Tensor, " b"]]:
        rng = derive_generator(torch.device("cpu"), self.seed, Stream.ORDER, self.epoch)
        order = torch.randperm(self.n, generator=rng).to(self.device)
        start, self.start = self.start, 0
        for i in range(start, len(self)):
            first = (i * self.world_size + self.rank) * self.batch_size
            yield order[first : first + self.batch_size]


class ResumableLoader:
    """A data loader whose state is the number of delivered batches, so that a run resumes within an epoch.

    Args:
        sampler: The sampler, whose `set_epoch` Lightning calls.
        fetch: Returns the batches of a sampler, in order. It may prefetch.
    """

    def __init__(self, sampler: BatchSampler, fetch: Callable[[BatchSampler], Iterable[Any]]) -> None:
        self.sampler, self.fetch = sampler, fetch
        self.delivered = 0  # batches of this epoch

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Any]:
        self.delivered = self.sampler.start
        for batch in self.fetch(self.sampler):
            # before the yield, and 0 at the last batch: Lightning does not ask for another one
            self.delivered = (self.delivered + 1) % len(self)
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the number of batches that all ranks have received: a resumed run may have another world size."""
        return {"delivered": self.delivered * self.sampler.world_size}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.sampler.start = self.delivered = state["delivered"] // self.sampler.world_size % len(self)
