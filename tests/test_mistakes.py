"""Each mistake ends in one sentence, and nothing that was written is lost."""

import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.conftest import TINY
from tests.runs import RUN, differing, weights


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["model=nonsense"], "Could not find 'model/nonsense'"),
        (["nonsense=1"], "Could not override 'nonsense'"),
        (["model.nonsense=1"], "Could not override 'model.nonsense'"),
        (["optimizer.lr=-1"], "lr must be a number in (0, inf), got -1 (config key optimizer.discriminator)"),
        (["model.latent_dim=0"], "latent_dim must be an integer >= 1, got 0 (config key model)"),
        (["data.batch_size=65"], "one step needs 65 images (data.batch_size 65 x 1 D updates x 1 processes), but"),
        (["data.image_size=30"], "image_size must be 4, 5, 6 or 7 doubled at least once"),
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
        (["optimizer.betas=0.5"], "betas must be two numbers in [0, 1), got 0.5"),
        (["samples.steps=5"], "samples.steps must be a list of integers >= 0, got 5"),
        (["samples.n=0"], "samples.n must be an integer >= 1, got 0"),
        (["+model.foo=1"], "unexpected keyword argument 'foo' (config key model)"),
        (["trainer.precision=bf16-true"], "trainer.precision must be one of 32-true, bf16-mixed"),
        (["data.batch_size=1"], "data.batch_size must be at least 2 with batch norm"),
        (["discriminator.pack=2", "data.batch_size=7"], "data.batch_size must be a multiple of discriminator.pack (2)"),
        (["discriminator.pack=2", "data.batch_size=2"], "data.batch_size must be at least 4 with batch norm"),
        (["discriminator_activation.negative_slope=abc"], "cannot be computed with {'negative_slope': 'abc'}"),
        (["discriminator.pack=3"], "samples.n must be a multiple of discriminator.pack (3), got 4"),
        (["discriminator.pack=2", "conditional=concat"], "discriminator.pack must be 1 where images have labels"),
        (["ckpt_path=nowhere/checkpoints/last.ckpt"], "there is no checkpoint nowhere/checkpoints/last.ckpt"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)  # fmt: skip
def test_a_mistake_ends_in_a_sentence_and_not_in_a_traceback(dcgan_train, monkeypatch, overrides, sentence):
    def no_network(*args, **kwargs):
        raise OSError("no network in this test")

    monkeypatch.setattr("socket.create_connection", no_network)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    trainer = [] if "trainer=gpu" in overrides else ["trainer=cpu"]
    outcome = dcgan_train(*TINY, *trainer, "hydra.run.dir=run", "max_epochs=1", *overrides)
    assert outcome.code == 1
    assert sentence in outcome.err, outcome.err
    assert "Traceback" not in outcome.err
    assert "step 8/8" not in outcome.out
    assert not Path("nowhere").exists() or "MNIST" in sentence


def test_a_damaged_checkpoint_is_named(dcgan_train):
    Path("run/checkpoints").mkdir(parents=True)
    Path("run/checkpoints/last.ckpt").write_bytes(b"not a checkpoint")
    outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt")
    assert outcome.code == 1
    assert outcome.err.startswith("error: run/checkpoints/last.ckpt cannot be read as a checkpoint")
    torch.save({"state_dict": {}}, "run/checkpoints/last.ckpt")
    outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt")
    assert "is not of dcgan (it names no format)" in outcome.err


@pytest.mark.parametrize("data", ["digits", "image_folder"])
def test_every_other_kind_of_data_trains(dcgan_train, data):
    Path("pictures").mkdir()
    for i in range(9):
        Image.new("RGB", (20, 30), (20 * i, 0, 0)).save(f"pictures/{i}.jpg")
    folder = (
        ["data.root=pictures", "data.workers=1", "data.image_size=8"] if data == "image_folder" else ["data.limit=9"]
    )
    outcome = dcgan_train(*TINY, *RUN, "max_epochs=2", f"data={data}", *folder)
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    assert "step 2/2" in outcome.out


def test_a_broken_picture_met_by_a_worker_process_is_named(dcgan_train):
    folder = Path("pictures")
    folder.mkdir()
    for i in range(8):
        Image.new("L", (30, 30)).save(folder / f"{i}.png")
    (folder / "5.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    outcome = dcgan_train(
        *TINY, "trainer=cpu", "hydra.run.dir=run", "max_steps=1", "data=image_folder", "data.root=pictures",
        "data.workers=1", "samples.n=2", "data.image_size=8",
    )  # fmt: skip
    assert outcome.code == 1
    assert "the picture pictures/5.png cannot be read" in outcome.err
    assert outcome.err.count("\n") == 1


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(dcgan_train):
    outcome = dcgan_train(*TINY, *RUN, "max_steps=200", "optimizer.lr=1e30", "checkpoints.every_n_steps=1")
    assert outcome.code == 1
    assert "training stopped: at step" in outcome.err
    assert outcome.err.count("\n") == 1
    assert not Path("run/summary.json").exists()
    kept = torch.load("run/checkpoints/last.ckpt", weights_only=True)
    assert kept["step"] < 200
    assert f"run/checkpoints/last.ckpt holds the last good state, of step {kept['step']}" in outcome.err
    assert all(value.isfinite().all() for value in kept["state_dict"].values() if value.is_floating_point())


def test_the_last_good_state_is_saved_where_no_checkpoint_was_due(dcgan_train, monkeypatch):
    monkeypatch.setattr("dcgan.checkpointing.REMEMBER_EVERY_N_STEPS", 3)
    from dcgan.losses import NonSaturating

    generator, calls = NonSaturating.generator, []

    def breaks_at_step_8(self, fake_logits):
        calls.append(1)
        return generator(self, fake_logits) * (torch.nan if len(calls) == 8 else 1)

    monkeypatch.setattr(NonSaturating, "generator", breaks_at_step_8)
    outcome = dcgan_train(*TINY, *RUN, "max_epochs=3", "log.every_n_steps=5")
    assert outcome.code == 1
    assert "at step 8 loss_d was" in outcome.err
    assert "last good state, of step 6" in outcome.err
    assert torch.load("run/checkpoints/last.ckpt", weights_only=True)["step"] == 6
    monkeypatch.setattr(NonSaturating, "generator", generator)
    assert dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_epochs=1").code == 0
    dcgan_train(*TINY, *RUN, "max_epochs=1", "hydra.run.dir=whole")
    assert differing(weights("whole"), weights("run")) == []


def test_the_step_of_the_first_bad_loss_is_named():
    from dcgan.callbacks import StepFigures, refuse_nonfinite
    from dcgan.checks import UserError

    good, bad = StepFigures(1, 1, 0.5, 0.5), StepFigures(math.nan, 1, 0.5, 0.5)
    refuse_nonfinite(100, [good] * 4)
    with pytest.raises(UserError, match="at step 103 loss_d was nan and loss_g 1"):
        refuse_nonfinite(100, [good, good, bad, bad])
