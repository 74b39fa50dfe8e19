"""The upper limit of PyTorch: the configured networks in a tuned loop that only trains.

Logs its steps (see `turns`). With `--device cuda` the step is one CUDA graph.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor

from experiments.configs import compose_config
from experiments.cuda_graphs import record_graph

Step = Callable[[Tensor], None]  # trains on the images with these indices
SYNC_EVERY_N_STEPS = 25  # limits the queued work that runs on after a turn


def check_supported(config: DictConfig) -> None:
    """Exit if the config changes the step in a way that this loop does not implement."""
    step = (config.ema.decay, config.discriminator_steps, config.penalty, config.loss._target_.rpartition(".")[2])
    if step != (0, 1, None, "NonSaturating"):
        sys.exit(f"the bare loop implements only the default's step, not {step}")


def build_step(config: DictConfig, device: torch.device, images: Tensor, bf16: bool) -> Step:
    """Build the networks and their optimizers, and return the training step on uint8 images."""
    torch.manual_seed(config.seed)
    g, d = (
        instantiate(config[name]).to(device, memory_format=torch.channels_last).train()
        for name in ("model", "discriminator")
    )
    optimizer_d, optimizer_g = (
        torch.optim.Adam(
            network.parameters(), settings.lr, tuple(settings.betas), fused=True, capturable=images.is_cuda
        )
        for network, settings in ((d, config.optimizer.discriminator), (g, config.optimizer.generator))
    )
    # a cached cast of a weight would be outdated in the next replay
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=bf16, cache_enabled=False)

    def step(index: Tensor) -> None:
        real = images[index].float().div_(127.5).sub_(1)
        with autocast:
            fake = g(torch.randn(len(index), config.model.latent_dim, device=device))
            loss_d = F.softplus(-d(real).float()).mean() + F.softplus(d(fake.detach()).float()).mean()
        optimizer_d.zero_grad()
        loss_d.backward()
        optimizer_d.step()
        d.requires_grad_(False)
        with autocast:
            loss_g = F.softplus(-d(fake).float()).mean()
        d.requires_grad_(True)
        optimizer_g.zero_grad()
        loss_g.backward()
        optimizer_g.step()

    return step


def record_step(step: Step, n: int, device: torch.device) -> Step:
    """Return the step on n images as a CUDA graph."""
    static_index = torch.zeros(n, dtype=torch.int64, device=device)
    replay = record_graph(lambda: step(static_index), device)

    def run(index: Tensor) -> None:
        static_index.copy_(index)
        replay()

    return run


def train(config: DictConfig, device: torch.device, precision: str) -> Iterator[None]:
    """Train without an end, and yield after each step.

    Args:
        config: conf/train.yaml with overrides.
        device: On a GPU the step is one CUDA graph.
        precision: "32-true", with TF32 on a GPU, or "bf16-mixed".
    """
    check_supported(config)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    data = instantiate(config.data)
    data.prepare_data()
    data.setup("fit")
    images, n = data.train_images.to(device), config.data.batch_size
    step = build_step(config, device, images, bf16=precision == "bf16-mixed")
    if device.type == "cuda":
        step = record_step(step, n, device)
    for i in count(1):
        step(torch.randint(len(images), (n,), device=device))
        if device.type == "cuda" and (i == 1 or i % SYNC_EVERY_N_STEPS == 0):
            torch.cuda.synchronize()
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("32-true", "bf16-mixed"), default="32-true")
    args, overrides = parser.parse_known_args()
    steps = train(compose_config(*overrides), torch.device(args.device), args.precision)
    with Path(os.environ["STEP_LOG"]).open("ab", buffering=0) as file:
        for _ in steps:
            file.write(b".")


if __name__ == "__main__":
    main()
