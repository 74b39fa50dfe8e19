"""The configured networks, trained like the well-known PyTorch DCGAN example. Logs its steps (see `turns`).

Written from the description of the example: torchvision's images one by one through transforms in two worker processes,
separate backward passes for the real and the fake images, contiguous tensors, losses and D's outputs printed each step.
"""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from experiments.configs import compose_config

EPOCHS = 1000


def build_loader(config: DictConfig) -> DataLoader:
    transform = transforms.Compose(
        [transforms.Resize(config.data.image_size), transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))]
    )
    dataset = datasets.MNIST(config.data.root, download=True, transform=transform)
    return DataLoader(dataset, batch_size=config.data.batch_size, shuffle=True, num_workers=2)


def build_optimizer(config: DictConfig, network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(network.parameters(), lr=config.optimizer.lr, betas=tuple(config.optimizer.betas))


def train(config: DictConfig, device: torch.device) -> Iterator[None]:
    """Train, and yield after each step. Prints losses and D's outputs, which makes the host wait for the device."""
    torch.manual_seed(config.seed)
    generator, discriminator = instantiate(config.model).to(device), instantiate(config.discriminator).to(device)
    loader = build_loader(config)
    criterion = nn.BCEWithLogitsLoss()
    optimizer_d, optimizer_g = build_optimizer(config, discriminator), build_optimizer(config, generator)
    for epoch in range(EPOCHS):
        for i, (images, _) in enumerate(loader):
            discriminator.zero_grad()
            real = images.to(device)
            label = torch.full((len(real),), 1.0, device=device)
            output = discriminator(real)
            loss_real = criterion(output, label)
            loss_real.backward()
            d_x = output.sigmoid().mean().item()

            noise = torch.randn(len(real), config.model.latent_dim, device=device)
            fake = generator(noise)
            label.fill_(0.0)
            output = discriminator(fake.detach())
            loss_fake = criterion(output, label)
            loss_fake.backward()
            d_g_z1 = output.sigmoid().mean().item()
            loss_d = loss_real + loss_fake
            optimizer_d.step()

            generator.zero_grad()
            label.fill_(1.0)
            output = discriminator(fake)
            loss_g = criterion(output, label)
            loss_g.backward()
            d_g_z2 = output.sigmoid().mean().item()
            optimizer_g.step()
            print(
                f"[{epoch}/{EPOCHS}][{i}/{len(loader)}] Loss_D: {loss_d.item():.4f} Loss_G: {loss_g.item():.4f} "
                f"D(x): {d_x:.4f} D(G(z)): {d_g_z1:.4f} / {d_g_z2:.4f}"
            )
            yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    args, overrides = parser.parse_known_args()
    steps = train(compose_config(*overrides), torch.device(args.device))
    with Path(os.environ["STEP_LOG"]).open("ab", buffering=0) as file:
        for _ in steps:
            file.write(b".")


if __name__ == "__main__":
    main()
