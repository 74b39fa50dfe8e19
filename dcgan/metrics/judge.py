"""The judge: a small frozen classifier of a labeled data set, whose features and classes the metrics use.

MNIST's judge ships with the package and never changes, so that values compare across machines and years.
`python -m dcgan.metrics.train_judge data=...` trains the judges of other data sets and stores them in the cache.
"""

import hashlib
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from dcgan.common.cache import cache_dir, load_tensors
from dcgan.common.device import tf32
from dcgan.common.errors import UserError, first_line
from dcgan.common.schema import check_schema
from dcgan.data.datamodule import BaseDataModule
from dcgan.data.pixel_range import resize_images
from dcgan.metrics.features import FeatureExtractor

FEATURE_DIM = 128
SIZES = {"channels": 1, "size": 28, "width": 32}  # of a file that does not name them
FACTS = {"data": str, "version": int, "classes": int, "accuracy": float} | dict.fromkeys(SIZES, int)
PACKAGE_DIR = Path(__file__).parent
SHIPPED_SHA256 = {"MNIST": "0cc1215dac1a977c3e3dc8d1fc43e1e6351bf56c92fe4879ebb2841e863a8fcb"}


class MissingJudgeError(UserError):
    """There is no judge for a data set."""


class Classifier(nn.Module):
    """Three convolutions, each followed by max pooling, and two dense layers.

    Args:
        classes: Number of classes, >= 1.
        channels: Channels of the images, 1 or 3.
        size: Height and width of the images in pixels, >= 8.
        width: Channels of the first convolution, >= 1; the others have 2 and 4 times as many.
    """

    def __init__(self, classes: int, channels: int = 1, size: int = 28, width: int = 32) -> None:
        super().__init__()

        def conv_block(in_channels: int, out_channels: int) -> nn.Sequential:
            conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
            return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU(), nn.MaxPool2d(2))

        self.maps = nn.Sequential(
            conv_block(channels, width), conv_block(width, 2 * width), conv_block(2 * width, 4 * width), nn.Flatten()
        )
        self.dense = nn.Sequential(
            nn.Linear(4 * width * (size // 8) ** 2, FEATURE_DIM, bias=False), nn.BatchNorm1d(FEATURE_DIM), nn.ReLU()
        )
        self.dropout = nn.Dropout(0.3)
        self.logits = nn.Linear(FEATURE_DIM, classes)
        self.to(memory_format=torch.channels_last)

    def features(self, x: Float[Tensor, "n c s s"]) -> Float[Tensor, "n d"]:
        """Return the penultimate layer's activations, after the ReLU, of images in [0, 1]."""
        return self.dense(self.maps(x))

    def forward(self, x: Float[Tensor, "n c s s"]) -> Float[Tensor, "n k"]:
        return self.logits(self.dropout(self.features(x)))


class Judge(FeatureExtractor):
    """A trained classifier. Images are converted to its channels and its size.

    Args:
        tensors: The classifier's weights.
        facts: "data", "version", "accuracy" (on test images), "classes" and "sha256"; "channels", "size" and "width" of
            the classifier, if they are not its defaults.
        device: The device of the classifier and the features.
        by_channel: Classify each channel as a grey image. An image has the features of all its channels. Its classes
            are all combinations of theirs; those of the last channel vary fastest.
    """

    name = "judge"

    def __init__(
        self, tensors: dict[str, Tensor], facts: dict[str, Any], device: torch.device, by_channel: bool = False
    ) -> None:
        sizes = SIZES | facts
        self.channels, self.size = sizes["channels"], sizes["size"]
        with torch.device("meta"):  # the facts set the sizes
            self.network = Classifier(facts["classes"], self.channels, self.size, sizes["width"])
        self.network.load_state_dict(tensors, assign=True)
        self.network.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
        self.facts, self.device, self.by_channel = facts, device, by_channel
        self.description = (
            f"judge of {facts['data']}, version {facts['version']}, test accuracy {facts['accuracy']:.2%}"
        )

    def extract(self, images: UInt8[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        parts = images.split(1, dim=1) if self.by_channel else (images,)
        inputs = (resize_images(part, self.size, self.channels).float() / 255 for part in parts)
        features = [self.network.features(x.contiguous(memory_format=torch.channels_last)) for x in inputs]
        return torch.cat(features, dim=1)

    @torch.no_grad()
    @tf32(allowed=False)
    def logits(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        """Return the logits of each class, from the features that `__call__` returns."""
        by_channel = [self.network.logits(part) for part in features.split(FEATURE_DIM, dim=1)]
        # a softmax of sums is the product of the softmaxes
        return reduce(lambda a, b: (a[:, :, None] + b[:, None]).flatten(1), by_channel)

    def classify(self, images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Return the logits of each class."""
        return self.logits(self(images))


def training_command(data_choice: str) -> str:
    """Return the command that trains the judge of a data set, by its option of the config group `data`."""
    return f"python -m dcgan.metrics.train_judge data={data_choice} and the same data.* keys"


def judge_path(name: str) -> Path:
    """Return the path of a data set's judge, whether or not it exists."""
    return (PACKAGE_DIR if name in SHIPPED_SHA256 else cache_dir()) / f"judge_{name}.safetensors"


def load_judge(name: str, device: torch.device, by_channel: bool = False) -> Judge:
    """Return the judge of the data set of that name (`BaseDataModule.judge_name`).

    Raises:
        MissingJudgeError: It was not trained yet.
        UserError: Its file is damaged, or not the shipped one.
    """
    path = judge_path(name)
    if not path.exists():
        raise MissingJudgeError(f"there is no judge for {name} yet")
    return read_judge(path, device, by_channel, SHIPPED_SHA256.get(name))


def read_judge(path: Path, device: torch.device, by_channel: bool = False, shipped_sha256: str | None = None) -> Judge:
    """Return the judge in a file of `train_judge`.

    Raises:
        UserError: The file is damaged, or does not have the digest `shipped_sha256`.
    """
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    if shipped_sha256 not in (None, sha256):
        raise UserError(f"{path} is not the judge of this version: reinstall dcgan")
    try:
        tensors, facts = load_tensors(path)
        check_schema({**SIZES, **facts}, FACTS)
        return Judge(tensors, {**facts, "sha256": sha256}, device, by_channel)
    except (ValueError, RuntimeError) as error:  # of another structure
        raise UserError(f"{path} cannot be used ({first_line(error)}): delete it and train the judge again") from error


def load_data_judge(data: BaseDataModule, device: torch.device) -> Judge:
    """Return the judge of a data set.

    Raises:
        MissingJudgeError: It was not trained yet, or the data set has no classes.
        UserError: Its file is damaged, or it has another number of classes.
    """
    if data.classes is None:
        raise MissingJudgeError(f"{data.dataset_name} has no classes, so it can have no judge")
    judge = load_judge(data.judge_name, device, data.judged_channels > 1)
    classes = judge.facts["classes"] ** data.judged_channels
    if classes != data.classes:
        raise UserError(f"the judge of {data.judge_name} has {classes} classes, but data.classes is {data.classes}")
    return judge


class JudgeFeatures(FeatureExtractor):
    """The judge's features (the option `judge`).

    Raises:
        MissingJudgeError: It was not trained yet.
        UserError: Its file is damaged.
    """

    name = "judge"

    def __init__(self, data: BaseDataModule, device: torch.device) -> None:
        self.judge, self.device = load_data_judge(data, device), device
        self.description, self.facts = self.judge.description, self.judge.facts

    def extract(self, images: UInt8[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        return self.judge.extract(images)
