"""Exact nearest neighbors, in blocks: all pairs of 10,000 images would take gigabytes at once."""

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dcgan.common.device import tf32

BLOCK_SIZE = 200


@tf32(allowed=False)
def kth_nearest_distances(points: Float[Tensor, "n d"], k: int) -> Float[Tensor, " n"]:
    """Return each point's distance to its k-th nearest other point; infinite if n <= k."""
    if len(points) <= k:
        return points.new_full((len(points),), float("inf"))
    # each point is its own nearest neighbor
    return torch.cat([torch.cdist(block, points).kthvalue(k + 1, dim=1).values for block in points.split(BLOCK_SIZE)])


@tf32(allowed=False)
def nearest_distances(
    points: Float[Tensor, "n d"], others: Float[Tensor, "m d"]
) -> tuple[Float[Tensor, "n 2"], Int64[Tensor, " n"]]:
    """Return each point's distances to the two nearest of the others, and the nearest one's index.

    The second distance is infinite if m = 1.
    """
    lengths = others.square().sum(dim=1)
    distances, indices = [], []
    for block in points.split(BLOCK_SIZE):
        # |p - o|^2 - |p|^2; |p|^2 is the same for all o
        squares = torch.addmm(lengths[None], block, others.T, alpha=-2)
        first, index = squares.min(dim=1)
        # a second pass is several times faster than topk
        second = squares.scatter_(1, index[:, None], float("inf")).amin(dim=1)
        both = torch.stack((first, second), dim=1) + block.square().sum(dim=1, keepdim=True)
        distances.append(both.clamp_(min=0).sqrt_())
        indices.append(index)
    return torch.cat(distances), torch.cat(indices)


def nearest_in_blocks(
    points: Float[Tensor, "n d"], blocks: Iterable[Float[Tensor, "_ d"]]
) -> tuple[Float[Tensor, "n 2"], Int64[Tensor, " n"]]:
    """Return what `nearest_distances` returns for all blocks of the others together."""
    best = points.new_full((len(points), 2), float("inf"))
    best_index = torch.zeros(len(points), dtype=torch.int64, device=points.device)
    start = 0
    for block in blocks:
        distances, index = nearest_distances(points, block)
        best_index = torch.where(distances[:, 0] < best[:, 0], start + index, best_index)
        best = torch.cat((best, distances), dim=1).topk(2, largest=False).values
        start += len(block)
    return best, best_index
