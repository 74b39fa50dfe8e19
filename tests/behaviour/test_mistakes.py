"""Mistakes on the command line or in the data end in one sentence, and nothing that was written is lost."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from dcgan.losses.adversarial import NonSaturating
from tests.conftest import TINY
from tests.run_files import RUN, different_tensors, weights, write_grey_pictures


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["model=nonsense"], "there is no model=nonsense: options: bilinear_conv"),
        (["nonsense=1"], "there is no key nonsense"),
        (["model.nonsense=1"], "there is no key model.nonsense"),
        (["optimizer.lr=-1"], "Invalid learning rate: -1 (config key optimizer.discriminator)"),
        (["model.latent_dim=0"], "latent_dim must be an integer >= 1, got 0 (config key model)"),
        (["data.batch_size=65"], "one step needs 65 images (data.batch_size 65 x 1 D updates x 1 processes), but"),
        (["data.image_size=30"], "image_size must be 4, 5, 6 or 7 times 2, 4, 8, ..."),
        (["trainer=gpu"], "No supported gpu backend found"),
        (["max_steps=0"], "max_steps must be an integer >= 1, got 0"),
        (["max_epochs=0"], "max_epochs must be an integer >= 1, got 0"),
        (["seed=-1"], "seed must be an integer >= 0, got -1"),
        (["log.every_n_steps=0"], "log.every_n_steps must be an integer >= 1, got 0"),
        (["checkpoints.every_n_minutes=0"], "checkpoints.every_n_minutes must be a number in (0, inf), got 0"),
        (["penalty=r1", "discriminator_normalization=batch"], "penalty needs a discriminator without batch norm"),
        (["data.root=nowhere"], "MNIST is not in nowhere/MNIST/raw"),
        (["data=image_folder", "data.root=nowhere"], "there is no folder nowhere"),
        (["hydra.run.dir=/dev/null/run"], "/dev/null"),
        (["optimizer.betas=0.5"], "(config key optimizer.discriminator)"),
        (["samples.steps=5"], "samples.steps must be a list, got 5"),
        (["samples.n=0"], "samples.n must be an integer >= 1, got 0"),
        (["+model.foo=1"], "unexpected keyword argument 'foo' (config key model)"),
        (["trainer.precision=bf16-true"], "trainer.precision must be one of auto, 32-true, bf16-mixed, got"),
        (["trainer.strategy=fsdp"], "trainer.strategy must be one of auto, ddp, got 'fsdp'"),
        (["health.action=rollback"], "health.action must be one of warn, stop, got 'rollback'"),
        (["data.batch_size=1"], "data.batch_size must be at least 2 with batch norm"),
        (["discriminator.pack=2", "data.batch_size=7"], "data.batch_size must be a multiple of discriminator.pack (2)"),
        (["discriminator.pack=2", "data.batch_size=2"], "data.batch_size must be at least 4 with batch norm"),
        (["discriminator_activation.negative_slope=abc"], "fails with the arguments {'negative_slope': 'abc'}"),
        (["discriminator.pack=3"], "samples.n must be a multiple of discriminator.pack (3), got 4"),
        (["discriminator.pack=2", "conditional=concat"], "discriminator.pack must be 1 for a conditional network"),
        (["log=null"], "log must be a mapping of keys, got nothing"),
        (["~seed"], "(config key seed): do not remove or replace what other keys refer to"),
        (["~loss"], "loss must be a dcgan.losses.adversarial.Loss, got None"),
        (["~trainer"], "trainer"),
        (["data.pixels=null"], "data.pixels must be a PixelRange, got None (config key data)"),
        (["model.prior=null"], "prior must be a Prior, got None (config key model)"),
        (["output.activation=null"], "output_activation must be a Module, got None (config key model)"),
        (["trainer.devices=null"], "should be an int > 0"),
        (["trainer.devices=[0]"], "should be an int > 0"),
        (["trainer.accelerator=tpu"], "(config key trainer)"),
        (["+trainer.fast_dev_run=true"], "trainer.fast_dev_run is set by the command: leave it out"),
        (["+trainer.max_steps=7"], "trainer.max_steps is set by the command: leave it out (config key trainer)"),
        (["activation._partial_=null"], "_partial_ flag must be a bool, got <class 'NoneType'> (config key model.acti"),
        (["logger.tensorboard.flush_secs=null"], "flush_secs must be an integer >= 1, got None (config key logger.ten"),
        (["trainer=ddp_cpu", "trainer.num_nodes=0"], "trainer.num_nodes must be an integer >= 1, got 0"),
        (["discriminator.spectral_norm=2"], "spectral_norm must be true or false, got 2 (config key discriminator)"),
        (["data.batches_per_step=3"], "data.batches_per_step must be discriminator_steps, got 3: leave it out"),
        (["scheduler=cosine", "scheduler.steps=0"], "scheduler.steps must be an integer >= 1, got 0"),
        (["samples.n=100000000"], "samples.n must be an integer <= 10,000, got 100,000,000"),
        (["model.base_channels=100000"], "GB of memory, but a process has"),
        (["max_steps=1000000000000000000"], "would take more than 317,098 years on any machine: lower it"),
        (["ckpt_path=nowhere/checkpoints/last.ckpt"], "there is no checkpoint nowhere/checkpoints/last.ckpt"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)  # fmt: skip
def test_invalid_setting_is_rejected_without_a_traceback(dcgan_train, monkeypatch, overrides, sentence):
    def no_network(*args, **kwargs):
        raise OSError("no network in this test")

    monkeypatch.setattr("socket.create_connection", no_network)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    trainer = [] if "trainer=gpu" in overrides else ["trainer=cpu"]
    outcome = dcgan_train(*TINY, *trainer, "hydra.run.dir=run", "max_epochs=1", *overrides)
    assert outcome.code == 1
    assert sentence in outcome.err, outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.err.splitlines()[-1].startswith("error: ")
    assert "step 8/8" not in outcome.out
    assert not Path("nowhere").exists() or "MNIST" in sentence


def test_name_of_a_folder_is_no_markup(dcgan_train):
    outcome = dcgan_train(*TINY, *RUN[:1], "hydra.run.dir=[/x][bold]", "max_steps=1", "evaluator=none")
    assert outcome.code == 0, outcome.err
    assert "run folder     [/x][bold]" in outcome.out


def test_damaged_checkpoint_is_rejected(dcgan_train):
    Path("run/checkpoints").mkdir(parents=True)
    Path("run/checkpoints/last.ckpt").write_bytes(b"not a checkpoint")
    outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt")
    assert outcome.code == 1
    assert outcome.err.startswith("error: run/checkpoints/last.ckpt cannot be read as a checkpoint")
    torch.save({"state_dict": {}}, "run/checkpoints/last.ckpt")
    outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt")
    assert "is not a file of dcgan (it has no format number)" in outcome.err


def test_launcher_with_another_number_of_processes_is_rejected(dcgan_train, monkeypatch):
    """torchrun sets WORLD_SIZE."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    outcome = dcgan_train(*TINY, *RUN, "max_steps=1")
    assert outcome.code == 1
    assert "the launcher has started 2 processes, but the trainer runs 1: give trainer=ddp with" in outcome.err
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize("data", ["digits", "image_folder"])
def test_other_data_sets_train(dcgan_train, data):
    Path("images").mkdir()
    for i in range(9):
        Image.new("RGB", (20, 30), (20 * i, 0, 0)).save(f"images/{i}.jpg")
    settings = (
        ["data.root=images", "data.test_fraction=0", "data.image_size=8"]
        if data == "image_folder"
        else ["data.limit=9"]
    )
    outcome = dcgan_train(*TINY, *RUN, "max_epochs=2", f"data={data}", *settings)
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    assert "step 2/2" in outcome.out


