"""The real images that generated ones are measured against, with what is the same at every measurement."""

from dataclasses import replace
from functools import cached_property

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from dcgan.cache import cached, digest
from dcgan.data import InMemoryData, class_shares
from dcgan.metrics.judge import SIZE, Judge, Judged
from dcgan.metrics.neighbours import nearest_distances, radii
from dcgan.pixels import fit_images


class Reference:
    """The official test images of a data set, and its training images for the floor and for near copies.

    data: prepared; its image_size is that of the generated images, its limit that of their training.
    judge: None: only what needs no judge can be measured, and features and logits are empty.
    """

    def __init__(self, data: InMemoryData, judge: Judge | None) -> None:
        self.data, self.judge = data, judge
        self.train_images, self.train_labels = data.load(train=True)
        self.test_images, self.test_labels = data.load(train=False)

    @property
    def channels(self) -> int:
        """Of the images as they are stored."""
        return self.test_images.shape[1]

    def __len__(self) -> int:
        """The test images: as many generated ones make a full measurement."""
        return len(self.test_images)

    @property
    def judge_facts(self) -> dict[str, object] | None:
        return self.judge.facts if self.judge else None

    def look(self, images: UInt8[Tensor, "n c h w"], labels: Int64[Tensor, " n"] | None = None) -> Judged:
        """What the judge makes of images, where there is one; labels: what they should show."""
        if self.judge:
            return replace(self.judge(images), labels=labels)
        nothing = torch.empty(len(images), 0)
        unseen = images.new_zeros(1, 1, SIZE, SIZE).expand(len(images), images.shape[1], -1, -1)
        return Judged(images, unseen, nothing, nothing, labels)

    @cached_property
    def key(self) -> str:
        """What everything kept in the cache depends on."""
        return digest([self.test_images, self.judge_facts])

    @cached_property
    def test(self) -> Judged:
        """The test images as they are stored, as the judge sees them."""

        def compute() -> dict[str, Tensor]:
            judged = self.look(self.test_images)
            return {"features": judged.features, "logits": judged.logits}

        kept = cached("test", [self.key], compute)
        return Judged(self.test_images, fit_images(self.test_images, SIZE, self.channels), **kept)

    def train(self, n: int) -> Judged:
        """The first n training images in the generated ones' size, as if they were generated."""
        return self.look(self.data.fit(self.train_images[:n]), self.train_labels[:n])

    def native(self, n: int) -> UInt8[Tensor, "n c h w"]:
        """n test images in the generated ones' size, the same ones for the same n. They are picked from the whole set:
        MNIST's two halves were written by different people."""
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(0))
        return self.data.fit(self.test_images[order[:n]])

    @cached_property
    def prior(self) -> Float[Tensor, " k"]:
        """Each class's share of the training images."""
        return class_shares(self.train_labels, self.data.classes)

    def radii(self, k: int) -> Float[Tensor, " n"]:
        """From each test image to the k-th nearest other one, in the judge's features."""
        return cached("radii", [self.key, k], lambda: {"radii": radii(self.test.features, k)})["radii"]

    @cached_property
    def trained_on(self) -> Float[Tensor, "n d"]:
        """The training images that the generator has seen, as vectors of pixels in [0, 1] of the judge's size."""
        return flat(fit_images(self.train_images[: self.data.limit], SIZE, self.channels))

    @cached_property
    def test_to_train(self) -> Float[Tensor, "n 2"]:
        """From each test image to the nearest and the second nearest training image, in pixels."""

        def compute() -> dict[str, Tensor]:
            return {"distances": nearest_distances(flat(self.test.seen), self.trained_on)[0]}

        return cached("test_to_train", [self.key, digest([self.train_images]), self.data.limit], compute)["distances"]


def flat(images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
    """Pixels in [0, 1], an image a vector."""
    return images.flatten(1).float() / 255
