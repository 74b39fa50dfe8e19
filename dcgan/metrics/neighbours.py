"""Nearest neighbours, exact and in blocks: all pairs of 10,000 images would take gigabytes at once."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

BLOCK = 200


def radii(points: Float[Tensor, "n d"], k: int) -> Float[Tensor, " n"]:
    """From each point to its k-th nearest other one; infinite where there are not so many."""
    if len(points) <= k:
        return points.new_full((len(points),), float("inf"))
    # the nearest of all is the point itself
    return torch.cat([torch.cdist(part, points).kthvalue(k + 1, dim=1).values for part in points.split(BLOCK)])


def nearest_distances(
    points: Float[Tensor, "n d"], others: Float[Tensor, "m d"]
) -> tuple[Float[Tensor, "n 2"], Int64[Tensor, " n"]]:
    """From each point to the nearest and the second nearest of the others (infinite where there is only one), and
    which the nearest is."""
    lengths = others.square().sum(dim=1)
    distances, indices = [], []
    for part in points.split(BLOCK):
        # |p - o|^2 less the |p|^2 that all o share
        squares = torch.addmm(lengths[None], part, others.T, alpha=-2)
        first, index = squares.min(dim=1)
        # a second pass is several times faster than topk
        second = squares.scatter_(1, index[:, None], float("inf")).amin(dim=1)
        both = torch.stack((first, second), dim=1) + part.square().sum(dim=1, keepdim=True)
        distances.append(both.clamp_(min=0).sqrt_())
        indices.append(index)
    return torch.cat(distances), torch.cat(indices)
