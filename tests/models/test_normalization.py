import pytest
from torch import nn

from tests.building import build_networks


def test_all_layers_but_first_of_discriminator_and_outputs_are_normalized():
    generator, discriminator = build_networks()
    assert [n for n, m in generator.named_modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)] == [
        "start.hidden.norm",
        "start.project.norm",
        "up_blocks.0.norm",
    ]
    assert [n for n, m in discriminator.named_modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)] == [
        "down_blocks.1.norm",
        "head.hidden.norm",
    ]
    # layers have a bias unless a normalization follows
    for network in (generator, discriminator):
        for name, module in network.named_modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                block = network.get_submodule(name.rpartition(".")[0])
                assert (module.bias is None) == hasattr(block, "norm"), name


@pytest.mark.parametrize(
    ("choice", "conv", "dense"),
    [
        ("batch", nn.BatchNorm2d, nn.BatchNorm1d),
        ("instance", nn.InstanceNorm2d, None),
        ("layer", nn.GroupNorm, nn.LayerNorm),
        ("none", None, None),
    ],
)
def test_normalization_can_be_chosen_per_network(choice, conv, dense):
    def norm_types(network):
        return {type(m) for m in network.modules() if "Norm" in type(m).__name__}

    expected = {kind for kind in (conv, dense) if kind}
    generator, discriminator = build_networks(f"normalization={choice}")
    assert norm_types(generator) == norm_types(discriminator) == expected  # D uses G's by default
    generator, discriminator = build_networks(f"discriminator_normalization={choice}")
    assert norm_types(generator) == {nn.BatchNorm2d, nn.BatchNorm1d}
    assert norm_types(discriminator) == expected
