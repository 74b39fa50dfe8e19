"""Stacked MNIST: three digits as the channels of one image, which gives 1,000 modes."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from dcgan.common.arg_checks import check_int
from dcgan.data.datamodule import StoredImages
from dcgan.data.mnist import MNISTDataModule

DIGITS = 3


@dataclass(kw_only=True, eq=False)
class StackedMNIST(MNISTDataModule):
    """Random triples of digits, labelled 0 to 999 (VEEGAN, Srivastava et al. 2017; PacGAN, Lin et al. 2018).

    The triples do not depend on `seed`.

    Args:
        stacks: Number of training images, >= 1.
        test_stacks: Number of test images, >= 1.
        channels: 3.

    For the other arguments see `MNISTDataModule`.
    """

    judged_channels: ClassVar[int] = DIGITS

    stacks: int
    test_stacks: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("data.stacks", self.stacks, 1)
        check_int("data.test_stacks", self.test_stacks, 1)
        if self.channels != DIGITS:
            raise ValueError(f"data.channels must be {DIGITS}, one for each digit of a stack, got {self.channels!r}")

    @property
    def dataset_name(self) -> str:
        return f"Stacked{self.judge_name}"

    @property
    def judge_name(self) -> str:
        return super().dataset_name

    def load(self, train: bool) -> StoredImages:
        images, labels = super().load(train)
        assert labels is not None
        rng = torch.Generator().manual_seed(int(train))
        n = self.stacks if train else self.test_stacks
        index = torch.randint(len(images), (n, DIGITS), generator=rng)
        hundreds, tens, ones = labels[index].unbind(dim=1)
        return images[index, 0], 100 * hundreds + 10 * tens + ones

    def class_name(self, label: int) -> str:
        return f"{label:03d}"
