"""What no config key does yet, on top of `experiment=fast`: batches that grow, learning rates that fall, and both
networks learning from the same passes. Each would become a key if it paid."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch import Tensor

from dcgan.gan import GAN
from experiments.bench import bare, endless
from experiments.composing import configured

Batches = Iterator[tuple[Tensor, Tensor | None]]
FAST = "experiment=fast"
GROWTH = {0: 32, 1000: 64, 4000: 128}  # images a batch, from a step on


class Simultaneous(GAN):
    """G learns from D as it was when it judged the fakes, before its own update: D sees them once, not twice."""

    def update(self, images: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        optimizer_d, optimizer_g = self.optimizers()
        fake = self.generator(self.generator.sample_z(len(images), self.device))
        real_logits, fake_logits = self.discriminator(images), self.discriminator(fake)
        loss_d = self.loss.discriminator(real_logits, fake_logits)
        loss_g = self.loss.generator(fake_logits)
        loss_d.backward(inputs=list(self.discriminator.parameters()), retain_graph=True)
        loss_g.backward(inputs=list(self.generator.parameters()))
        for optimizer in (optimizer_d, optimizer_g):
            optimizer.step()
            optimizer.zero_grad()
        return {"loss_d": loss_d.detach(), "loss_g": loss_g.detach()}


class Falling(GAN):
    """Both rates fall in a straight line to a tenth, from step 1,000 to 10,000."""

    def update(self, images: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        share = 1 - 0.9 * min(max(self.step - 1000, 0) / 9000, 1)
        for optimizer in self.optimizers():
            for group in optimizer.param_groups:
                group["lr"] = share * group.setdefault("initial_lr", group["lr"])
        return super().update(images, labels)


def trained_as(kind: type[GAN], seed: int) -> tuple[GAN, Batches]:
    config = configured(FAST, f"seed={seed}")
    gan: Any = bare(config)
    gan.__class__ = kind
    return gan, endless(config)


def growing(seed: int) -> tuple[GAN, Batches]:
    configs = {first: configured(FAST, f"seed={seed}", f"data.batch_size={n}") for first, n in GROWTH.items()}
    gan = bare(configs[0])
    sizes = {first: endless(config) for first, config in configs.items()}

    def batches() -> Batches:
        while True:
            yield next(sizes[max(first for first in sizes if first <= gan.step)])

    return gan, batches()


VARIANTS: dict[str, Callable[[int], tuple[GAN, Batches]]] = {
    "simultaneous": partial(trained_as, Simultaneous),
    "falling": partial(trained_as, Falling),
    "growing": growing,
}
