"""The gradients of several ranks: what is sent and what comes back. Two real ranks: behaviour/test_processes.py."""

import pytest
import torch
from torch import distributed

from dcgan.training.gradient_averaging import FlatTensors, GradientAveraging
from tests.building import attach_optimizers, build_gan
from tests.conftest import TINY


@pytest.fixture
def sent(monkeypatch):
    """Let the other one of two ranks have gradients of zeros. The numbers of values of each all-reduce."""
    sizes = []
    monkeypatch.setattr(distributed, "all_reduce", lambda vector: sizes.append(vector.numel()))
    monkeypatch.setattr(GradientAveraging, "world_size", 2)
    return sizes


@pytest.mark.parametrize(
    "extra",
    [
        [],
        ["discriminator_steps=3"],
        ["penalty=r1", "discriminator_normalization=none", "discriminator.spectral_norm=true"],
    ],
    ids=lambda extra: " ".join(extra) or "plain",
)
def test_step_sends_the_gradients_of_each_network_once_per_update(extra, sent):
    gan, strategy = build_gan(*TINY, *extra), GradientAveraging()
    attach_optimizers(gan)
    for optimizer in gan.optimizers():

        def average_and_step(optimizer=optimizer, step=optimizer.step):
            strategy.average_gradients(optimizer)
            step()

        optimizer.step = average_and_step
    gan.training_step((torch.rand(8 * gan.discriminator_steps, 1, 28, 28), None), 0)
    d, g = (sum(map(torch.numel, network.parameters())) for network in (gan.discriminator, gan.generator))
    assert sent == [d] * gan.discriminator_steps + [g]


def test_gradients_become_their_means_in_the_same_memory(sent):
    parameters = [torch.nn.Parameter(torch.zeros(4, 3, 2, 2)), torch.nn.Parameter(torch.zeros(5))]
    unused = torch.nn.Parameter(torch.zeros(2))
    gradients = [torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last), torch.randn(5)]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone(memory_format=torch.preserve_format)
    before = [parameter.grad for parameter in parameters]
    GradientAveraging().average_gradients(torch.optim.SGD([*parameters, unused]))
    assert sent == [53]
    for parameter, gradient, memory in zip(parameters, gradients, before, strict=True):
        assert parameter.grad is memory
        assert torch.equal(parameter.grad, gradient / 2)
    assert unused.grad is None


def test_vector_holds_tensors_as_they_lie_in_memory():
    last = torch.arange(12.0).reshape(1, 3, 2, 2).to(memory_format=torch.channels_last)
    flat = FlatTensors([last, torch.tensor([7.0])])
    flat.gather()
    assert flat.vector.tolist() == [*last.permute(0, 2, 3, 1).flatten().tolist(), 7]
