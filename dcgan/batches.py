"""Which images make which batch: a function of (seed, epoch), the same on every machine."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from dcgan.seeding import Stream, derive_generator


class BatchIndices:
    """The index batches of an epoch. Each rank takes every world_size-th batch, so that shards are disjoint and
    equally long; images that do not fill a batch on every rank are left out of that epoch.

    n: images; batch_size: images of one batch on one rank; device: where the indices are wanted.
    """

    def __init__(
        self,
        n: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | None = None,
    ) -> None:
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.device = device or torch.device("cpu")
        self.epoch = 0
        self.start = 0  # batches of the next epoch to leave out: a resumed run has had them

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
    """Batches that Lightning can stop and go on with in the middle of an epoch.

    sampler: Lightning calls its `set_epoch`. fetch: the batches of an iterable of indices, in order; it may read ahead.
    """

    def __init__(self, sampler: BatchIndices, fetch: Callable[[BatchIndices], Iterable[Any]]) -> None:
        self.sampler, self.fetch = sampler, fetch
        self.delivered = 0

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Any]:
        self.delivered = self.sampler.start
        for batch in self.fetch(self.sampler):
            # before the batch is handed out, and 0 with the last one: nobody asks for one too many
            self.delivered = (self.delivered + 1) % len(self)
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Counted over all ranks, for a resumed run may have another number of them."""
        return {"delivered": self.delivered * self.sampler.world_size}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.sampler.start = self.delivered = state["delivered"] // self.sampler.world_size % len(self)
