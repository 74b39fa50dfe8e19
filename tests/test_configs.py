"""Every option in conf/ composes, builds and trains."""

import pytest
import torch
from hydra.utils import instantiate

from tests.building import build_gan, run_steps
from tests.conftest import TINY, compose_config, options

GROUPS = (
    "augmentation",
    "discriminator",
    "discriminator_activation",
    "discriminator_normalization",
    "initialization",
    "loss",
    "normalization",
    "output",
    "penalty",
    "prior",
)


def check_two_steps(*overrides: str) -> None:
    """Assert that two steps have finite losses and change every parameter."""
    gan = build_gan(*overrides)
    before = {name: p.detach().clone() for name, p in gan.named_parameters()}
    real = torch.rand(8 * gan.discriminator_steps, gan.sample(gan.fixed_z, gan.fixed_label).shape[1], 28, 28)
    for outputs in run_steps(gan, real):
        assert outputs["loss_d"].isfinite()
        assert outputs["loss_g"].isfinite()
    for name, parameter in gan.named_parameters():
        assert parameter.isfinite().all(), name
        # the last bias of WGAN's critic has no gradient: it cancels in E[D(fake)] - E[D(real)]
        if not name.endswith("bias"):
            assert not torch.equal(parameter, before[name]), f"{name} was not trained"


@pytest.mark.parametrize("activation", options("activation"))
def test_every_activation_trains(activation):
    check_two_steps(*TINY, f"activation={activation}")


@pytest.mark.parametrize("discriminator", options("discriminator"))
@pytest.mark.parametrize("model", options("model"))
def test_every_model_trains_with_every_discriminator(model, discriminator):
    check_two_steps(*TINY, f"model={model}", f"discriminator={discriminator}")


@pytest.mark.parametrize(("group", "option"), [(group, option) for group in GROUPS for option in options(group)])
def test_every_option_trains(group, option):
    norm = ["discriminator_normalization=layer"] if option == "wasserstein_gp" else []
    check_two_steps(*TINY, f"{group}={option}", *norm)


@pytest.mark.parametrize("experiment", options("experiment"))
def test_every_experiment_trains(experiment):
    check_two_steps(*TINY, f"experiment={experiment}")


@pytest.mark.parametrize("trainer", options("trainer"))
@pytest.mark.parametrize("data", options("data"))
def test_every_data_set_composes_with_every_trainer(trainer, data):
    config = compose_config(f"trainer={trainer}", f"data={data}")
    assert config.trainer._target_ == "lightning.Trainer"
    assert instantiate(config.data).batch_size == 128


def test_both_networks_have_the_same_options():
    assert options("activation") == options("discriminator_activation")
    assert options("normalization") == options("discriminator_normalization")


def test_learning_rate_can_be_set_for_both_networks_and_for_each():
    gan = build_gan(*TINY, "optimizer.lr=1e-3", "optimizer.generator.lr=5e-4", "optimizer.betas=[.9,.99]")
    (discriminator, generator), _ = gan.configure_optimizers()
    assert discriminator.defaults["lr"] == 1e-3
    assert generator.defaults["lr"] == 5e-4
    assert generator.defaults["betas"] == discriminator.defaults["betas"] == (0.9, 0.99)


def test_defaults_are_as_documented():
    config = compose_config()
    assert (config.max_epochs, config.max_steps, config.seed, config.ema.decay) == (20, None, 0, 0)
    assert (config.data.batch_size, config.data.image_size) == (128, 28)
    assert (config.model.base_channels, config.model.latent_dim) == (64, 100)
    assert config.optimizer.generator.lr == config.optimizer.discriminator.lr == 2e-4
    assert list(config.optimizer.generator.betas) == [0.5, 0.999]
