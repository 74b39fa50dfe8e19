import math

import pytest
import torch
from torch import nn

from dcgan.models.initialization import HeInitialization
from dcgan.models.layers import hidden_activations
from dcgan.models.residual import ResidualBlock, SelfAttention, Stage, stage_sizes
from tests.building import build_gan, build_networks, run_steps
from tests.conftest import TINY

RESIDUAL = ["model=residual", "discriminator=residual"]


def initialized(module: nn.Module) -> nn.Module:
    for child in module.modules():
        if hasattr(child, "init_weights"):
            child.init_weights()
    return module


def test_block_and_attention_start_as_the_identity():
    x = torch.randn(4, 32, 7, 7)
    for module in (ResidualBlock(32, 3, nn.LeakyReLU, 0.0), SelfAttention(32)):
        assert torch.equal(initialized(module)(x), x)


def test_hidden_layers_of_a_block_are_scaled_by_the_number_of_blocks():
    """With m = 3 layers per block: L^(-1 / (2m - 2))."""
    torch.manual_seed(0)
    block = initialized(ResidualBlock(64, 16, nn.ReLU, 0.0))
    for conv in (block.expand.layer, block.mix.layer):
        fan_in = conv.weight[0].numel()
        assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / fan_in) * 16**-0.25, rel=0.05)


@torch.no_grad()
def test_attention_matches_its_definition():
    """The output at a position is the mean of the values, weighted by the softmax of the products query x key."""
    torch.manual_seed(0)
    attention, x = initialized(SelfAttention(16)), torch.randn(2, 16, 3, 4)
    attention.gain.data.fill_(0.5)
    query, key, value = (layer(x).flatten(2) for layer in (attention.query, attention.key, attention.value))
    expected = x.clone()
    for n in range(2):
        for position in range(12):
            weights = torch.tensor([query[n, :, position].dot(key[n, :, other]) for other in range(12)]).softmax(0)
            expected[n, :, position // 4, position % 4] += 0.5 * (value[n] * weights).sum(1)
    torch.testing.assert_close(attention(x), expected)


@pytest.mark.parametrize(
    ("image_size", "expected"),
    [
        (28, [(7, 128), (14, 64), (28, 32)]),
        (32, [(4, 256), (8, 128), (16, 64), (32, 32)]),
        (64, [(4, 512), (8, 256), (16, 128), (32, 64), (64, 32)]),
    ],
)
def test_stages_have_the_widths_of_the_dcgan_and_half_of_the_base_at_the_size_of_the_image(image_size, expected):
    assert stage_sizes(image_size, 64, 1, None) == expected


def test_each_stage_has_one_size_and_attention_is_at_one_of_them():
    generator, discriminator = build_networks(*TINY, *RESIDUAL, "model.attention_size=14", "model.blocks=2")
    for network in (generator, discriminator):
        stages, sizes = [m for m in network.modules() if isinstance(m, Stage)], []
        for stage in stages:
            stage.register_forward_hook(lambda module, args, out, sizes=sizes: sizes.append(out.shape[-1]))
        assert [any(isinstance(m, SelfAttention) for m in stage) for stage in stages] == [False, True, False]
        assert [sum(isinstance(m, ResidualBlock) for m in stage) for stage in stages] == [2, 2, 2]
        assert len(hidden_activations(network)) == 2 * 6
        x = torch.randn(2, 8) if network is generator else torch.randn(2, 1, 28, 28)
        network(x)
        assert sorted(sizes) == [7, 14, 28]


@pytest.mark.parametrize("penalty", ["none", "r1_r2", "wasserstein_gp"])
def test_penalties_have_second_derivatives_through_attention(penalty):
    gan = build_gan(*TINY, *RESIDUAL, "model.attention_size=7", "loss=relativistic", f"penalty={penalty}")
    attention = next(m for m in gan.discriminator.modules() if isinstance(m, SelfAttention))
    run_steps(gan, torch.rand(8, 1, 28, 28), 3)
    assert attention.gain != 0
    assert attention.query.weight.grad.abs().sum() > 0


def test_logits_have_a_scale_that_is_independent_of_the_depth():
    for blocks in (1, 4):
        torch.manual_seed(0)
        generator, discriminator = build_networks(*RESIDUAL, f"model.blocks={blocks}", "model.base_channels=16")
        features = discriminator.head(discriminator.down_blocks(generator(torch.randn(32, 100))))
        assert 0.1 < features.std() < 1


def test_he_initialization_keeps_the_networks_own():
    _, discriminator = build_networks(*TINY, *RESIDUAL)
    before = discriminator.down_blocks[0].block_1.expand.layer.weight.clone()
    logit = discriminator.logit.weight.clone()
    HeInitialization()(discriminator)
    assert torch.equal(discriminator.down_blocks[0].block_1.expand.layer.weight, before)
    assert not torch.equal(discriminator.logit.weight, logit)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.attention_size=10", "attention_size must be null or one of 7, 14, 28, got 10"),
        ("model.blocks=0", "blocks must be an integer >= 1, got 0"),
        ("model.base_channels=1", "base_channels must be an integer >= 2, got 1"),
    ],
)
def test_values_out_of_range_are_rejected(override, message):
    with pytest.raises(Exception, match=message):
        build_networks(*TINY, *RESIDUAL, override)