def test_broken_picture_is_named(dcgan_train):
    folder = Path("images")
    write_grey_pictures(folder, 8)
    (folder / "5.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    outcome = dcgan_train(
        *TINY, "trainer=cpu", "hydra.run.dir=run", "max_steps=1", "data=image_folder", "data.root=images",
        "samples.n=2", "data.image_size=8",
    )  # fmt: skip
    assert outcome.code == 1
    assert "error: 1 of 8 pictures in images cannot be read (images/5.png: it is not a valid JPEG, PNG" in outcome.err
    assert outcome.err.count("\n") == 1


def test_diverging_run_stops_and_keeps_the_last_good_checkpoint(dcgan_train):
    outcome = dcgan_train(*TINY, *RUN, "max_steps=200", "optimizer.lr=1e30", "checkpoints.every_n_steps=1")
    assert outcome.code == 1
    assert "training stopped: at step" in outcome.err
    assert outcome.err.count("\n") == 1
    assert not Path("run/summary.json").exists()
    checkpoint = torch.load("run/checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["step"] < 200
    assert f"run/checkpoints/last.ckpt holds the last good state, of step {checkpoint['step']}" in outcome.err
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values() if value.is_floating_point())


def test_last_good_state_is_saved_from_memory(dcgan_train, monkeypatch, trained_run):
    monkeypatch.setattr("dcgan.training.callbacks.checkpoints.COPY_EVERY_N_STEPS", 3)
    generator, calls = NonSaturating.generator, []

    def break_at_step_8(self, fake_logits):
        calls.append(1)
        return generator(self, fake_logits) * (torch.nan if len(calls) == 8 else 1)

    monkeypatch.setattr(NonSaturating, "generator", break_at_step_8)
    outcome = dcgan_train(*TINY, *RUN, "max_epochs=3", "log.every_n_steps=5")
    assert outcome.code == 1
    assert "at step 8 loss_d was" in outcome.err
    assert "last good state, of step 6" in outcome.err
    assert torch.load("run/checkpoints/last.ckpt", weights_only=True)["step"] == 6
    monkeypatch.setattr(NonSaturating, "generator", generator)
    assert dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_epochs=1").code == 0
    trained_run("max_epochs=1", folder="uninterrupted")
    assert different_tensors(weights("uninterrupted"), weights("run")) == []
