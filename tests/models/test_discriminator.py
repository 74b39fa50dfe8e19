import pytest
import torch
from torch import nn

from dcgan.models.discriminator import pack_images
from tests.building import build_networks
from tests.conftest import TINY


@pytest.mark.parametrize("choice", ["strided_conv", "keras_mnist"])
def test_packed_discriminator_judges_consecutive_images_together(choice):
    """PacGAN (Lin et al. 2018), section 3: only the first layer grows. It takes the images of a pack as channels."""
    overrides = [*TINY, f"discriminator={choice}", "discriminator_normalization=none"]  # batch norm mixes the images
    (_, single), (_, packed) = build_networks(*overrides), build_networks(*overrides, "discriminator.pack=2")
    (first, *rest), (packed_first, *packed_rest) = ([tuple(p.shape) for p in d.parameters()] for d in (single, packed))
    assert packed_first == (first[0], 2, *first[2:])
    assert packed_rest == rest
    images = torch.rand(6, 1, 28, 28, requires_grad=True)
    logits = packed.eval()(images)
    assert logits.shape == (3,)
    (gradient,) = torch.autograd.grad(logits[1], images)
    assert gradient.flatten(1).abs().sum(1).bool().tolist() == [False, False, True, True, False, False]
    assert torch.equal(packed(pack_images(images, 2)), logits)
    with pytest.raises(ValueError, match=r"must be a multiple of discriminator.pack \(2\), got 5"):
        packed(images[:5])


def test_dropout_and_spectral_norm_are_options():
    torch.manual_seed(0)
    overrides = ["discriminator.dropout=0.3", "discriminator.spectral_norm=true", "model.base_channels=8"]
    _, discriminator = build_networks(*overrides)
    assert [m.p for m in discriminator.modules() if isinstance(m, nn.Dropout)] == [0.3] * 3
    for module in discriminator.modules():
        if isinstance(module, nn.Linear):
            for _ in range(50):  # power iterations
                weight = module.weight
            assert torch.linalg.matrix_norm(weight, 2).item() == pytest.approx(1, rel=0.02)
