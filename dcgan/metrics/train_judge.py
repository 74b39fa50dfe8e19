"""Train a judge: `python -m dcgan.metrics.train_judge data=kmnist`. The accuracy is reproducible, the weights are not
bit-identical."""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from hydra.utils import instantiate
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
from dcgan.data.pixel_range import resize_images
from dcgan.metrics.judge import JUDGE_SIZE, SHIPPED_SHA256, Classifier, Judge, judge_path

RECIPE_VERSION = 1  # increase it if judges of earlier versions are no longer comparable


def augment(x: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 1 h w"]:
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
    images: UInt8[Tensor, "n 1 h w"], labels: Int64[Tensor, " n"], steps: int, batch_size: int, lr: float
) -> Classifier:
    """Train a classifier on the images' device: cross-entropy, AdamW, one cycle of the learning rate."""
    network = Classifier(int(labels.max()) + 1).to(images.device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=0.01, fused=True)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps, pct_start=0.2)
    for _ in track(range(steps), "training the judge", console=Console(stderr=True)):
        index = torch.randint(len(images), (batch_size,), device=images.device)
        x = augment(images[index].float() / 255).contiguous(memory_format=torch.channels_last)
        loss = F.cross_entropy(network(x), labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    return network


def train(cfg: DictConfig) -> None:
    """Train a judge with conf/train_judge.yaml, save it and print its test accuracy."""
    check_int("steps", cfg.steps, 1)
    check_int("batch_size", cfg.batch_size, 2)
    check_int("seed", cfg.seed, 0)
    check_number("lr", cfg.lr, 0, 1, brackets="(]")
    device = resolve_device(cfg.device)
    data = instantiate(cfg.data)
    if data.classes is None:
        raise UserError(f"{data.dataset_name} has no classes, so no judge can be trained on it: choose another data=")
    if data.judged_channels > 1:
        raise UserError(f"{data.dataset_name} uses the judge of {data.judge_name}: it needs no other")
    if cfg.out is None and data.dataset_name in SHIPPED_SHA256:
        raise UserError(
            f"the judge of {data.dataset_name} ships with the package: give out=FILE.safetensors to train another"
        )
    path = Path(cfg.out) if cfg.out is not None else judge_path(data.judge_name)
    if path.suffix != ".safetensors":
        raise UserError(f"out must end in .safetensors, got {cfg.out}")

    data.prepare_data()
    images, labels = data.load(train=True)
    test_images, test_labels = data.load(train=False)
    torch.manual_seed(cfg.seed)
    images = resize_images(images, JUDGE_SIZE, 1).to(device)
    network = train_classifier(images, labels.to(device), cfg.steps, cfg.batch_size, cfg.lr)
    facts = {"data": data.judge_name, "version": RECIPE_VERSION, "classes": network.logits.out_features}
    logits = Judge(network.state_dict(), facts, device)(test_images).logits
    accuracy = (logits.argmax(dim=1) == test_labels.to(device)).double().mean().item()
    save_tensors(path, network.state_dict(), facts | {"accuracy": accuracy})
    print(f"accuracy     {accuracy:.2%} of {len(test_images):,} test images")
    print(f"judge        {path}")


def main() -> None:
    command.main("train_judge", train)


if __name__ == "__main__":
    main()
