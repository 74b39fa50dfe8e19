"""Train a judge: `python -m dcgan.metrics.classifier data=kmnist`. It reproduces the accuracy, not the bits."""

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

from dcgan import cli
from dcgan.cache import save_tensors
from dcgan.checks import UserError, check_int, check_number
from dcgan.data import InMemoryData
from dcgan.metrics.judge import BATCH, SHIPPED, SIZE, Classifier, judge_path
from dcgan.passes import evaluating
from dcgan.pixels import fit_images

VERSION = 1  # of the recipe: higher where judges trained before no longer compare


def augment(x: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 1 h w"]:
    """Random turns to 12 degrees, scales to 12 %, shears to 15 % and shifts to 15 % of half the width."""

    def between(limit: float) -> Float[Tensor, " n"]:
        return (torch.rand(len(x), device=x.device) * 2 - 1) * limit

    turn, scale = between(math.radians(12)), 1 + between(0.12)
    cos, sin = scale * turn.cos(), scale * turn.sin()
    rows = (
        torch.stack((cos, between(0.15) - sin, between(0.15)), dim=1),
        torch.stack((sin, cos * (1 + between(0.1)), between(0.15)), dim=1),
    )
    grid = F.affine_grid(torch.stack(rows, dim=1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


def fit(
    images: UInt8[Tensor, "n 1 h w"], labels: Int64[Tensor, " n"], steps: int, batch_size: int, lr: float
) -> Classifier:
    """A classifier trained on the images' device: cross-entropy, AdamW, one cycle of the learning rate."""
    network = Classifier(int(labels.max()) + 1).to(images.device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps, pct_start=0.2)
    for _ in track(range(steps), "training the judge", console=Console(stderr=True)):
        index = torch.randint(len(images), (batch_size,), device=images.device)
        x = augment(images[index].float() / 255).contiguous(memory_format=torch.channels_last)
        loss = F.cross_entropy(network(x), labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network


@torch.no_grad()
def accuracy(network: Classifier, images: UInt8[Tensor, "n 1 h w"], labels: Int64[Tensor, " n"]) -> float:
    with evaluating(network):
        right = [
            (network(x.float() / 255).argmax(dim=1) == y).sum()
            for x, y in zip(images.split(BATCH), labels.split(BATCH), strict=True)
        ]
    return torch.stack(right).sum().item() / len(images)


def train(cfg: DictConfig) -> None:
    check_int("steps", cfg.steps, 1)
    check_int("batch_size", cfg.batch_size, 2)
    check_int("seed", cfg.seed, 0)
    check_number("lr", cfg.lr, 0, 1, brackets="(]")
    device = cli.device(cfg.device)
    data = instantiate(cfg.data)
    if not isinstance(data, InMemoryData):
        raise UserError(f"{data.dataset_name} has no classes, so no judge can be trained on it: choose another data=")
    if data.judged_as != data.dataset_name:
        raise UserError(f"{data.dataset_name} is judged by the judge of {data.judged_as}, and needs no other")
    if cfg.out is None and data.dataset_name in SHIPPED:
        raise UserError(
            f"the judge of {data.dataset_name} ships with the package: give out=FILE.safetensors to train another"
        )
    path = Path(cfg.out) if cfg.out is not None else judge_path(data.dataset_name)
    if path.suffix != ".safetensors":
        raise UserError(f"out must end in .safetensors, got {cfg.out}")

    data.prepare_data()
    (train_images, train_labels), (test_images, test_labels) = data.load(train=True), data.load(train=False)
    torch.manual_seed(cfg.seed)
    network = fit(
        fit_images(train_images, SIZE, 1).to(device), train_labels.to(device), cfg.steps, cfg.batch_size, cfg.lr
    )
    share = accuracy(network, fit_images(test_images, SIZE, 1).to(device), test_labels.to(device))
    facts = {"data": data.dataset_name, "version": VERSION, "classes": network.logits.out_features, "accuracy": share}
    save_tensors(path, network.state_dict(), facts)
    print(f"accuracy     {share:.2%} of {len(test_images):,} test images")
    print(f"judge        {path}")


def main() -> None:
    cli.main("classifier", train)


if __name__ == "__main__":
    main()
