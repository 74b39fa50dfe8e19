"""Digits in colour: three of them as the channels of one image, so that there are a thousand kinds to draw or miss."""

from typing import Any

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from dcgan.checks import check_int
from dcgan.data import TorchvisionData
from dcgan.pixels import PixelRange

DIGITS = 3


class StackedData(TorchvisionData):
    """Random triples of digits, their classes read as one number: 1,000 modes (stacked MNIST in VEEGAN, Srivastava et
    al. 2017, and PacGAN, Lin et al. 2018). The triples are the same for every seed of a training.

    stacks, test_stacks: how many, of the training and of the test images. Other arguments as `TorchvisionData`'s.
    Raises ValueError for less than one, and for channels other than 3.
    """

    judged_channels = DIGITS

    def __init__(
        self,
        dataset: Any,
        root: str,
        stacks: int,
        test_stacks: int,
        image_size: int,
        channels: int,
        pixels: PixelRange,
        batch_size: int,
        batches_per_step: int = 1,
        limit: int | None = None,
        classes: int | None = None,
        labelled: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(
            dataset, root, image_size, channels, pixels, batch_size, batches_per_step, limit, classes, labelled, seed
        )
        check_int("data.stacks", stacks, 1)
        check_int("data.test_stacks", test_stacks, 1)
        if channels != DIGITS:
            raise ValueError(f"data.channels must be {DIGITS}, one for each digit of a stack, got {channels!r}")
        self.stacks, self.test_stacks = stacks, test_stacks

    @property
    def dataset_name(self) -> str:
        return f"Stacked{self.judged_as}"

    @property
    def judged_as(self) -> str:
        return super().dataset_name

    def load(self, train: bool) -> tuple[UInt8[Tensor, "n k h w"], Int64[Tensor, " n"]]:
        images, labels = super().load(train)
        rng = torch.Generator().manual_seed(int(train))
        n = self.stacks if train else self.test_stacks
        drawn = torch.randint(len(images), (n, DIGITS), generator=rng)
        hundreds, tens, ones = labels[drawn].unbind(dim=1)
        return images[drawn, 0], 100 * hundreds + 10 * tens + ones

    def examples(self, indices: list[int]) -> tuple[UInt8[Tensor, "n c h w"], list[str] | None]:
        return self.train_images[indices], [f"{label:03d}" for label in self.train_labels[indices].tolist()]
