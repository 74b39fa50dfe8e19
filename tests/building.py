"""A GAN as a command line would build it, and what its training step needs of a Trainer."""

import torch
from omegaconf import OmegaConf

from dcgan import training
from dcgan.gan import GAN
from dcgan.trusted import MATHS, refuse_foreign
from tests.conftest import compose_config


class TwoSteps:
    """What training_step needs of a Trainer."""

    def __init__(self, gan: GAN) -> None:
        self.gan = gan
        optimizers = gan.configure_optimizers()
        gan.optimizers = lambda: optimizers
        gan.manual_backward = lambda loss: loss.backward()

    def run(self, real: torch.Tensor) -> list[dict[str, torch.Tensor]]:
        label = self.gan.labels_in_turn(len(real))
        return [self.gan.training_step((real, label), i) for i in range(2)]


def build_gan(*overrides: str) -> GAN:
    config = compose_config(*overrides)
    refuse_foreign(OmegaConf.to_container(config, resolve=True), MATHS)  # as a training does
    torch.manual_seed(0)
    return training.build_gan(config)
