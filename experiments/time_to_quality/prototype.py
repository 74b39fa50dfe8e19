"""The prototype that `experiment=fast` had to beat, in plain PyTorch.

From its description: 32 base channels, hidden width 512, nearest upsampling, batch size 64, Adam with lr 5e-4 and betas
(0.5, 0.999) for both networks, non-saturating loss, a moving average of G's parameters with G's buffers.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BASE, HIDDEN, LATENT, BATCH, LR, DECAY = 32, 512, 100, 64, 5e-4, 0.995


def init_weights(module: nn.Module) -> None:
    """Initialize convolutions by N(0, 0.02) and scales of 2d batch norm by N(1, 0.02), not dense layers."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


class Prototype:
    """The networks and their training step."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        features = 2 * BASE * 49
        self.generator = nn.Sequential(
            nn.Linear(LATENT, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(),
            nn.Linear(HIDDEN, features), nn.BatchNorm1d(features), nn.ReLU(),
            nn.Unflatten(1, (2 * BASE, 7, 7)),
            nn.Upsample(scale_factor=2), nn.Conv2d(2 * BASE, BASE, 3, padding=1), nn.BatchNorm2d(BASE), nn.ReLU(),
            nn.Upsample(scale_factor=2), nn.Conv2d(BASE, 1, 3, padding=1), nn.Tanh(),
        )  # fmt: skip
        self.discriminator = nn.Sequential(
            nn.Conv2d(1, BASE, 4, 2, 1), nn.LeakyReLU(0.2),
            nn.Conv2d(BASE, 2 * BASE, 4, 2, 1), nn.BatchNorm2d(2 * BASE), nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(features, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.LeakyReLU(0.2),
            nn.Linear(HIDDEN, 1),
        )  # fmt: skip
        for network in (self.generator, self.discriminator):
            network.apply(init_weights).to(memory_format=torch.channels_last)
        self.ema_generator = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.optimizer_d, self.optimizer_g = (
            torch.optim.Adam(network.parameters(), LR, (0.5, 0.999), fused=True)
            for network in (self.discriminator, self.generator)
        )
        self.step = 0
        self.rng = torch.Generator().manual_seed(seed)  # other variants of a race seed the global one

    def sample_z(self, n: int, device: torch.device, rng: torch.Generator) -> Tensor:
        return torch.randn(n, LATENT, device=device, generator=rng)

    def training_step(self, real: Tensor) -> None:
        d, g = self.discriminator, self.generator
        fake = g(self.sample_z(len(real), real.device, self.rng))
        loss_d = F.softplus(-d(real)).mean() + F.softplus(d(fake.detach())).mean()
        self.optimizer_d.zero_grad()
        loss_d.backward()
        self.optimizer_d.step()

        d.requires_grad_(False)
        loss_g = F.softplus(-d(fake)).mean()
        d.requires_grad_(True)
        self.optimizer_g.zero_grad()
        loss_g.backward()
        self.optimizer_g.step()

        decay = min(DECAY, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.ema_generator.parameters()), list(g.parameters()), 1 - decay)
            for average, buffer in zip(self.ema_generator.buffers(), g.buffers(), strict=True):
                average.copy_(buffer)
        self.step += 1

    @torch.no_grad()
    def sample(self, z: Tensor) -> Tensor:
        return ((self.ema_generator(z) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
