"""Random images and features that no judge has computed, and fake CUDA tensors."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dcgan.common.device import tf32
from dcgan.metrics.features import ImageFeatures
from dcgan.metrics.nearest_neighbors import flatten_pixels, kth_nearest_distances, nearest_distances


def random_features(n: int, seed: int, shift: float = 0.0, d: int = 6) -> ImageFeatures:
    """Return n random images, with features from a normal distribution of mean `shift` and deviation 1 + `shift`."""
    rng = np.random.default_rng(seed)
    features = torch.from_numpy(rng.normal(shift, 1 + shift, (n, d)).astype(np.float32))
    images = torch.from_numpy(rng.integers(0, 256, (n, 1, 28, 28), dtype=np.uint8))
    logits = torch.from_numpy(rng.normal(0, 3, (n, 10)).astype(np.float32))
    return ImageFeatures(images, {"judge": features}, logits)


def with_logits(samples: ImageFeatures, logits: torch.Tensor) -> ImageFeatures:
    return ImageFeatures(samples.images, samples.features, logits)


class FakeFeatureSpace:
    """The part of `FeatureSpace` that metrics read, from given features of the test images."""

    def __init__(self, test: torch.Tensor) -> None:
        self.test = test

    def kth_nearest_distances(self, k: int) -> torch.Tensor:
        return kth_nearest_distances(self.test, k)


class FakeRealStatistics:
    """The part of `RealStatistics` that metrics read, from given features."""

    def __init__(self, test: ImageFeatures, train_images: torch.Tensor | None = None) -> None:
        self.test, self.device = test, test.images.device
        self.spaces = {name: FakeFeatureSpace(features) for name, features in test.features.items()}
        self.class_prior = torch.full((10,), 0.1, device=self.device)
        self.data = SimpleNamespace(resize=lambda images: images)
        if train_images is not None:
            self.train_images = train_images
            self.test_to_train_distances = self.nearest_train_images(test.images)[0]

    def __len__(self) -> int:
        return len(self.test)

    def nearest_train_images(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return nearest_distances(flatten_pixels(images), flatten_pixels(self.train_images))

    def random_test_images(self, n: int) -> torch.Tensor:
        return self.test.images[:n]


FLOAT32_PRODUCTS = {"convolution", "mm", "addmm", "bmm", "_cdist_forward", "_euclidean_dist"}


class DeviceCheck(TorchDispatchMode):
    """Fail if an operation moves a CUDA tensor to the CPU before it is a number, or could use TF32.

    Fake tensors have no values: numbers are read as 2, and booleans as False.

    Attributes:
        reads: The types of the devices that they were read from.
        operations: The names of all other operations.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []
        self.operations: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        inputs = [value for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)]
        if name == "_local_scalar_dense":
            self.reads.append(args[0].device.type)
            return False if args[0].dtype == torch.bool else 2
        self.operations.append(name)
        on_cuda = any(tensor.device.type == "cuda" for tensor in inputs)
        if on_cuda and name in FLOAT32_PRODUCTS and args[0].dtype == torch.float32:
            assert torch.get_float32_matmul_precision() == "highest", name
            assert not torch.backends.cudnn.allow_tf32, name
        # the number of bins depends on the values
        output = args[0].new_zeros(args[2]) if name == "bincount" else func(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            assert not on_cuda or not isinstance(tensor, torch.Tensor) or tensor.device.type == "cuda", name
        return output


@contextmanager
def fake_cuda() -> Iterator[DeviceCheck]:
    """Within the context, CUDA tensors have a shape and a type but no values, and need no GPU. TF32 is allowed."""
    with tf32(allowed=True), FakeTensorMode(allow_non_fake_inputs=True), DeviceCheck() as check:
        yield check
