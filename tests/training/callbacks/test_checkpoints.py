"""When checkpoints are saved and what they contain; resuming and failures are tested in tests/behaviour."""

from types import SimpleNamespace

import pytest
import torch

from dcgan.common.errors import NonFiniteError
from dcgan.gan import GAN
from dcgan.training.callbacks import checkpoints
from dcgan.training.callbacks.checkpoints import CheckpointCallback
from tests.building import build_gan
from tests.conftest import TINY
from tests.metrics.building import DeviceCheck
from tests.run_files import RUN


def test_checkpoint_is_lightnings_dict_with_both_networks_and_the_config(plain_run):
    checkpoint = torch.load(plain_run, weights_only=True)
    parts = {name.partition(".")[0] for name in checkpoint["state_dict"]}
    assert parts == {"generator", "discriminator", "ema", "fixed_z"}
    assert (checkpoint["step"], checkpoint["global_step"]) == (4, 8)  # D and G
    assert checkpoint["config"]["model"]["base_channels"] == 4
    assert checkpoint["choices"]["model"] == "transposed_conv"
    assert (checkpoint["processes"], checkpoint["dataset"], checkpoint["images"]) == (1, "MNIST", 64)


def test_steps_and_minutes_are_both_intervals(dcgan_train, monkeypatch):
    saved_steps = []
    save = CheckpointCallback.save
    monkeypatch.setattr(
        CheckpointCallback, "save", lambda self, trainer, gan: saved_steps.append(gan.step) or save(self, trainer, gan)
    )
    monkeypatch.setattr(checkpoints, "CHECK_TIME_EVERY_N_STEPS", 4)
    dcgan_train(*TINY, *RUN, "max_steps=9", "checkpoints.every_n_minutes=1e-9", "checkpoints.every_n_steps=null")
    assert saved_steps == [0, 4, 8, 9]
    saved_steps.clear()
    never = "checkpoints.every_n_minutes=1000"
    dcgan_train(*TINY, *RUN, "max_steps=9", never, "checkpoints.every_n_steps=3", "hydra.run.dir=other")
    assert saved_steps == [0, 3, 6, 9]


def test_weights_that_are_not_finite_are_not_saved(dcgan_train, monkeypatch):
    step = checkpoints.CheckpointCallback.on_train_batch_end

    def break_weights(self, trainer, gan, *args):
        if gan.step == 5:
            gan.generator.get_parameter("to_image.weight").data.fill_(torch.nan)
        step(self, trainer, gan, *args)

    monkeypatch.setattr(CheckpointCallback, "on_train_batch_end", break_weights)
    outcome = dcgan_train(*TINY, *RUN, "max_steps=5", "evaluator=none", "checkpoints.every_n_steps=3")
    assert outcome.code == 1
    assert "training stopped: at step 5 there are weights that are not finite" in outcome.err
    assert torch.load("run/checkpoints/last.ckpt", weights_only=True)["step"] == 3


def check_finite(gan: GAN) -> None:
    """Call `require_finite` as the only rank."""
    callback = CheckpointCallback(None, None)
    callback.metrics_logger = SimpleNamespace(read_from_device=lambda trainer, gan: None)
    callback.require_finite(SimpleNamespace(strategy=SimpleNamespace(reduce=lambda tensor, reduce_op: tensor)), gan)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("name", ["discriminator", "running_mean", "ema"])
def test_one_value_that_is_not_finite_is_found(name, value):
    gan = build_gan(*TINY, "ema.decay=.9", "conditional=concat")
    gan.register_buffer("empty", torch.zeros(0))
    check_finite(gan)
    state = gan.state_dict()
    changed = next(tensor for key, tensor in state.items() if name in key and tensor.is_floating_point())
    changed[(-1,) * changed.dim()] = value
    with pytest.raises(NonFiniteError, match="at step 0 there are weights that are not finite"):
        check_finite(gan)


def test_weights_are_checked_with_one_synchronization():
    gan = build_gan(*TINY)
    with DeviceCheck() as check:
        check_finite(gan)
    assert len(check.reads) == 1
    assert check.operations.count("_foreach_norm") == 1
    assert len([name for name in check.operations if name != "detach"]) < 10


@pytest.mark.parametrize("interval", [{"every_n_steps": 0}, {"every_n_minutes": 0}, {"every_n_minutes": float("nan")}])
def test_bad_intervals_are_rejected(interval):
    with pytest.raises(ValueError, match=f"checkpoints.{next(iter(interval))} must be"):
        CheckpointCallback(**{"every_n_steps": None, "every_n_minutes": None} | interval)
