"""Train a judge: `python -m dcgan.metrics.train_judge data=kmnist`. The accuracy is reproducible, the weights are not
bit-identical."""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track
from torch import Tensor

from dcgan.common import command
from dcgan.common.arg_checks import check_int, check_number
from dcgan.common.cache import save_tensors
from dcgan.common.device import resolve_device
from dcgan.common.errors import UserError
from dcgan.common.instantiate import build
from dcgan.data.datamodule import BaseDataModule
from dcgan.data.pixel_range import resize_images
from dcgan.metrics.judge import SHIPPED_SHA256, Classifier, judge_path

EVALUATION_BATCH_SIZE = 500
SIZES = (28, 64)  # smallest and largest height and width of a judge's input, in pixels
MAX_STEPS, MAX_WIDTH = 10**9, 4096
RECIPE_VERSION = 1  # increase it if judges of earlier versions are no longer comparable


def augment(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Rotate by up to 12 degrees, scale by 12 %, shear by 15 % and shift by 15 % of half the width, at random."""

    def uniform(limit: float) -> Float[Tensor, " n"]:
        return (torch.rand(len(x), device=x.device) * 2 - 1) * limit

    angle, scale = uniform(math.radians(12)), 1 + uniform(0.12)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    rows = (
        torch.stack((cos, uniform(0.15) - sin, uniform(0.15)), dim=1),
        torch.stack((sin, cos * (1 + uniform(0.1)), uniform(0.15)), dim=1),
    )
    grid = F.affine_grid(torch.stack(rows, dim=1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


def train_classifier(
    images: UInt8[Tensor, "n c s s"],
    labels: Int64[Tensor, " n"],
    steps: int,
    batch_size: int,
    lr: float,
    width: int,
    mirrored: bool,
) -> Classifier:
    """Train a classifier on the images' device: cross-entropy, AdamW, one cycle of the learning rate.

    If the images are `mirrored`, half of each batch is flipped.
    """
    network = Classifier(int(labels.max()) + 1, images.shape[1], images.shape[-1], width).to(images.device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=0.01, fused=True)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=max(steps, 10), pct_start=0.2)
    for _ in track(range(steps), "training the judge", console=Console(stderr=True)):
        index = torch.randint(len(images), (batch_size,), device=images.device)
        x = images[index].float() / 255
        if mirrored:
            x[: batch_size // 2] = x[: batch_size // 2].flip(-1)
        x = augment(x).contiguous(memory_format=torch.channels_last)
        loss = F.cross_entropy(network(x), labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    return network


@torch.no_grad()
def test_accuracy(network: Classifier, images: UInt8[Tensor, "n c s s"], labels: Int64[Tensor, " n"]) -> float:
    network.eval()
    predictions = [network(batch.float() / 255).argmax(dim=1) for batch in images.split(EVALUATION_BATCH_SIZE)]
    return (torch.cat(predictions) == labels).double().mean().item()


def load_data(cfg: DictConfig) -> BaseDataModule:
    """Return the prepared data. UserError if no judge of its own can be trained on it."""
    data = build(cfg, "data", BaseDataModule)
    if data.classes is None:
        raise UserError(f"{data.dataset_name} has no classes: set data.classes to the number of class folders")
    if data.judged_channels > 1:
        raise UserError(f"{data.dataset_name} uses the judge of {data.judge_name}: it needs no other")
    data.prepare_data()
    if cfg.out is None and data.judge_name in SHIPPED_SHA256:
        raise UserError(
            f"the judge of {data.judge_name} ships with the package: give out=FILE.safetensors to train another"
        )
    return data


def train(cfg: DictConfig) -> None:
    """Train a judge with conf/train_judge.yaml, save it and print its test accuracy."""
    check_int("steps", cfg.steps, 1, MAX_STEPS)
    check_int("batch_size", cfg.batch_size, 2)
    check_int("seed", cfg.seed, 0)
    check_number("lr", cfg.lr, 0, 1, brackets="(]")
    check_int("width", cfg.width, 1, MAX_WIDTH, optional=True)
    device = resolve_device(cfg.device)
    data = load_data(cfg)
    path = Path(cfg.out) if cfg.out is not None else judge_path(data.judge_name)
    if path.suffix != ".safetensors":
        raise UserError(f"out must end in .safetensors, got {cfg.out}")

    torch.manual_seed(cfg.seed)
    (images, labels), (test_images, test_labels) = data.load(train=True), data.load(train=False)
    assert labels is not None  # it has classes
    assert test_labels is not None
    channels, size = images.shape[1], min(max(images.shape[-1], SIZES[0]), SIZES[1])
    width = cfg.width or (32 if channels == 1 else 64)
    network = train_classifier(
        resize_images(images, size, channels).to(device), labels.to(device), cfg.steps, cfg.batch_size, cfg.lr, width,
        data.mirrored,
    )  # fmt: skip
    accuracy = test_accuracy(network, resize_images(test_images, size, channels).to(device), test_labels.to(device))
    facts = {"data": data.judge_name, "version": RECIPE_VERSION, "classes": network.logits.out_features}
    facts |= {"channels": channels, "size": size, "width": width, "accuracy": accuracy}
    save_tensors(path, network.state_dict(), facts)
    print(f"accuracy     {accuracy:.2%} of {len(test_images):,} test images")
    print(f"judge        {path}")


def main() -> None:
    command.main("train_judge", train)


if __name__ == "__main__":
    main()
