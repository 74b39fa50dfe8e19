"""The default choice of features."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from dcgan.data.datamodule import BaseDataModule
from dcgan.metrics.features import FeatureExtractor
from dcgan.metrics.judge import JudgeFeatures, MissingJudgeError
from dcgan.metrics.random_conv import RandomConv


class AutoFeatures(FeatureExtractor):
    """The judge's features if the data set has a judge, else those of `RandomConv`.

    Args:
        data: The real images.
        device: The device of the features.
    """

    def __init__(self, data: BaseDataModule, device: torch.device) -> None:
        self.device = device
        try:
            self.extractor: FeatureExtractor = JudgeFeatures(data, device)
        except MissingJudgeError:
            self.extractor = RandomConv(data, device)
        self.name, self.description, self.facts = self.extractor.name, self.extractor.description, self.extractor.facts

    def extract(self, images: UInt8[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        return self.extractor.extract(images)
