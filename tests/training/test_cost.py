"""Runs that the machine cannot do are rejected before anything gets memory."""

import gc

import pytest
import torch

from dcgan.common.errors import UserError
from dcgan.training.cost import GB, PROCESS_BYTES, reject_excess, required_memory
from tests.building import build_gan, run_steps
from tests.conftest import TINY, compose_config


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["model.base_channels=100000"], "GB of memory, but a process has"),
        (["model.latent_dim=10000000000"], "GB of memory, but a process has"),
        (["hidden_width=100000000"], "GB of memory, but a process has"),
        (["data.batch_size=10000000"], "GB of memory, but a process has"),
        (["data.image_size=3584", "data.channels=3", "data.batch_size=1024"], "GB of memory, but a process has"),
        (["conditional=concat", "data.classes=100000", "data.batch_size=1024"], "GB of memory, but a process has"),
        (["trainer=ddp_cpu", "trainer.devices=100000"], "GB of memory, but a process has"),
        (["model=residual", "model.blocks=100000"], "a network has too many layers"),
        (["max_steps=1000000000000000000"], "max_steps=1,000,000,000,000,000,000 would take more than 317,098 years"),
        (["max_epochs=1000000000000000000"], "max_epochs=1,000,000,000,000,000,000 would take"),
    ],
)
def test_excess_is_rejected(overrides, sentence):
    with pytest.raises(UserError, match=sentence):
        reject_excess(compose_config("trainer=cpu", *overrides))


@pytest.mark.parametrize(
    "overrides", [[], ["max_steps=1000000000"], ["conditional=concat", "discriminator.spectral_norm=true"]]
)
def test_usual_settings_are_accepted(overrides):
    reject_excess(compose_config("trainer=cpu", *overrides))
    assert PROCESS_BYTES < required_memory(compose_config(*overrides)) < 2 * GB


def test_estimate_grows_with_what_the_backward_pass_needs():
    one, two = (required_memory(compose_config(f"data.batch_size={n}")) - PROCESS_BYTES for n in (512, 1024))
    assert 1.3 < two / one < 2  # the parameters do not grow


def test_network_that_cannot_be_built_without_memory_is_left_to_the_run(monkeypatch):
    monkeypatch.setattr("dcgan.models.prior.Normal.__call__", lambda *_: torch.zeros(1).item() + torch.tensor([]))
    assert required_memory(compose_config()) == 0


def test_estimate_changes_nothing():
    config = ["discriminator.spectral_norm=true"]
    torch.manual_seed(3)
    state = torch.get_rng_state()
    reject_excess(compose_config(*TINY, *config))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.device.type == "cpu" for p in build_gan(*TINY, *config).parameters())
    run_steps(build_gan(*TINY, *config), torch.rand(8, 1, 28, 28))


def test_estimate_keeps_nothing_in_memory():
    def n_tensors() -> int:
        gc.collect()
        return sum(issubclass(type(value), torch.Tensor) for value in gc.get_objects())

    before = n_tensors()
    required_memory(compose_config(*TINY))
    assert n_tensors() == before
