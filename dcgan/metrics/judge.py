"""The judge: a small frozen classifier of the data set's images, whose features and classes the metrics use.

Inception's features were learned on photographs and mean little on digits. MNIST's judge ships with the package and
never changes, so that values compare across machines and years. `python -m dcgan.metrics.train_judge data=...` trains
the judges of other data sets and stores them in the cache.
"""

import hashlib
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from dcgan.common.cache import cache_dir, load_tensors
from dcgan.common.device import tf32
from dcgan.common.errors import UserError
from dcgan.data.pixel_range import resize_images

JUDGE_SIZE = 28  # pixels of its input; images of other sizes are resized
FEATURE_DIM = 128
BATCH_SIZE = 500
PACKAGE_DIR = Path(__file__).parent
SHIPPED_SHA256 = {"MNIST": "0cc1215dac1a977c3e3dc8d1fc43e1e6351bf56c92fe4879ebb2841e863a8fcb"}


class MissingJudgeError(UserError):
    """There is no judge for a data set."""


class Classifier(nn.Module):
    """Three convolutions of 32, 64 and 128 channels, each followed by max pooling, and two dense layers."""

    def __init__(self, classes: int) -> None:
        super().__init__()

        def conv_block(in_channels: int, out_channels: int) -> nn.Sequential:
            conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
            return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU(), nn.MaxPool2d(2))

        self.maps = nn.Sequential(conv_block(1, 32), conv_block(32, 64), conv_block(64, 128), nn.Flatten())
        self.dense = nn.Sequential(
            nn.Linear(128 * (JUDGE_SIZE // 8) ** 2, FEATURE_DIM, bias=False), nn.BatchNorm1d(FEATURE_DIM), nn.ReLU()
        )
        self.dropout = nn.Dropout(0.3)
        self.logits = nn.Linear(FEATURE_DIM, classes)
        self.to(memory_format=torch.channels_last)

    def features(self, x: Float[Tensor, "n 1 28 28"]) -> Float[Tensor, "n d"]:
        """Return the penultimate layer's activations, after the ReLU, of images in [0, 1]."""
        return self.dense(self.maps(x))

    def forward(self, x: Float[Tensor, "n 1 28 28"]) -> Float[Tensor, "n k"]:
        return self.logits(self.dropout(self.features(x)))


@dataclass(frozen=True, eq=False)  # compared by identity
class ImageFeatures:
    """Images with the judge's features and logits.

    Args:
        images: The original images.
        judge_input: The images at the judge's size.
        labels: The classes that the images should show; None if unknown.
    """

    images: UInt8[Tensor, "n c h w"]
    judge_input: UInt8[Tensor, "n c 28 28"]
    features: Float[Tensor, "n d"]
    logits: Float[Tensor, "n k"]
    labels: Int64[Tensor, " n"] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device) -> "ImageFeatures":
        """Return a copy on the device."""
        return ImageFeatures(
            self.images.to(device),
            self.judge_input.to(device),
            self.features.to(device),
            self.logits.to(device),
            None if self.labels is None else self.labels.to(device),
        )


def concatenate(parts: list[ImageFeatures]) -> ImageFeatures:
    """Return the images of all parts; their labels, if all parts have labels."""
    labels = [part.labels for part in parts if part.labels is not None]
    return ImageFeatures(
        torch.cat([part.images for part in parts]),
        torch.cat([part.judge_input for part in parts]),
        torch.cat([part.features for part in parts]),
        torch.cat([part.logits for part in parts]),
        torch.cat(labels) if len(labels) == len(parts) else None,
    )


class Judge:
    """A trained classifier; `facts` are its data set, version, SHA-256, test accuracy and number of classes."""

    def __init__(self, tensors: dict[str, Tensor], facts: dict[str, Any], device: torch.device) -> None:
        self.network = Classifier(facts["classes"])
        self.network.load_state_dict(tensors)
        self.network.to(device).eval().requires_grad_(False)
        self.facts, self.device = facts, device

    @torch.no_grad()
    @tf32(allowed=False)
    def __call__(self, images: UInt8[Tensor, "n c h w"]) -> ImageFeatures:
        """Return features and logits of images of any size, and the images, on the judge's device.

        Each channel is classified as a grey image. An image has the features of all its channels. Its classes are all
        combinations of theirs; those of the last channel vary fastest.
        """
        images = images.to(self.device)
        judge_input = resize_images(images, JUDGE_SIZE, images.shape[1])
        features, logits = [], []
        for batch in judge_input.flatten(0, 1)[:, None].split(BATCH_SIZE):
            x = (batch.float() / 255).contiguous(memory_format=torch.channels_last)
            batch_features = self.network.features(x)
            features.append(batch_features)
            logits.append(self.network.logits(batch_features))
        by_channel = torch.cat(logits).unflatten(0, images.shape[:2]).unbind(dim=1)
        # a softmax of sums is the product of the softmaxes
        combined = reduce(lambda a, b: (a[:, :, None] + b[:, None]).flatten(1), by_channel)
        joined = torch.cat(features).unflatten(0, images.shape[:2]).flatten(1)
        return ImageFeatures(images, judge_input, joined, combined)


def judge_path(name: str) -> Path:
    """Return the path of a data set's judge, whether or not it exists."""
    return (PACKAGE_DIR if name in SHIPPED_SHA256 else cache_dir()) / f"judge_{name}.safetensors"


def load_judge(name: str, device: torch.device) -> Judge:
    """Return the judge of the data set of that name (`BaseDataModule.dataset_name`).

    Raises:
        MissingJudgeError: It was not trained yet.
        UserError: Its file is damaged, or not the shipped one.
    """
    path = judge_path(name)
    if not path.exists():
        raise MissingJudgeError(f"there is no judge for {name} yet")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    if name in SHIPPED_SHA256 and sha256 != SHIPPED_SHA256[name]:
        raise UserError(f"{path} is not the judge of this version: reinstall dcgan")
    try:
        tensors, facts = load_tensors(path)
    except ValueError as error:
        raise UserError(f"{error}: delete it and train the judge again") from error
    return Judge(tensors, {**facts, "sha256": sha256}, device)
