"""Stacked MNIST: three digits as the channels of one image, which gives 1,000 modes."""

from typing import Any

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from dcgan.common.arg_checks import check_int
from dcgan.data.pixel_range import PixelRange
from dcgan.data.torchvision import TorchvisionDataModule

DIGITS = 3


class StackedMNIST(TorchvisionDataModule):
    """Random triples of digits, labelled 0 to 999 (VEEGAN, Srivastava et al. 2017; PacGAN, Lin et al. 2018).

    The triples do not depend on `seed`.

    Args:
        stacks: Number of training images, >= 1.
        test_stacks: Number of test images, >= 1.
        channels: 3.

    For the other arguments see `TorchvisionDataModule`.
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
        return f"Stacked{self.judge_name}"

    @property
    def judge_name(self) -> str:
        return super().dataset_name

    def load(self, train: bool) -> tuple[UInt8[Tensor, "n k h w"], Int64[Tensor, " n"]]:
        images, labels = super().load(train)
        rng = torch.Generator().manual_seed(int(train))
        n = self.stacks if train else self.test_stacks
        index = torch.randint(len(images), (n, DIGITS), generator=rng)
        hundreds, tens, ones = labels[index].unbind(dim=1)
        return images[index, 0], 100 * hundreds + 10 * tens + ones

    def examples(self, indices: list[int]) -> tuple[UInt8[Tensor, "n c h w"], list[str] | None]:
        return self.train_images[indices], [f"{label:03d}" for label in self.train_labels[indices].tolist()]
