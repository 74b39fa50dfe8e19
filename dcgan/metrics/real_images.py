"""The real images that generated ones are compared with, and their statistics, which are computed once."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from dcgan.common.cache import digest, load_or_compute
from dcgan.common.errors import UserError
from dcgan.data.datamodule import BaseDataModule, class_frequencies
from dcgan.metrics.features import FeatureExtractor, ImageFeatures
from dcgan.metrics.judge import Judge
from dcgan.metrics.nearest_neighbors import kth_nearest_distances, nearest_images, thumbnails


class FeatureSpace:
    """The test images in one feature space.

    Args:
        extractor: The map from images to features.
        images: The test images.
        images_digest: Their digest, part of the key of all cached statistics.
    """

    def __init__(self, extractor: FeatureExtractor, images: UInt8[Tensor, "n c h w"], images_digest: str) -> None:
        self.extractor, self.images = extractor, images
        self.cache_key = digest([images_digest, extractor.name, extractor.facts])

    @cached_property
    def test(self) -> Float[Tensor, "n d"]:
        """The features of the test images."""
        shape = (len(self.images), self.extractor(self.images[:1]).shape[1])
        return self.load_or_compute("test", [self.cache_key], shape, lambda: self.extractor(self.images))

    def kth_nearest_distances(self, k: int) -> Float[Tensor, " n"]:
        """Return each test image's distance to its k-th nearest other one."""
        shape = (len(self.images),)
        return self.load_or_compute("radii", [self.cache_key, k], shape, lambda: kth_nearest_distances(self.test, k))

    def load_or_compute(
        self, name: str, key: list[Any], shape: tuple[int, ...], compute: Callable[[], Tensor]
    ) -> Tensor:
        """Return the tensor of `cache.load_or_compute` on the images' device."""
        return load_or_compute(name, key, {name: shape}, lambda: {name: compute()})[name].to(self.images.device)


