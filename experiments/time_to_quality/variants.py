"""Changes of `experiment=fast` that no config key makes. One that paid would become a key.

They are: batches that grow, learning rates that decay, and updates of both networks from the same passes.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from torch import Tensor
from torch.optim import Optimizer

from dcgan.gan import GAN
from experiments.bench import Batches, build_standalone_gan, infinite_batches
from experiments.configs import compose_config

FAST = "experiment=fast"
BATCH_SIZES = {0: 32, 1000: 64, 4000: 128}  # from which step on


class SimultaneousUpdates(GAN):
    """A GAN whose G learns from D before D's update, so that D sees the fakes once, not twice."""

    def update(self, images: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        optimizer_d, optimizer_g = cast(list[Optimizer], self.optimizers())
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


class DecayingLearningRates(GAN):
    """A GAN whose learning rates decay linearly to a tenth from step 1,000 to 10,000."""

    def update(self, images: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        factor = 1 - 0.9 * min(max(self.step - 1000, 0) / 9000, 1)
        for optimizer in cast(list[Optimizer], self.optimizers()):
            for group in optimizer.param_groups:
                group["lr"] = factor * group.setdefault("initial_lr", group["lr"])
        return super().update(images, labels)


def build_with_class(gan_class: type[GAN], seed: int) -> tuple[GAN, Batches]:
    config = compose_config(FAST, f"seed={seed}")
    gan: Any = build_standalone_gan(config)
    gan.__class__ = gan_class
    return gan, infinite_batches(config)


def build_with_growing_batches(seed: int) -> tuple[GAN, Batches]:
    configs = {step: compose_config(FAST, f"seed={seed}", f"data.batch_size={n}") for step, n in BATCH_SIZES.items()}
    gan = build_standalone_gan(configs[0])
    batches_from = {step: infinite_batches(config) for step, config in configs.items()}

    def batches() -> Batches:
        while True:
            yield next(batches_from[max(step for step in batches_from if step <= gan.step)])

    return gan, batches()


# build a GAN and its batches from a seed
CUSTOM_VARIANTS: dict[str, Callable[[int], tuple[GAN, Batches]]] = {
    "simultaneous": partial(build_with_class, SimultaneousUpdates),
    "falling": partial(build_with_class, DecayingLearningRates),
    "growing": build_with_growing_batches,
}
