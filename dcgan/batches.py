"""Which images make which batch: a function of (seed, epoch), the same on every machine."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from dcgan.pixels import PixelRange
from dcgan.seeding import derive_seed


class BatchIndices:
    """The index batches of an epoch. Each rank takes every world_size-th batch, so that shards are disjoint and
    equally long; images that do not fill a batch on every rank are left out of that epoch.

    n: images; batch_size: images of one batch on one rank. Lightning calls `set_epoch`; `position` counts the batches
    of the epoch that are already done, from which a resumed run goes on.
    """

    def __init__(self, n: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.epoch = self.position = 0
        self.device = torch.device("cpu")

    def __len__(self) -> int:
        return self.n // (self.batch_size * self.world_size)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[Int64[Tensor, " b"]]:
        rng = torch.Generator().manual_seed(derive_seed(self.seed, self.epoch))
        order = torch.randperm(self.n, generator=rng).to(self.device)
        for i in range(self.position, len(self)):
            self.position = (i + 1) % len(self)  # before the batch is handed out: nobody asks for one too many
            start = (i * self.world_size + self.rank) * self.batch_size
            yield order[start : start + self.batch_size]

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.position = state["position"]


class InMemoryLoader:
    """Batches of images that are held as uint8 on `device`: one gather and one conversion a batch, no workers."""

    def __init__(
        self, images: UInt8[Tensor, "n c h w"], indices: BatchIndices, pixels: PixelRange, device: torch.device
    ) -> None:
        self.images, self.sampler, self.pixels = images.to(device), indices, pixels
        indices.device = device

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Float[Tensor, "b c h w"]]:
        for index in self.sampler:
            yield self.pixels.encode(self.images[index])

    def state_dict(self) -> dict[str, int]:
        return self.sampler.state_dict()

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.sampler.load_state_dict(state)
