"""The frozen judge: a small classifier of the data set's images, through whose eyes generated ones are measured.

Inception's features were learned on photographs and mean nothing on digits; these were learned on the digits. MNIST's
judge ships with the package and never changes, so that figures compare across machines and years; the judges of other
data sets are trained by `python -m dcgan.metrics.classifier data=...` and kept in the cache.
"""

import hashlib
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from dcgan.cache import cache_dir, load_tensors
from dcgan.checks import UserError
from dcgan.pixels import fit_images
from dcgan.trained import TrainedGenerator

SIZE = 28  # pixels that the judge sees; images of other sizes are resized
FEATURES = 128
BATCH = 500
PACKAGE = Path(__file__).parent
SHIPPED = {  # SHA-256 of the files that come with the package
    "MNIST": "0cc1215dac1a977c3e3dc8d1fc43e1e6351bf56c92fe4879ebb2841e863a8fcb"
}


class MissingJudgeError(UserError):
    """There is no judge for a data set."""


class Classifier(nn.Module):
    """Three convolutions of 32, 64 and 128 channels, each halved by max pooling, and two dense layers.

    classes: of the data set.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()

        def halve(in_channels: int, out_channels: int) -> nn.Sequential:
            conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
            return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU(), nn.MaxPool2d(2))

        self.maps = nn.Sequential(halve(1, 32), halve(32, 64), halve(64, 128), nn.Flatten())
        self.dense = nn.Sequential(
            nn.Linear(128 * (SIZE // 8) ** 2, FEATURES, bias=False), nn.BatchNorm1d(FEATURES), nn.ReLU()
        )
        self.dropout = nn.Dropout(0.3)
        self.logits = nn.Linear(FEATURES, classes)
        self.to(memory_format=torch.channels_last)

    def features(self, x: Float[Tensor, "n 1 28 28"]) -> Float[Tensor, "n d"]:
        """The penultimate layer, behind its ReLU, of images in [0, 1]."""
        return self.dense(self.maps(x))

    def forward(self, x: Float[Tensor, "n 1 28 28"]) -> Float[Tensor, "n k"]:
        return self.logits(self.dropout(self.features(x)))


@dataclass(frozen=True, eq=False)  # one is equal to itself alone
class Judged:
    """Images as they were drawn, as the judge sees them, and what it makes of them; labels: what they should show,
    where that is known."""

    images: UInt8[Tensor, "n c h w"]
    seen: UInt8[Tensor, "n c 28 28"]
    features: Float[Tensor, "n d"]
    logits: Float[Tensor, "n k"]
    labels: Int64[Tensor, " n"] | None = None

    def __len__(self) -> int:
        return len(self.images)


class Judge:
    """A trained classifier and the facts that pin it: data set, version, SHA-256 and test accuracy."""

    def __init__(self, tensors: dict[str, Tensor], facts: dict[str, Any], device: torch.device) -> None:
        self.network = Classifier(facts["classes"])
        self.network.load_state_dict(tensors)
        self.network.to(device).eval().requires_grad_(False)
        self.facts, self.device = facts, device

    @torch.no_grad()
    def __call__(self, images: UInt8[Tensor, "n c h w"]) -> Judged:
        """Judge grey images of any size; features and logits are on the CPU.

        Each channel is a grey image of its own: an image has the features of all, and its classes are all combinations
        of theirs, where those of the last channel change fastest.
        """
        seen = fit_images(images, SIZE, images.shape[1])
        features, logits = [], []
        for part in seen.flatten(0, 1)[:, None].split(BATCH):
            x = (part.to(self.device).float() / 255).contiguous(memory_format=torch.channels_last)
            found = self.network.features(x)
            features.append(found.cpu())
            logits.append(self.network.logits(found).cpu())
        by_channel = torch.cat(logits).unflatten(0, images.shape[:2]).unbind(dim=1)
        # a softmax of sums is the product of the softmaxes
        combined = reduce(lambda a, b: (a[:, :, None] + b[:, None]).flatten(1), by_channel)
        return Judged(images, seen, torch.cat(features).unflatten(0, images.shape[:2]).flatten(1), combined)


def judge_path(name: str) -> Path:
    """Where the judge of a data set is, or would be."""
    return (PACKAGE if name in SHIPPED else cache_dir()) / f"judge_{name}.safetensors"


def load_judge(name: str, device: torch.device) -> Judge:
    """The judge of the data set of that name (`ImageData.dataset_name`).

    MissingJudgeError where none was trained yet; UserError where its file is damaged or not the pinned one.
    """
    path = judge_path(name)
    if not path.exists():
        raise MissingJudgeError(f"there is no judge for {name} yet")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    if name in SHIPPED and sha256 != SHIPPED[name]:
        raise UserError(f"{path} is not the judge that belongs to this version: install dcgan anew")
    try:
        tensors, facts = load_tensors(path)
    except ValueError as error:
        raise UserError(f"{error}: delete it and train the judge anew") from error
    return Judge(tensors, {**facts, "sha256": sha256}, device)


def judge_of(generator: TrainedGenerator) -> Judge:
    """The judge of what a generator was trained on, on its device. UserError where there is none."""
    if generator.facts["config"]["model"]["channels"] != 1:
        raise UserError("judges see grey images, and this generator draws in colour")
    try:
        return load_judge(generator.facts["dataset"], generator.device)
    except MissingJudgeError as error:
        raise UserError(f"{error}: python -m dcgan.metrics.classifier data=... trains one") from error
