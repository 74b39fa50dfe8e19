"""The training step of a GAN: discriminator and generator updates (Goodfellow et al. 2014, Algorithm 1)."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import lightning as L
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from dcgan.common.arg_checks import check_int, check_number
from dcgan.common.seeding import Stream, derive_generator, seed_device
from dcgan.data.pixel_range import PixelRange
from dcgan.losses.adversarial import Loss
from dcgan.losses.gradient_penalties import GradientPenalty, Judged
from dcgan.models.augmentation import Augmentation
from dcgan.models.discriminator import BaseDiscriminator, pack_images
from dcgan.models.ema import EMA
from dcgan.models.forward_modes import eval_mode, frozen, init_running_stats
from dcgan.models.generator import BaseGenerator
from dcgan.models.normalization import batch_norms

MAX_FIXED = 10_000  # images of a grid
OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]
SchedulerFactory = Callable[[Optimizer, int], LRScheduler]  # called with the number of steps of the run


class GAN(L.LightningModule):
    """A generator and a discriminator that train each other.

    Args:
        generator: Maps z (and a label) to images in the range of `pixels`.
        discriminator: Maps images (and labels) to logits.
        loss: The objectives of both networks.
        discriminator_optimizer: Called with D's parameters.
        generator_optimizer: Called with G's parameters.
        pixels: The map between stored pixels and the networks' range.
        penalty: Added to loss_d, in the steps in which it is due. D's gradient is that with respect to its inputs,
            after the augmentation.
        augmentation: Transforms real images, or all inputs of D in both updates; None: neither.
        schedulers: Of the learning rates of D and G, which change after each step; None: constant rates.
        discriminator_steps: D updates per step, >= 1, each on its own real batch with fresh fakes.
        ema_decay: Decay of the average of G's weights that generates the samples, in [0, 1); 0: no average.
        seed: Seed of the noise, >= 0.
        fixed_n: Number of vectors in `fixed_z`, the noise of the sample grids, and of labels in `fixed_label`, if the
            networks are conditional. A multiple of D's pack.

    Raises:
        ValueError: An argument is out of range, or D has batch norm and a gradient penalty.
    """

    fixed_z: Tensor
    fixed_label: Tensor | None

    def __init__(
        self,
        generator: BaseGenerator,
        discriminator: BaseDiscriminator,
        loss: Loss,
        discriminator_optimizer: OptimizerFactory,
        generator_optimizer: OptimizerFactory,
        pixels: PixelRange,
        penalty: GradientPenalty | None = None,
        augmentation: Augmentation | None = None,
        schedulers: tuple[SchedulerFactory, SchedulerFactory] | None = None,
        discriminator_steps: int = 1,
        ema_decay: float = 0.0,
        seed: int = 0,
        fixed_n: int = 64,
    ) -> None:
        super().__init__()
        check_int("discriminator_steps", discriminator_steps, 1)
        check_int("seed", seed, 0)
        check_int("samples.n", fixed_n, 1, MAX_FIXED)
        if fixed_n % discriminator.pack:
            raise ValueError(
                f"samples.n must be a multiple of discriminator.pack ({discriminator.pack}), got {fixed_n}"
            )
        check_number("ema.decay", ema_decay, 0, 1, brackets="[)")
        if penalty is not None and batch_norms(discriminator):
            raise ValueError(
                "a gradient penalty needs a discriminator without batch norm, which makes each image's gradient "
                "depend on the other images of its batch (Gulrajani et al. 2017, section 4): "
                "set discriminator_normalization=layer"
            )
        self.automatic_optimization = False
        # the fastest memory format of convolutions: experiments/hot_path
        self.generator: BaseGenerator = generator.to(memory_format=torch.channels_last)
        self.discriminator = discriminator.to(memory_format=torch.channels_last)
        self.loss, self.penalty, self.pixels = loss, penalty, pixels
        self.augmentation = Augmentation() if augmentation is None else augmentation
        self.discriminator_optimizer, self.generator_optimizer = discriminator_optimizer, generator_optimizer
        self.schedulers, self.discriminator_steps, self.seed = schedulers, discriminator_steps, seed
        self.step = 0  # complete steps; Lightning's global_step counts optimizer steps

        rng = derive_generator(torch.device("cpu"), seed, Stream.FIXED)
        self.register_buffer("fixed_z", generator.sample_z(fixed_n, rng.device, rng))
        self.register_buffer("fixed_label", self.cycle_labels(fixed_n))
        rng = derive_generator(torch.device("cpu"), seed, Stream.STATISTICS)
        init_running_stats(generator, generator.sample_z(64, rng.device, rng), self.cycle_labels(64))
        self.ema = EMA(generator, ema_decay) if ema_decay else None

    def training_step(
        self, batch: tuple[Float[Tensor, "kn c h w"], Int64[Tensor, " kn"] | None], batch_idx: int
    ) -> dict[str, Tensor]:
        with self.count_step():
            outputs = self.update(*batch)
            if self.ema is not None:
                self.ema.update(self.generator, torch.full((), self.ema.weight(self.step), device=self.device))
        return outputs

    @contextmanager
    def count_step(self) -> Iterator[None]:
        """Count the step in the context. Its random numbers are a function of (seed, rank, step)."""
        seed_device(self.device, self.seed, Stream.TRAINING, self.global_rank, self.step)
        yield
        if self.schedulers is not None:
            for scheduler in cast(list[LRScheduler], self.lr_schedulers()):
                scheduler.step()
        self.step += 1

    def update(self, images: Float[Tensor, "kn c h w"], labels: Int64[Tensor, " kn"] | None) -> dict[str, Tensor]:
        """Update D `discriminator_steps` times and G once. Must not synchronize host and device.

        Returns:
            The losses, the logits of the last D update, and "metrics": loss_d, loss_g and the means of D(x) and
            D(G(z)), for the loggers.
        """
        optimizer_d, optimizer_g = cast(list[Optimizer], self.optimizers())
        real_batches = self.augmentation.real(images).chunk(self.discriminator_steps)
        label_batches = [None] * len(real_batches) if labels is None else labels.chunk(self.discriminator_steps)
        penalty = self.penalty if self.is_penalty_due else None

        # D: maximize E[log D(x)] + E[log(1 - D(G(z)))], or the loss's variant of it.
        for real, label in zip(real_batches, label_batches, strict=True):
            z = self.generator.sample_z(len(real), self.device)
            fake = self.generator(z, label)  # the real images' labels: a label must not reveal which images are real
            with parametrize.cached():  # spectral norm: one power iteration per update (Miyato et al. 2018)
                real_inputs = self.judged_inputs(real, penalty is not None and penalty.of_real)
                fake_inputs = self.judged_inputs(fake.detach(), penalty is not None and penalty.of_fake)
                real_logits = self.discriminator(real_inputs, label).float()
                fake_logits = self.discriminator(fake_inputs, label).float()
                loss_d = self.loss.discriminator(real_logits, fake_logits)
                if penalty is not None:
                    critic = partial(self.discriminator, label=label)
                    loss_d = loss_d + penalty(
                        critic, Judged(real_inputs, real_logits), Judged(fake_inputs, fake_logits)
                    )
            optimizer_d.zero_grad()
            self.manual_backward(loss_d)
            optimizer_d.step()

        # G: maximize E[log D(G(z))], or the loss's variant of it, against the updated D.
        with frozen(self.discriminator):
            judged = (fake, real) if self.loss.generator_needs_real else (fake,)
            inputs = (self.augmentation.inputs(x) for x in judged)
            loss_g = self.loss.generator(*(self.discriminator(x, label).float() for x in inputs))
        optimizer_g.zero_grad()
        self.manual_backward(loss_g)
        optimizer_g.step()

        real_logits, fake_logits = real_logits.detach(), fake_logits.detach()
        d_real, d_fake = (self.loss.output(logits).mean() for logits in (real_logits, fake_logits))
        return {
            "loss_d": loss_d.detach(),
            "loss_g": loss_g.detach(),
            "real_logits": real_logits,
            "fake_logits": fake_logits,
            "metrics": torch.stack((loss_d.detach(), loss_g.detach(), d_real, d_fake))[None],
        }

    def judged_inputs(self, images: Float[Tensor, "n c h w"], require_grad: bool) -> Float[Tensor, "m d h w"]:
        """Return what D judges in its update: augmented images, in packs. They require gradients for a penalty."""
        inputs = pack_images(self.augmentation.inputs(images), self.discriminator.pack)
        return inputs.detach().requires_grad_() if require_grad else inputs

    @property
    def is_penalty_due(self) -> bool:
        return self.penalty is not None and self.penalty.is_due(self.step)

    @property
    def optimizer_steps_per_step(self) -> int:
        """Optimizer steps in one step: what Lightning's `global_step` grows by."""
        return self.discriminator_steps + 1

    @property
    def total_steps(self) -> int:
        """Steps of the complete run."""
        if self.trainer.max_steps > 0:
            return self.trainer.max_steps // self.optimizer_steps_per_step
        return int(self.trainer.estimated_stepping_batches)

    @property
    def sampler(self) -> BaseGenerator:
        """The network that generates samples: the average of G's weights if there is one, else G."""
        return self.generator if self.ema is None else cast(BaseGenerator, self.ema.network)

    @torch.no_grad()
    def sample(
        self, z: Float[Tensor, "n latent_dim"], label: Int64[Tensor, " n"] | None = None
    ) -> UInt8[Tensor, "n c h w"]:
        """Generate the images of z in eval mode: no image depends on the others, and no running statistics change."""
        with eval_mode(self.sampler):
            return self.pixels.decode(self.sampler(z, label))

    def cycle_labels(self, n: int) -> Int64[Tensor, " n"] | None:
        """Return the labels 0, 1, ..., 0, 1, ... for n images, None for unconditional networks."""
        return torch.arange(n) % self.generator.classes if self.generator.classes else None

    def on_fit_start(self) -> None:
        if self.generator.classes:
            for network in (self.generator, self.sampler):
                network.label_prior.copy_(cast(Any, self.trainer).datamodule.label_prior())

    def configure_optimizers(self) -> tuple[list[Optimizer], list[LRScheduler]]:
        optimizers = [
            self.discriminator_optimizer(self.discriminator.parameters()),
            self.generator_optimizer(self.generator.parameters()),
        ]
        if self.schedulers is None:
            return optimizers, []
        schedules = zip(self.schedulers, optimizers, strict=True)
        return optimizers, [scheduler(optimizer, self.total_steps) for scheduler, optimizer in schedules]
