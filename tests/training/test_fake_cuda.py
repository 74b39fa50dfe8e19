"""The training step, but for its backward passes, on fake CUDA tensors: they have a device, but no values."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from tests.building import attach_optimizers, build_gan
from tests.conftest import SMALL, TINY

KERAS = ["model=keras_mnist", "discriminator=keras_mnist", "data.batch_size=8", "samples.n=4"]


def fill_gradients(gan):
    for parameter in gan.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.empty_like(parameter)


@pytest.mark.parametrize(
    "settings",
    [
        TINY,
        [*TINY, "ema.decay=0.9"],
        [*TINY, "experiment=fast", "model.base_channels=4"],
        [*TINY, "model=upsample_conv", "loss=hinge"],
        [*TINY, "model=pixel_shuffle", "loss=least_squares"],
        [*TINY, "conditional=concat"],
        [*TINY, "discriminator_steps=2", "discriminator.dropout=.3"],
        [*TINY, "penalty=r1", "discriminator_normalization=none"],
        [*TINY, "augmentation=flip"],
        [*TINY, "augmentation=diffaugment", "data.mirrored=true", "loss=wasserstein_gp", "discriminator.pack=2"],
        [*TINY, "loss=wasserstein_gp"],
        [*TINY, "discriminator.spectral_norm=true", "prior=uniform"],
        [*TINY, "normalization=instance", "loss=minimax"],
        [*TINY, "discriminator_normalization=layer", "discriminator.pack=2"],
        [*SMALL, "data.image_size=64", "data.channels=3"],
        KERAS,
        [*TINY, "optimizer=rmsprop"],
        [*TINY, "optimizer=adamw", "output=sigmoid"],
    ],
    ids=lambda settings: " ".join(settings[len(TINY) :]) or "plain",
)
def test_step_with_bf16_stays_on_the_gpu(settings, monkeypatch):
    """Fake tensors raise an error if tensors of two devices meet, or if the host reads a value."""
    # autocast would turn itself off on a machine without a GPU
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda *_: True)
    # the backward pass itself asks the driver for the device
    monkeypatch.setattr("torch.autograd.grad", lambda outputs, inputs, create_graph: (torch.empty_like(inputs),))
    gan = build_gan(*settings)
    c, s = gan.generator(gan.fixed_z, gan.fixed_label).shape[1:3]
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        gan.to("cuda:0")
        mode.allow_non_fake_inputs = False
        attach_optimizers(gan)
        gan.manual_backward = lambda loss: fill_gradients(gan)
        n = 8 * gan.discriminator_steps
        real = torch.empty(n, c, s, s, device="cuda")
        labels = None if gan.fixed_label is None else torch.zeros(n, dtype=torch.int64, device="cuda")
        for i in range(2):
            with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
                outputs = gan.training_step((real, labels), i)
    for name, value in outputs.items():
        assert isinstance(value, FakeTensor)
        assert (value.device.type, value.dtype) == ("cuda", torch.float32), name
    assert {parameter.device.type for parameter in gan.parameters()} == {"cuda"}
