"""MNIST without its test images: 10,000 of the training images are held out and take their place."""

from dataclasses import dataclass

import torch

from dcgan.data.datamodule import StoredImages
from dcgan.data.mnist import MNISTDataModule

N_HELD_OUT = 10_000


@dataclass(kw_only=True, eq=False)
class HeldOutMNIST(MNISTDataModule):
    """MNIST's training images: 10,000 random ones as test images, the same ones always, the others for the training.

    A search that chooses by these images leaves MNIST's test images to those who report its result.
    """

    def load(self, train: bool) -> StoredImages:
        images, labels = super().load(train=True)
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
        index = order[N_HELD_OUT:] if train else order[:N_HELD_OUT]
        assert labels is not None
        return images[index], labels[index]
