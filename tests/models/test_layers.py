import pytest
import torch

from dcgan.models.layers import (
    ChannelsLastFlatten,
    ChannelsLastUnflatten,
    concat_label,
    hidden_activations,
    layer_name,
    layer_sizes,
    one_hot,
)
from tests.building import build_networks


@pytest.mark.parametrize(
    ("image_size", "start", "k"), [(8, 4, 1), (14, 7, 1), (20, 5, 2), (28, 7, 2), (32, 4, 3), (48, 6, 3), (64, 4, 4)]
)
def test_image_size_is_4_to_7_times_a_power_of_2(image_size, start, k):
    size, channels, _ = layer_sizes(image_size, 1, None)
    assert (size, len(channels)) == (start, k)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("units_dead/generator/up_blocks.0", "units_dead/generator/up_1"),
        ("discriminator.down_blocks.9.stage.block_1.expand", "discriminator.down_10.stage.block_1.expand"),
        ("generator/up_blocks/1/layer", "generator/up_2/layer"),
        ("start.hidden", "start.hidden"),
    ],
)
def test_layer_name_counts_blocks_from_1(path, name):
    assert layer_name(path) == name


def test_image_size_of_two_numbers_is_rejected():
    with pytest.raises(ValueError, match=r"got \[28, 32\]: images are square, and pictures of other shapes are scaled"):
        layer_sizes([28, 32], 1, None)


@pytest.mark.parametrize(
    ("image_size", "nearest"), [(30, "28 and 32"), (7, "8 and 10"), (4, "8 and 10"), (100, "96 and 112")]
)
def test_other_image_sizes_are_rejected(image_size, nearest):
    with pytest.raises(ValueError, match=f"image_size must be .* got {image_size}; the nearest are {nearest}"):
        layer_sizes(image_size, 1, None)


@pytest.mark.parametrize(
    ("image_size", "base_channels", "channels"),
    [(28, 64, [128, 64]), (32, 64, [256, 128, 64]), (64, 64, [512, 256, 128, 64]), (256, 1, [8, 8, 8, 4, 2, 1])],
)
def test_channels_double_per_smaller_map_up_to_8_times(image_size, base_channels, channels):
    assert layer_sizes(image_size, base_channels, None)[1] == channels


def test_prelu_is_not_shared_between_layers():
    generator, _ = build_networks("activation=prelu")
    assert len({id(m) for m in hidden_activations(generator).values()}) == 3


def test_leaky_slopes_are_set_per_network():
    generator, discriminator = build_networks("activation=leaky_relu", "activation.negative_slope=0.1")
    assert {m.negative_slope for m in hidden_activations(generator).values()} == {0.1}
    assert {m.negative_slope for m in hidden_activations(discriminator).values()} == {0.2}


def test_channels_last_flatten_and_unflatten_move_no_data():
    x = torch.randn(2, 3, 5, 5).to(memory_format=torch.channels_last)
    features = ChannelsLastFlatten()(x)
    assert features.data_ptr() == x.data_ptr()
    assert torch.equal(features[:, :3], x[:, :, 0, 0])
    maps = ChannelsLastUnflatten(3, 5)(features)
    assert maps.data_ptr() == x.data_ptr()
    assert torch.equal(maps, x)
    assert maps.is_contiguous(memory_format=torch.channels_last)


def test_label_is_appended_as_planes_to_maps_and_as_numbers_to_features():
    y = one_hot(torch.tensor([2, 0]), 3)
    assert y.tolist() == [[0, 0, 1], [1, 0, 0]]
    assert concat_label(torch.zeros(2, 4), y).tolist() == [[0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 1, 0, 0]]
    maps = concat_label(torch.zeros(2, 1, 5, 5), y)
    assert maps.shape == (2, 4, 5, 5)
    assert (maps[0, 3] == 1).all()
    assert maps[0, :3].abs().sum() == 0
    assert concat_label(maps, None) is maps
