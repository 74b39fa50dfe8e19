import pytest
import torch

from dcgan.models.forward_modes import frozen, init_running_stats
from tests.building import build_networks


@pytest.mark.parametrize("choice", ["strided_conv", "keras_mnist"])
def test_frozen_network_does_not_change_but_passes_gradients(choice):
    _, discriminator = build_networks(
        f"discriminator={choice}",
        "discriminator.spectral_norm=true",
        "model.base_channels=4",
        "discriminator.dropout=0.5",
    )
    before = {name: value.clone() for name, value in discriminator.state_dict().items()}
    x = torch.randn(8, 1, 28, 28, requires_grad=True)
    with frozen(discriminator):
        discriminator(x).sum().backward()
    assert x.grad.abs().sum() > 0
    assert all(p.grad is None and p.requires_grad for p in discriminator.parameters())
    for name, value in discriminator.state_dict().items():
        assert torch.equal(value, before[name]), name
    discriminator(x)  # outside the context, running statistics change again
    assert any(not torch.equal(value, before[name]) for name, value in discriminator.state_dict().items())


def test_initial_running_stats_give_same_images_in_eval_and_training_mode():
    generator, _ = build_networks("model.base_channels=8")
    z = torch.randn(64, 100)
    training_images = generator(z)
    init_running_stats(generator, z)
    torch.testing.assert_close(generator.eval()(z), training_images, atol=0.02, rtol=0)
    assert training_images.std() > 0.05
