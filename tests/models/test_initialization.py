import pytest
import torch
from torch import nn

from dcgan.models.layers import hidden_activations
from tests.building import build_gan, build_networks


def test_initial_weights_follow_dcgan_paper():
    torch.manual_seed(0)
    for network in build_networks():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear) and module.weight.numel() > 10_000:
                assert module.weight.mean().item() == pytest.approx(0, abs=1e-3)
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.03)
            if isinstance(module, nn.BatchNorm1d):
                assert module.weight.mean().item() == pytest.approx(1, abs=3e-3)
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.1)
            if getattr(module, "bias", None) is not None:
                assert not module.bias.any()


def test_pixel_shuffle_starts_without_checkerboard():
    generator, _ = build_networks("model=pixel_shuffle")
    image = generator.to_image(torch.randn(1, 64, 14, 14))
    assert torch.equal(image[..., ::2, ::2], image[..., 1::2, 1::2])


@pytest.mark.parametrize("hidden_width", [256, 0])
@pytest.mark.parametrize("model", ["transposed_conv", "upsample_conv", "pixel_shuffle"])
def test_he_initialization_keeps_signal_without_normalization(model, hidden_width):
    def preactivation_rms(initialization: str) -> list[float]:
        """Return the RMS of each hidden layer of G, then of D, before its activation."""
        sizes = ["model.base_channels=32", f"model.hidden_width={hidden_width}", "normalization=none"]
        gan = build_gan(f"model={model}", *sizes, f"initialization={initialization}", "samples.n=64")
        rms: list[float] = []
        for network in (gan.generator, gan.discriminator):
            for module in hidden_activations(network).values():
                module.register_forward_pre_hook(lambda _, x: rms.append(x[0].square().mean().sqrt().item()))
        gan.discriminator(gan.generator(gan.fixed_z))
        return rms

    # z has variance 1, and so have all layers, except at the edges of maps, where pixels have fewer inputs
    assert all(0.7 < rms < 1.6 for rms in preactivation_rms("he"))
    assert min(preactivation_rms("dcgan")) < 0.1
