"""The generator, and sizes that both networks share."""

import pytest
import torch
from hydra.utils import instantiate
from torch import nn

from dcgan.models.layers import layer_sizes
from tests.building import build_networks, layer_channels
from tests.conftest import compose_config


@pytest.mark.parametrize(
    ("image_size", "up", "down"),
    [
        (28, [(128, 64), (64, 1)], [(1, 64), (64, 128)]),
        (32, [(256, 128), (128, 64), (64, 1)], [(1, 64), (64, 128), (128, 256)]),
    ],
)
def test_discriminator_mirrors_generator(image_size, up, down):
    generator, discriminator = build_networks(f"data.image_size={image_size}")
    assert layer_channels(generator, nn.ConvTranspose2d) == up
    assert layer_channels(discriminator, nn.Conv2d) == down
    dense = [(m.in_features, m.out_features) for m in generator.modules() if isinstance(m, nn.Linear)]
    features = up[0][0] * layer_sizes(image_size, 64, None)[0] ** 2
    assert dense == [(100, 1024), (1024, features)]
    dense = [(m.in_features, m.out_features) for m in discriminator.modules() if isinstance(m, nn.Linear)]
    assert dense == [(features, 1024), (1024, 1)]


def test_networks_are_all_convolutional_from_64_pixels():
    generator, discriminator = build_networks("data.image_size=64", "data.channels=3", "model.base_channels=8")
    assert layer_channels(generator, nn.ConvTranspose2d) == [(100, 64), (64, 32), (32, 16), (16, 8), (8, 3)]
    assert not any(isinstance(m, nn.Linear) for m in generator.modules())
    assert [m.in_features for m in discriminator.modules() if isinstance(m, nn.Linear)] == [64 * 16]
    assert not any(isinstance(m, nn.BatchNorm1d) for m in (*generator.modules(), *discriminator.modules()))


@pytest.mark.parametrize(
    "overrides", [[], ["model.hidden_width=0"], ["model=keras_mnist", "discriminator=keras_mnist"]]
)
@pytest.mark.parametrize(("image_size", "channels"), [(8, 1), (28, 3), (48, 1), (64, 3)])
def test_both_networks_get_sizes_of_data(overrides, image_size, channels):
    sizes = [f"data.image_size={image_size}", f"data.channels={channels}", "model.base_channels=4"]
    generator, discriminator = build_networks(*sizes, *overrides)
    images = generator(torch.randn(2, 100))
    assert images.shape == (2, channels, image_size, image_size)
    assert discriminator(images).shape == (2,)


def test_hidden_width_sets_both_networks_and_0_removes_dense_layer():
    generator, discriminator = build_networks("model.hidden_width=48")
    assert generator.start.hidden.layer.out_features == discriminator.head.hidden.layer.out_features == 48
    generator, discriminator = build_networks("model.hidden_width=48", "discriminator.hidden_width=0")
    assert not hasattr(discriminator.head, "hidden")


def test_output_sets_last_activation_and_range_of_data():
    tanh, sigmoid = compose_config(), compose_config("output=sigmoid")
    assert isinstance(instantiate(tanh.model).output_activation, nn.Tanh)
    assert instantiate(tanh.output.pixels).low == -1
    assert isinstance(instantiate(sigmoid.model).output_activation, nn.Sigmoid)
    assert instantiate(sigmoid.output.pixels).low == instantiate(sigmoid.data).pixels.low == 0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.latent_dim=0", "latent_dim must be an integer >= 1, got 0"),
        ("model.latent_dim=1.5", "latent_dim must be an integer >= 1, got 1.5"),
        ("model.base_channels=0", "base_channels must be an integer >= 1, got 0"),
        ("model.hidden_width=-1", "hidden_width must be an integer >= 0, got -1"),
        ("discriminator.dropout=1", r"dropout must be a number in \[0, 1\), got 1"),
        ("data.image_size=30", "image_size must be .* got 30"),
    ],
)
def test_sizes_out_of_range_are_rejected(override, message):
    with pytest.raises(Exception, match=message):
        build_networks(override)
