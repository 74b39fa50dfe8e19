"""Every file in conf/ composes, builds and trains."""

import pytest
import torch
from hydra.utils import instantiate

from tests.building import TwoSteps, build_gan
from tests.conftest import SMALL, TINY, compose_config, options

GROUPS = (
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
    gan = build_gan(*overrides)
    before = {name: p.detach().clone() for name, p in gan.named_parameters()}
    real = torch.rand(8 * gan.discriminator_steps, gan.sample(gan.fixed_z, gan.fixed_label).shape[1], 28, 28)
    for outputs in TwoSteps(gan).run(real):
        assert outputs["loss_d"].isfinite()
        assert outputs["loss_g"].isfinite()
    for name, parameter in gan.named_parameters():
        assert parameter.isfinite().all(), name
        # the bias of WGAN's critic has no gradient: E[D(fake)] - E[D(real)] does not see it
        if not name.endswith("bias"):
            assert not torch.equal(parameter, before[name]), f"{name} was not trained"


@pytest.mark.parametrize("activation", options("activation"))
def test_every_activation_trains(activation):
    check_two_steps(*TINY, f"activation={activation}")


@pytest.mark.parametrize("discriminator", options("discriminator"))
@pytest.mark.parametrize("model", options("model"))
def test_every_model_trains_with_every_discriminator(model, discriminator):
    sizes = SMALL if model == "keras_mnist" else TINY
    check_two_steps(*sizes, f"model={model}", f"discriminator={discriminator}")


@pytest.mark.parametrize(("group", "option"), [(group, option) for group in GROUPS for option in options(group)])
def test_every_option_trains(group, option):
    norm = ["discriminator_normalization=layer"] if option == "wasserstein_gp" else []
    check_two_steps(*TINY, f"{group}={option}", *norm)


@pytest.mark.parametrize("experiment", options("experiment"))
def test_every_experiment_trains(experiment):
    check_two_steps(*TINY, f"experiment={experiment}")


@pytest.mark.parametrize("trainer", options("trainer"))
@pytest.mark.parametrize("data", options("data"))
def test_every_dataset_and_trainer_composes(trainer, data):
    config = compose_config(f"trainer={trainer}", f"data={data}")
    assert config.trainer._target_ == "lightning.Trainer"
    assert instantiate(config.data).batch_size == 128


def test_both_networks_offer_the_same_choices():
    assert options("activation") == options("discriminator_activation")
    assert options("normalization") == options("discriminator_normalization")


def test_a_learning_rate_for_both_and_one_for_each():
    config = compose_config("optimizer.lr=1e-3", "optimizer.generator.lr=5e-4", "optimizer.betas=[.9,.99]")
    discriminator, generator = build_gan(
        *TINY, "optimizer.lr=1e-3", "optimizer.generator.lr=5e-4", "optimizer.betas=[.9,.99]"
    ).configure_optimizers()
    assert config.optimizer.discriminator.lr == 1e-3
    assert discriminator.defaults["lr"] == 1e-3
    assert generator.defaults["lr"] == 5e-4
    assert generator.defaults["betas"] == (0.9, 0.99)


def test_defaults_are_the_documented_ones():
    config = compose_config()
    assert (config.max_epochs, config.max_steps, config.seed, config.ema.decay) == (20, None, 0, 0)
    assert (config.data.batch_size, config.data.image_size, config.model.base_channels, config.model.latent_dim) == (
        128,
        28,
        64,
        100,
    )
    assert config.optimizer.generator.lr == config.optimizer.discriminator.lr == 2e-4
    assert list(config.optimizer.generator.betas) == [0.5, 0.999]


def test_integers_are_numbers_too_where_torch_wants_floats():
    """WGAN-GP's betas are 0 and .9, and so they are typed."""
    for optimizer in build_gan(*TINY, "optimizer.betas=[0,0.9]", "optimizer.lr=1").configure_optimizers():
        assert optimizer.defaults["betas"] == (0, 0.9)
