"""scikit-learn's handwritten digits: real data without a download."""

import torch

from dcgan.data.datamodule import BaseDataModule, StoredImages


class Digits(BaseDataModule):
    """1,797 handwritten digits of 8 x 8 pixels and 17 grey levels (Alpaydin and Kaynak 1998).

    The first 1,437 are the training images, the last 360 the test images. Args: see `BaseDataModule`.
    """

    def load(self, train: bool) -> StoredImages:
        from sklearn.datasets import load_digits  # imported here, as it takes half a second

        digits = load_digits()
        images = (torch.from_numpy(digits.images) * (255 / 16)).round().to(torch.uint8)
        labels = torch.from_numpy(digits.target).to(torch.int64)
        part = slice(None, 1437) if train else slice(1437, None)
        return images[part, None], labels[part]
