"""The upper limit of eager PyTorch: the configured networks in a tuned loop that only trains.

Logs its steps (see `turns`). On a GPU the step is one CUDA graph (not run on a GPU yet).
"""

import os
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor

from dcgan.training.cuda_graph import record_graph, run_on_stream
from experiments.configs import compose_config

Step = Callable[[Tensor], None]  # trains on the images with these indices


def check_supported(config: DictConfig) -> None:
    """Exit if the config changes the step in a way that this loop does not implement."""
    step = (config.ema.decay, config.discriminator_steps, config.penalty, config.loss._target_.rpartition(".")[2])
    if step != (0, 1, None, "NonSaturating"):
        sys.exit(f"the bare loop implements only the default's step, not {step}")


def build_step(config: DictConfig, device: torch.device, images: Tensor) -> Step:
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

    def step(index: Tensor) -> None:
        real = images[index].float().div_(127.5).sub_(1)
        fake = g(torch.randn(len(index), config.model.latent_dim, device=device))
        loss_d = F.softplus(-d(real)).mean() + F.softplus(d(fake.detach())).mean()
        optimizer_d.zero_grad()
        loss_d.backward()
        optimizer_d.step()
        d.requires_grad_(False)
        loss_g = F.softplus(-d(fake)).mean()
        d.requires_grad_(True)
        optimizer_g.zero_grad()
        loss_g.backward()
        optimizer_g.step()

    return step


def record_step(step: Step, n: int, device: torch.device) -> Step:
    """Return the step as a CUDA graph. Three steps before the recording allocate what it needs."""
    static_index, stream = torch.zeros(n, dtype=torch.int64, device=device), torch.cuda.Stream()
    for _ in range(3):
        run_on_stream(stream, lambda: step(static_index))
    replay = record_graph(stream, lambda: step(static_index))

    def run(index: Tensor) -> None:
        static_index.copy_(index)
        replay()

    return run


def main() -> None:
    step_log, overrides = Path(os.environ["STEP_LOG"]), sys.argv[1:]
    config = compose_config(*overrides)
    check_supported(config)
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    if on_gpu:
        torch.set_float32_matmul_precision("high")
    data = instantiate(config.data)
    data.prepare_data()
    data.setup("fit")
    images, n = data.train_images.to(device), config.data.batch_size
    step = build_step(config, device, images)
    if on_gpu:
        step = record_step(step, n, device)
    with step_log.open("ab", buffering=0) as file:
        for i in count(1):
            step(torch.randint(len(images), (n,), device=device))
            if on_gpu and (i == 1 or i % 25 == 0):
                torch.cuda.synchronize()  # limits the queued work that runs on after a turn
            file.write(b".")


if __name__ == "__main__":
    main()
