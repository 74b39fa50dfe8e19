"""Build GANs and networks from command-line overrides, and train them without a Trainer."""

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from dcgan.checkpoints.safe_instantiate import PACKAGES, reject_untrusted
from dcgan.gan import GAN
from dcgan.models.discriminator import BaseDiscriminator
from dcgan.models.generator import BaseGenerator
from dcgan.training import run
from tests.conftest import compose_config


def build_gan(*overrides: str) -> GAN:
    config = compose_config("cuda_graph=false", *overrides)
    reject_untrusted(OmegaConf.to_container(config, resolve=True), PACKAGES)  # as a resumed run does
    torch.manual_seed(0)
    return run.build_gan(config)


def build_networks(*overrides: str) -> tuple[BaseGenerator, BaseDiscriminator]:
    config = compose_config(*overrides)
    return instantiate(config.model), instantiate(config.discriminator)


def layer_channels(network: nn.Module, kind: type[nn.Module]) -> list[tuple[int, int]]:
    """Return the input and output channels of all layers of one type."""
    return [(m.in_channels, m.out_channels) for m in network.modules() if isinstance(m, kind)]


def attach_optimizers(gan: GAN) -> None:
    """Let `gan.training_step` run without a Trainer."""
    optimizers, _ = gan.configure_optimizers()
    gan.optimizers = lambda: optimizers
    gan.manual_backward = lambda loss: loss.backward()


def run_steps(gan: GAN, real: torch.Tensor, n: int = 2) -> list[dict[str, torch.Tensor]]:
    """Run n training steps on the same real images, with new optimizers. Return the outputs of each step."""
    attach_optimizers(gan)
    return [gan.training_step((real, gan.cycle_labels(len(real))), i) for i in range(n)]
