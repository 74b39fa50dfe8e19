import torch
from torch import nn

from tests.building import build_networks, layer_channels


def test_keras_networks_match_tutorials():
    generator, discriminator = build_networks("model=keras_mnist", "discriminator=keras_mnist")
    assert layer_channels(generator, nn.Conv2d) == [(128, 128), (128, 64), (64, 1)]
    assert generator.start.project.layer.out_features == 7 * 7 * 128
    assert layer_channels(discriminator, nn.Conv2d) == [(1, 32), (32, 64), (64, 128), (128, 256)]
    assert [m.stride[0] for m in discriminator.modules() if isinstance(m, nn.Conv2d)] == [2, 2, 2, 1]
    assert [m.num_features for m in discriminator.modules() if isinstance(m, nn.BatchNorm2d)] == [64, 128, 256]
    modules = [*generator.modules(), *discriminator.modules()]
    assert {m.momentum for m in modules if isinstance(m, nn.BatchNorm2d)} == {0.2}
    assert [m.p for m in discriminator.modules() if isinstance(m, nn.Dropout)] == [0.25] * 4
    assert discriminator.logit.in_features == 256 * 4 * 4
    padded = discriminator.down_blocks[1].layer(torch.ones(1, 32, 14, 14))
    assert padded.shape[-2:] == (8, 8)
    assert not padded[:, :, 7].any()
    assert not padded[:, :, :, 7].any()