class RealStatistics:
    """The test images of a data set, and its training images for the baseline and for near copies.

    The test images have the size and the channels of the generated ones; the training images are as stored.

    Args:
        data: A prepared data module. Its image_size is that of the generated images; its limit is the number of images
            that the generator was trained on.
        extractors: The maps to the feature spaces that distances are measured in.
        judge: Classifies images; None: the logits are empty, and no metric that needs a judge can be computed.
        device: Where the metrics are computed: that of the extractors and the judge.

    Raises:
        UserError: There are no test images.
    """

    def __init__(
        self, data: BaseDataModule, extractors: list[FeatureExtractor], judge: Judge | None, device: torch.device
    ) -> None:
        self.data, self.judge, self.device = data, judge, device
        self.train_images, self.train_labels = data.load(train=True)  # in host memory or in a memory map
        test_images, self.test_labels = data.load(train=False)
        if len(test_images) == 0:
            raise UserError(f"{data.dataset_name} has no test images to compare with")
        self.test_images = data.resize(test_images).to(device)
        self.test_digest = digest([self.test_images])
        self.spaces = {e.name: FeatureSpace(e, self.test_images, self.test_digest) for e in extractors}

    def __len__(self) -> int:
        """Return the default number of samples: that of the test images, or of the training images if that is lower.

        The baseline needs as many training images.
        """
        return min(len(self.test_images), len(self.train_images))

    @property
    def judge_facts(self) -> dict[str, Any] | None:
        return self.judge.facts if self.judge else None

    @property
    def feature_facts(self) -> dict[str, dict[str, Any]]:
        """The description and the facts of each feature extractor, by name."""
        extractors = {name: space.extractor for name, space in self.spaces.items()}
        return {name: {"description": e.description, **e.facts} for name, e in extractors.items()}

    @cached_property
    def cache_key(self) -> str:
        """Digest of all that the values of metrics depend on, but for the samples and the metrics."""
        return digest([self.test_digest, self.train_digest, self.judge_facts, self.feature_facts])

    @cached_property
    def train_digest(self) -> str:
        return self.data.content_digest((self.train_images, self.train_labels))

    def require_labels(self, train: bool) -> Int64[Tensor, " n"]:
        """Return the labels of the training or the test images. UserError if there are none."""
        labels = self.train_labels if train else self.test_labels
        if labels is None:
            raise UserError(f"{self.data.dataset_name} has no classes: set data.classes to the number of class folders")
        return labels.to(self.device)

    def extract_features(
        self, images: UInt8[Tensor, "n c h w"], labels: Int64[Tensor, " n"] | None = None
    ) -> ImageFeatures:
        """Return the images with their features in each space and the judge's logits."""
        images, labels = images.to(self.device), None if labels is None else labels.to(self.device)
        features = {name: space.extractor(images) for name, space in self.spaces.items()}
        return ImageFeatures(images, features, self.logits(images, features), labels)

    def without_features(
        self, images: UInt8[Tensor, "n c h w"], labels: Int64[Tensor, " n"] | None = None
    ) -> ImageFeatures:
        """Return the images for metrics that read neither features nor logits."""
        return ImageFeatures(images, {}, torch.empty(len(images), 0), labels).to(self.device)

    def logits(self, images: UInt8[Tensor, "n c h w"], features: dict[str, Tensor]) -> Float[Tensor, "n k"]:
        """Return the judge's logits, from its features if they are known."""
        if self.judge is None:
            return torch.empty(len(images), 0, device=self.device)
        known = features.get(self.judge.name)
        return self.judge.classify(images) if known is None else self.judge.logits(known)

    @cached_property
    def test(self) -> ImageFeatures:
        """The test images with their features."""
        features = {name: space.test for name, space in self.spaces.items()}
        return ImageFeatures(self.test_images, features, self.logits(self.test_images, features))

    def extract_train_features(self, n: int) -> ImageFeatures:
        """Return the features of n random training images at the generated images' size: the same ones for the same n.

        MNIST's first 10,000 training images have a higher Frechet distance to its test images than random ones.
        """
        indices = random_indices(len(self.train_images), n)
        labels = None if self.train_labels is None else self.train_labels[indices]
        return self.extract_features(self.data.resize(self.train_images[indices]), labels)

    def random_test_indices(self, n: int) -> Int64[Tensor, " n"]:
        """Return the indices of n random test images, the same ones for the same n.

        The two halves of MNIST's test set were written by different groups of people.
        """
        return random_indices(len(self.test_images), n).to(self.device)

    def random_test_images(self, n: int) -> UInt8[Tensor, "n c h w"]:
        """Return the test images of `random_test_indices`."""
        return self.test_images[self.random_test_indices(n)]

    @cached_property
    def class_prior(self) -> Float[Tensor, " k"]:
        """Each class's share of the training images."""
        return class_frequencies(self.require_labels(train=True), self.data.classes)

    def thumbnails(self, images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Return images as vectors of pixels in [0, 1], at 28 x 28 pixels, on the device."""
        return thumbnails(images, self.data.channels, self.device)

    def nearest_train_images(
        self, images: UInt8[Tensor, "n c h w"]
    ) -> tuple[Float[Tensor, "n 2"], Int64[Tensor, " n"]]:
        """Return what `nearest_images` returns for the images that the generator was trained on."""
        return nearest_images(images, self.train_images[: self.data.limit], self.data.mirrored, self.device)

    @cached_property
    def test_to_train_distances(self) -> Float[Tensor, "n 2"]:
        """Each test image's pixel distances to the two nearest training images."""
        key = [self.test_digest, self.train_digest, self.data.limit, self.data.channels, self.data.mirrored]
        shapes = {"distances": (len(self.test_images), 2)}
        cached = load_or_compute(
            "test_to_train", key, shapes, lambda: {"distances": self.nearest_train_images(self.test_images)[0]}
        )
        return cached["distances"].to(self.device)


def random_indices(size: int, n: int) -> Int64[Tensor, " n"]:
    """Return n different indices of a sequence of the given size: the same ones on each machine."""
    return torch.randperm(size, generator=torch.Generator().manual_seed(0))[:n]
