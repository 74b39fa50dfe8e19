import math

import pytest
import torch
from torch import nn

from dcgan.models.layers import hidden_activations
from dcgan.training.callbacks.activation_stats import (
    dead_and_saturated,
    derivative,
    gradient_norms,
    measure_activations,
)
from tests.building import build_gan
from tests.conftest import TINY


def test_channel_is_dead_only_if_its_slope_is_zero_at_every_position_of_every_image():
    x = torch.full((4, 3, 5, 5), -1.0)
    x[3, 1, 2, 2] = 1.0  # one position of one image keeps channel 1 alive
    dead, saturated = dead_and_saturated(nn.ReLU(), x)
    assert dead.item() == pytest.approx(2 / 3)
    assert saturated.item() == pytest.approx(1 - 1 / x.numel())
    dead, saturated = dead_and_saturated(nn.LeakyReLU(0.2), x)
    assert dead == saturated == 0


def test_saturation_is_a_slope_below_one_percent_of_the_maximum():
    edge = math.acosh(10)  # tanh'(x) = 1 / cosh(x)^2 = 0.01
    x = torch.tensor([[0.0, edge - 0.01, edge + 0.01, -edge - 0.01]])
    assert dead_and_saturated(nn.Tanh(), x)[1].item() == 0.5
    assert dead_and_saturated(nn.Sigmoid(), 2 * x)[1].item() == 0.5  # sigmoid'(2x) = tanh'(x) / 4


@pytest.mark.parametrize("inplace", [False, True])
def test_derivative_of_an_in_place_activation(inplace):
    x = torch.tensor([-2.0, 3.0])
    assert derivative(nn.LeakyReLU(0.1, inplace=inplace), x).tolist() == pytest.approx([0.1, 1])
    assert x.tolist() == [-2, 3]


def test_every_hidden_activation_is_measured_and_nothing_changes():
    gan = build_gan(*TINY)
    before = {name: value.clone() for name, value in gan.state_dict().items()}
    stats = measure_activations(gan.generator, gan.discriminator, gan.fixed_z)
    assert list(stats) == [
        "generator/start.hidden",
        "generator/start.project",
        "generator/up_blocks.0",
        "discriminator/down_blocks.0",
        "discriminator/down_blocks.1",
        "discriminator/head.hidden",
    ]
    for name, value in gan.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert gan.generator.training
    assert gan.discriminator.training
    assert not any(m._forward_pre_hooks for m in gan.modules())


def test_gradient_norms_are_per_layer_and_in_forward_order():
    gan = build_gan(*TINY)
    assert gradient_norms(gan.generator) == {}  # before the first update
    gan.discriminator(gan.generator(gan.fixed_z)).sum().backward()
    norms = gradient_norms(gan.generator)
    assert list(norms) == ["start.hidden", "start.project", "up_blocks.0", "to_image"]
    assert list(gradient_norms(gan.discriminator)) == ["down_blocks.0", "down_blocks.1", "head.hidden", "logit"]
    layer = gan.generator.up_blocks[0]
    expected = sum(p.grad.square().sum() for p in layer.parameters()).sqrt()
    assert norms["up_blocks.0"].item() == pytest.approx(expected.item(), rel=1e-5)
    total = sum(p.grad.square().sum() for p in gan.generator.parameters()).sqrt()
    assert sum(norm**2 for norm in norms.values()).sqrt().item() == pytest.approx(total.item(), rel=1e-5)


def test_dead_units_of_a_generator_are_found():
    gan = build_gan(*TINY)
    hidden = gan.generator.start.hidden
    with torch.no_grad():
        hidden.norm.bias[:4] = -100  # makes 4 of 16 features negative for every z
    stats = measure_activations(gan.generator, gan.discriminator, gan.generator.sample_z(64, gan.device))
    assert stats["generator/start.hidden"][0].item() == pytest.approx(4 / 16)
    assert len(hidden_activations(gan.generator)) == 3
