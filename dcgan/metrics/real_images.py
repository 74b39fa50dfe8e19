"""The real images that generated ones are compared with, and their statistics, which are computed once."""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from dcgan.common.cache import digest, load_or_compute
from dcgan.data.datamodule import BaseDataModule, StoredImages, class_frequencies
from dcgan.data.pixel_range import resize_images
from dcgan.metrics.judge import JUDGE_SIZE, ImageFeatures, Judge
from dcgan.metrics.nearest_neighbors import kth_nearest_distances, nearest_distances


class RealStatistics:
    """The test images of a data set, and its training images for the baseline and for near copies.

    Args:
        data: A prepared data module. Its image_size is that of the generated images; its limit is the number of images
            that the generator was trained on.
        judge: None: features and logits are empty, and only metrics that need no judge can be computed.
        device: Where all tensors are and the metrics are computed: the judge's device, if there is a judge.
    """

    def __init__(self, data: BaseDataModule, judge: Judge | None, device: torch.device) -> None:
        self.data, self.judge, self.device = data, judge, device
        self.train_images, self.train_labels = to_device(data.load(train=True), device)
        self.test_images, self.test_labels = to_device(data.load(train=False), device)

    @property
    def channels(self) -> int:
        """Channels of the stored images."""
        return self.test_images.shape[1]

    def __len__(self) -> int:
        """Return the number of test images, which is the default number of samples."""
        return len(self.test_images)

    @property
    def judge_facts(self) -> dict[str, object] | None:
        return self.judge.facts if self.judge else None

    def extract_features(
        self, images: UInt8[Tensor, "n c h w"], labels: Int64[Tensor, " n"] | None = None
    ) -> ImageFeatures:
        """Return the judge's features and logits of images; empty ones without a judge."""
        images, labels = images.to(self.device), None if labels is None else labels.to(self.device)
        if self.judge:
            return replace(self.judge(images), labels=labels)
        empty = torch.empty(len(images), 0, device=self.device)
        judge_input = images.new_zeros(1, 1, JUDGE_SIZE, JUDGE_SIZE).expand(len(images), images.shape[1], -1, -1)
        return ImageFeatures(images, judge_input, empty, empty, labels)

    @cached_property
    def cache_key(self) -> str:
        """Digest of the test images and the judge, part of the key of all cached statistics."""
        return digest([self.test_images, self.judge_facts])

    @cached_property
    def test(self) -> ImageFeatures:
        """The stored test images with their features."""

        def compute() -> dict[str, Tensor]:
            test = self.extract_features(self.test_images)
            return {"features": test.features, "logits": test.logits}

        judge_input = resize_images(self.test_images, JUDGE_SIZE, self.channels)
        return ImageFeatures(self.test_images, judge_input, **self.load_or_compute("test", [self.cache_key], compute))

    def extract_train_features(self, n: int) -> ImageFeatures:
        """Return the features of the first n training images at the generated images' size."""
        return self.extract_features(self.data.resize(self.train_images[:n]), self.train_labels[:n])

    def resized_test_images(self, n: int) -> UInt8[Tensor, "n c h w"]:
        """Return n test images at the generated images' size, the same ones for the same n.

        They are a random subset: the two halves of MNIST's test set were written by different groups of people.
        """
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(0))
        return self.data.resize(self.test_images[order[:n].to(self.device)])

    @cached_property
    def class_prior(self) -> Float[Tensor, " k"]:
        """Each class's share of the training images."""
        return class_frequencies(self.train_labels, self.data.classes)

    def kth_nearest_distances(self, k: int) -> Float[Tensor, " n"]:
        """Return each test image's distance to its k-th nearest other one, in the judge's features."""
        key = [self.cache_key, k]
        cached = self.load_or_compute("radii", key, lambda: {"radii": kth_nearest_distances(self.test.features, k)})
        return cached["radii"]

    @cached_property
    def train_pixels(self) -> Float[Tensor, "n d"]:
        """The images that the generator was trained on, as vectors of pixels in [0, 1], at the judge's size."""
        return flatten_pixels(resize_images(self.train_images[: self.data.limit], JUDGE_SIZE, self.channels))

    @cached_property
    def test_to_train_distances(self) -> Float[Tensor, "n 2"]:
        """Each test image's pixel distances to the two nearest training images."""
        key = [self.cache_key, digest([self.train_images]), self.data.limit]
        test = flatten_pixels(self.test.judge_input)
        cached = self.load_or_compute(
            "test_to_train", key, lambda: {"distances": nearest_distances(test, self.train_pixels)[0]}
        )
        return cached["distances"]

    def load_or_compute(self, name: str, key: list[Any], compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the tensors of `cache.load_or_compute` on the device."""
        return {name: tensor.to(self.device) for name, tensor in load_or_compute(name, key, compute).items()}


def to_device(stored: StoredImages, device: torch.device) -> tuple[UInt8[Tensor, "n c h w"], Any]:
    """Return images and labels, None if there are none, on the device."""
    images, labels = stored
    return images.to(device), None if labels is None else labels.to(device)


def flatten_pixels(images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
    """Return each image as a vector of pixels in [0, 1]."""
    return images.flatten(1).float() / 255
