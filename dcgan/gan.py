"""The training of a GAN: one discriminator and one generator update a step (Goodfellow et al. 2014, Algorithm 1)."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import lightning as L
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.optim import Optimizer

from dcgan.checks import check_int, check_number
from dcgan.ema import EMA
from dcgan.losses import Loss
from dcgan.networks import ImageModel, LatentModel, packed
from dcgan.normalization import batch_norms
from dcgan.optimizers import Adam
from dcgan.passes import evaluating, frozen, separate_statistics, start_statistics
from dcgan.penalties import GradientPenalty
from dcgan.pixels import PixelRange
from dcgan.processes import gather
from dcgan.seeding import Stream, derive_generator, seed_device


class GAN(L.LightningModule):
    """A generator and a discriminator, and how they train each other.

    loss, penalty: objects that own their maths (`dcgan.losses`, `dcgan.penalties`).
    discriminator_optimizer, generator_optimizer: called with the parameters.
    pixels: the map between stored pixels and the networks' range.
    discriminator_steps: D updates a step, each on its own real batch with fresh fakes.
    ema_decay: of the average of G's weights that draws the samples; 0: G itself draws them.
    seed: of the noise. fixed_n: latent vectors in `fixed_z`, the noise of the pictures that are compared over time, and
    labels in `fixed_label`, each class in turn, where the networks are conditional.
    Raises ValueError for counts below 1, fixed_n that are no whole packs, a decay outside [0, 1), and a penalty with
    batch norm in D.
    """

    fixed_z: Tensor
    fixed_label: Tensor | None

    def __init__(
        self,
        generator: LatentModel,
        discriminator: ImageModel,
        loss: Loss,
        discriminator_optimizer: Adam,
        generator_optimizer: Adam,
        pixels: PixelRange,
        penalty: GradientPenalty | None = None,
        discriminator_steps: int = 1,
        ema_decay: float = 0.0,
        seed: int = 0,
        fixed_n: int = 64,
    ) -> None:
        super().__init__()
        check_int("discriminator_steps", discriminator_steps, 1)
        check_int("seed", seed, 0)
        check_int("samples.n", fixed_n, 1)
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
        # the memory format that convolutions are fastest in: experiments/hot_path
        self.generator: LatentModel = generator.to(memory_format=torch.channels_last)
        self.discriminator = discriminator.to(memory_format=torch.channels_last)
        self.loss, self.penalty, self.pixels = loss, penalty, pixels
        self.discriminator_optimizer, self.generator_optimizer = discriminator_optimizer, generator_optimizer
        self.discriminator_steps, self.seed = discriminator_steps, seed
        self.step = 0  # batches, each with all its D updates and its G update

        rng = derive_generator(torch.device("cpu"), seed, Stream.FIXED)
        self.register_buffer("fixed_z", generator.draw_z(fixed_n, rng.device, rng))
        self.register_buffer("fixed_label", self.labels_in_turn(fixed_n))
        rng = derive_generator(torch.device("cpu"), seed, Stream.STATISTICS)
        start_statistics(generator, generator.draw_z(64, rng.device, rng), self.labels_in_turn(64))
        self.ema = EMA(generator, ema_decay) if ema_decay else None

    def labels_in_turn(self, n: int) -> Int64[Tensor, " n"] | None:
        """n labels, class after class; None where there are none."""
        return torch.arange(n) % self.generator.classes if self.generator.classes else None

    def on_fit_start(self) -> None:
        if self.generator.classes:
            for network in (self.generator, self.sampler):
                network.label_prior.copy_(cast(Any, self.trainer).datamodule.label_prior())

    def configure_optimizers(self) -> list[Optimizer]:
        return [
            self.discriminator_optimizer(self.discriminator.parameters()),
            self.generator_optimizer(self.generator.parameters()),
        ]

    def training_step(
        self, batch: tuple[Float[Tensor, "kn c h w"], Int64[Tensor, " kn"] | None], batch_idx: int
    ) -> dict[str, Tensor]:
        self.seed_step()
        outputs = self.update(*batch)
        if self.ema is not None:
            self.ema.update(self.generator, self.step)
        self.step += 1
        return outputs

    def seed_step(self) -> None:
        """All that this step draws on this process is a function of its number."""
        seed_device(self.device, self.seed, Stream.TRAINING, self.global_rank, self.step)

    def update(self, images: Float[Tensor, "kn c h w"], labels: Int64[Tensor, " kn"] | None) -> dict[str, Tensor]:
        """The D updates and the G update of one step; no word here may make the host wait for the device."""
        optimizer_d, optimizer_g = cast(list[Optimizer], self.optimizers())
        real_batches = images.chunk(self.discriminator_steps)
        label_batches = [None] * len(real_batches) if labels is None else labels.chunk(self.discriminator_steps)

        # D: ascend E[log D(x)] + E[log(1 - D(G(z)))], or the chosen loss's form of it
        for k, (real, label) in enumerate(zip(real_batches, label_batches, strict=True), start=1):
            z = self.generator.draw_z(len(real), self.device)
            with torch.set_grad_enabled(k == len(real_batches)):  # only the last fakes have a G update to come
                fake = self.generator(z, label)  # the reals' labels, which so tell nothing of real and fake
            with separate_statistics(self.discriminator, 2):
                both_labels = None if label is None else torch.cat((label, label))
                logits = self.discriminator(torch.cat((real, fake.detach())), both_labels).float()
            real_logits, fake_logits = logits.chunk(2)
            loss_d = self.loss.discriminator(real_logits, fake_logits)
            if self.penalty is not None:
                critic = partial(self.discriminator, label=label)
                packs = (packed(x, self.discriminator.pack) for x in (real, fake.detach()))
                loss_d = loss_d + self.penalty.penalty(critic, *packs)
            optimizer_d.zero_grad()
            self.manual_backward(loss_d)
            optimizer_d.step()

        # G: ascend E[log D(G(z))], or the chosen loss's form of it, through the D just updated
        with frozen(self.discriminator):
            loss_g = self.loss.generator(self.discriminator(fake, label).float())
        optimizer_g.zero_grad()
        self.manual_backward(loss_g)
        optimizer_g.step()

        return {
            "loss_d": loss_d.detach(),
            "loss_g": loss_g.detach(),
            "real_logits": real_logits.detach(),
            "fake_logits": fake_logits.detach(),
        }

    @property
    def optimizer_steps_per_step(self) -> int:
        """Lightning's `global_step` counts optimizer steps: so many make one step."""
        return self.discriminator_steps + 1

    @property
    def sampler(self) -> LatentModel:
        """The network that draws: the average of G's weights where there is one, else G."""
        return self.generator if self.ema is None else cast(LatentModel, self.ema.network)

    @torch.no_grad()
    def sample(
        self, z: Float[Tensor, "n latent_dim"], label: Int64[Tensor, " n"] | None = None
    ) -> UInt8[Tensor, "n c h w"]:
        """Images of z, drawn in eval mode: none depends on the others, and no running statistics move."""
        with evaluating(self.sampler):
            return self.pixels.decode(self.sampler(z, label))

    def fresh_z(self, n: int) -> Float[Tensor, "n latent_dim"]:
        """n latent vectors that belong to this step's pictures and touch no other random numbers."""
        rng = derive_generator(self.device, self.seed, Stream.FRESH, self.step)
        return self.generator.draw_z(n, self.device, rng)

    def buffers_of_ranks(self) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Each process's running statistics, and their mean, which is what one process would have tracked over all
        the batches. A collective operation."""
        own = {name: buffer for name, buffer in self.named_buffers() if name not in ("fixed_z", "fixed_label")}
        ranks = gather(self.trainer, {name: buffer.cpu() for name, buffer in own.items()})
        return ranks, {
            name: torch.stack([rank[name].double() for rank in ranks]).mean(0).to(buffer.dtype)
            for name, buffer in own.items()
        }

    @contextmanager
    def common_statistics(self) -> Iterator[None]:
        """In here all processes have the mean running statistics, those of a checkpoint."""
        if self.trainer.world_size == 1:
            yield
            return
        ranks, mean = self.buffers_of_ranks()
        self.load_state_dict(mean, strict=False)
        try:
            yield
        finally:
            self.load_state_dict(ranks[self.global_rank], strict=False)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["step"] = self.step
        if self.trainer.world_size > 1:
            # each rank resumes with its own running statistics; from the state_dict others sample
            checkpoint["rank_buffers"], mean = self.buffers_of_ranks()
            checkpoint["state_dict"].update(mean)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.step = checkpoint["step"]
        ranks = checkpoint.get("rank_buffers", [])
        if len(ranks) == self.trainer.world_size:
            checkpoint["state_dict"].update(ranks[self.global_rank])
