"""The ceiling of eager PyTorch: the configured networks in a loop that does nothing but train, everything tuned.

It tells of its steps (`turns`). On a GPU the whole step is one CUDA graph (not yet run on one).
"""

import os
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from torch import Tensor

from dcgan.training.cuda_graph import record_graph, run_on_stream
from experiments.composing import configured


def main() -> None:
    ticks, overrides = Path(os.environ["TICKS"]), sys.argv[1:]
    config = configured(*overrides)
    kind = (config.ema.decay, config.discriminator_steps, config.penalty, config.loss._target_.rpartition(".")[2])
    if kind != (0, 1, None, "NonSaturating"):
        sys.exit(f"the bare loop has the default's step alone, not {kind}")
    torch.manual_seed(config.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    g, d = (instantiate(config[name]).to(device, memory_format=torch.channels_last).train()
            for name in ("model", "discriminator"))  # fmt: skip
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.set_float32_matmul_precision("high")
    optimizer_d, optimizer_g = (
        torch.optim.Adam(network.parameters(), settings.lr, tuple(settings.betas), fused=True, capturable=on_gpu)
        for network, settings in ((d, config.optimizer.discriminator), (g, config.optimizer.generator))
    )
    data = instantiate(config.data)
    data.prepare_data()
    data.setup("fit")
    images, n = data.train_images.to(device), config.data.batch_size

    def step(index: Tensor) -> None:
        real = images[index].float().div_(127.5).sub_(1)
        fake = g(torch.randn(n, config.model.latent_dim, device=device))
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

    run = replayed(step, n, device) if on_gpu else step
    with ticks.open("ab", buffering=0) as file:
        for i in count(1):
            run(torch.randint(len(images), (n,), device=device))
            if on_gpu and (i == 1 or i % 25 == 0):
                torch.cuda.synchronize()  # little of a turn is then left in the queue behind it
            file.write(b".")


def replayed(step: Callable[[Tensor], None], n: int, device: torch.device) -> Callable[[Tensor], None]:
    """The step as one CUDA graph; three steps before make what it needs."""
    static, side = torch.zeros(n, dtype=torch.int64, device=device), torch.cuda.Stream()
    for _ in range(3):
        run_on_stream(side, lambda: step(static))
    replay = record_graph(side, lambda: step(static))

    def run(index: Tensor) -> None:
        static.copy_(index)
        replay()

    return run


if __name__ == "__main__":
    main()
