"""Features of images: the vectors between whose distributions distances are measured."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from dcgan.common.device import tf32
from dcgan.data.datamodule import BaseDataModule


class FeatureExtractor:
    """A map from images of any size to vectors.

    Attributes:
        name: Its name in every output: `frechet` of the extractor "inception" is the value `frechet_inception`. The
            values of "judge" have no suffix.
        description: A noun phrase for tables and model cards.
        facts: JSON values that identify the map. Cached statistics depend on them.
        device: The device of the features.
        batch_size: Images per call of `extract`.
    """

    name: str
    description: str
    facts: dict[str, Any]
    device: torch.device
    batch_size = 500

    def extract(self, images: UInt8[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """Return the features of images on the extractor's device. Called without gradients and without TF32."""
        raise NotImplementedError

    @torch.no_grad()
    @tf32(allowed=False)
    def __call__(self, images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Return the features of images on any device."""
        return torch.cat([self.extract(batch.to(self.device)) for batch in images.split(self.batch_size)])


# called with the data and the device; a class of the config group `features`
FeatureFactory = Callable[[BaseDataModule, torch.device], FeatureExtractor]


@dataclass(frozen=True, eq=False)  # compared by identity
class ImageFeatures:
    """Images, with what the metrics read of them.

    Args:
        images: The images.
        features: Their features, by the name of the extractor.
        logits: The judge's logits of each class; k = 0 without a judge.
        labels: The classes that the images should show; None if unknown.
    """

    images: UInt8[Tensor, "n c h w"]
    features: dict[str, Float[Tensor, "n _"]]
    logits: Float[Tensor, "n k"]
    labels: Int64[Tensor, " n"] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device) -> "ImageFeatures":
        """Return a copy on the device."""
        return ImageFeatures(
            self.images.to(device),
            {name: features.to(device) for name, features in self.features.items()},
            self.logits.to(device),
            None if self.labels is None else self.labels.to(device),
        )


def concatenate(parts: list[ImageFeatures]) -> ImageFeatures:
    """Return the images of all parts; their labels, if all parts have labels."""
    labels = [part.labels for part in parts if part.labels is not None]
    return ImageFeatures(
        torch.cat([part.images for part in parts]),
        {name: torch.cat([part.features[name] for part in parts]) for name in parts[0].features},
        torch.cat([part.logits for part in parts]),
        torch.cat(labels) if len(labels) == len(parts) else None,
    )
