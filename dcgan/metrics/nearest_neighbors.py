"""Exact nearest neighbors, in blocks: all pairs of 10,000 images would take gigabytes at once."""

from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from dcgan.common.device import tf32
from dcgan.data.pixel_range import resize_images

BLOCK_SIZE = 200
THUMBNAIL_SIZE = 28  # pixels of the images whose pixels are compared
IMAGE_BLOCK_SIZE = 16_384  # images in memory at once


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


def nearest_in_growing_set(
    points: Float[Tensor, "n d"], blocks: Iterable[Float[Tensor, "_ d"]]
) -> Iterator[tuple[int, Float[Tensor, "n 2"], Int64[Tensor, " n"]]]:
    """Yield, after each block of the others, their number so far and what `nearest_distances` returns for them."""
    best = points.new_full((len(points), 2), float("inf"))
    best_index = torch.zeros(len(points), dtype=torch.int64, device=points.device)
    size = 0
    for block in blocks:
        distances, index = nearest_distances(points, block)
        best_index = torch.where(distances[:, 0] < best[:, 0], size + index, best_index)
        best = torch.cat((best, distances), dim=1).topk(2, largest=False).values
        size += len(block)
        yield size, best, best_index


def thumbnails(images: UInt8[Tensor, "n c h w"], channels: int, device: torch.device) -> Float[Tensor, "n d"]:
    """Return images as vectors of pixels in [0, 1], at 28 x 28 pixels, on the device."""
    return flatten_pixels(resize_images(images.to(device), THUMBNAIL_SIZE, channels))


def flatten_pixels(images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
    """Return each image as a vector of pixels in [0, 1]."""
    return images.flatten(1).float() / 255


def nearest_images(
    images: UInt8[Tensor, "n c h w"], others: UInt8[Tensor, "m k s t"], mirrored: bool, device: torch.device
) -> tuple[Float[Tensor, "n 2"], Int64[Tensor, " n"]]:
    """Return each image's pixel distances, at 28 x 28 pixels, to the two nearest others, and the nearest one's index.

    If the others are `mirrored`, the training has flipped half of them, and each image is also compared flipped: the
    distances are those of the closer of both.
    """
    channels = images.shape[1]
    blocks = (thumbnails(block, channels, device) for block in others.split(IMAGE_BLOCK_SIZE))
    points = thumbnails(images, channels, device)
    if mirrored:
        points = torch.cat((points, thumbnails(images.flip(3), channels, device)))
    *_, (_, distances, indices) = nearest_in_growing_set(points, blocks)
    if not mirrored:
        return distances, indices
    original, flipped = distances.chunk(2)
    original_index, flipped_index = indices.chunk(2)
    is_closer = flipped[:, 0] < original[:, 0]
    return (
        torch.where(is_closer[:, None], flipped, original),
        torch.where(is_closer, flipped_index, original_index),
    )
