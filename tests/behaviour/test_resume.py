"""A resumed run ends as an uninterrupted one, in the folder that it is given; it overwrites no later step."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from dcgan.checkpoints.io import read_checkpoint
from dcgan.training.callbacks.checkpoints import CheckpointCallback
from tests.conftest import TINY
from tests.run_files import RUN, copy_run_at, different_tensors, events, weights, write_grey_pictures
from tests.torture import differences


def test_resumed_run_of_an_image_folder_ends_as_an_uninterrupted_one(dcgan_train):
    write_grey_pictures(Path("images"), 32)
    settings = [*TINY, "trainer=cpu", "data=image_folder", "data.root=images", "data.image_size=8"]
    dcgan_train(*settings, "max_steps=7", "hydra.run.dir=uninterrupted")
    dcgan_train(*settings, "max_steps=6", "hydra.run.dir=run")  # in the middle of the second epoch
    outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=7", "data.root=images")
    assert outcome.err == ""
    assert different_tensors(weights("uninterrupted"), weights("run")) == []


# all parts that have a state, and the evaluation, which remembers the best step
STATES = ["ema.decay=0.9", "discriminator.dropout=0.3", "conditional=concat", "metrics.every_n_steps=6", "max_epochs=3"]
PLAIN = ["evaluator=none", "max_epochs=2", "ema.decay=0.9", "discriminator.dropout=0.3"]


# 64 images in batches of 8: the first step, the middle, the end and the start of an epoch, the end of a later one
@pytest.mark.parametrize(
    ("kills", "extra"),
    [
        ((0, 1, 4, 8, 9, 16), STATES),
        ((4, 8, 9), ["loss=wasserstein_gp", *PLAIN]),
        ((1, 4), [*PLAIN, "discriminator_steps=2"]),
        ((4, 8), [*PLAIN, "conditional=projection", "discriminator.spectral_norm=true"]),
        ((4, 8), [*PLAIN, "discriminator=keras_mnist", "penalty=r1", "discriminator_normalization=none"]),
        ((4, 8), [*PLAIN, "trainer.precision=bf16-mixed", "prior=uniform"]),
        ((4,), ["augmentation=diffaugment", "data.mirrored=true", *PLAIN]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_killed_run_ends_as_an_uninterrupted_one(dcgan_train, kills, extra):
    """Weights, optimizers, EMA, statistics, samples, curves and the best metric are bit-identical."""
    often = ["log.every_n_steps=3", "log.activity_every_n_steps=4", "checkpoints.every_n_steps=1"]
    undo = copy_run_at(*kills)
    try:
        outcome = dcgan_train(
            *TINY, "trainer=cpu", "samples.steps=[0,5,18]", *often, *extra, "hydra.run.dir=uninterrupted"
        )
        assert outcome.code == 0, outcome.err
    finally:
        undo()
    for step in kills:
        run = Path(f"uninterrupted_at_{step}")
        outcome = dcgan_train(f"ckpt_path={run}/checkpoints/last.ckpt", "trainer=cpu")
        assert outcome.code == 0, outcome.err
        assert outcome.err == ""
        assert differences(Path("uninterrupted"), run) == []
    assert not Path("runs").exists()


def test_run_that_is_killed_at_the_end_of_each_epoch_repeats_none(dcgan_train):
    """Lightning counts an epoch twice if a run is resumed at its end."""
    command = [*TINY, "trainer=cpu", "max_epochs=3", "evaluator=none", "checkpoints.every_n_steps=8"]
    run = "uninterrupted"
    for step in (8, 16):
        undo = copy_run_at(step)
        try:
            dcgan_train(*command, f"hydra.run.dir={run}")
        finally:
            undo()
        command, run = ["ckpt_path=auto", "trainer=cpu"], f"{run}_at_{step}"
    assert dcgan_train(*command, f"hydra.run.dir={run}").code == 0
    assert differences(Path("uninterrupted"), Path(run)) == []


def test_auto_starts_a_run_or_resumes_the_newest_valid_checkpoint(dcgan_train, trained_run):
    command = [*TINY, *RUN, "ckpt_path=auto", "checkpoints.every_n_steps=2", "metrics.every_n_steps=2"]
    outcome = dcgan_train(*command, "max_steps=2")
    assert outcome.code == 0, outcome.err
    assert "resume" not in outcome.out
    last = Path("run/checkpoints/last.ckpt")
    assert dcgan_train(*command, "max_steps=3").out.startswith(f"resume       {last.resolve()}, step 2\n")
    last.write_bytes(last.read_bytes()[:-1000])
    outcome = dcgan_train(*command, "max_steps=5")
    assert outcome.code == 0, outcome.err
    assert "note:" in outcome.err
    assert "last.ckpt cannot be read as a checkpoint" in outcome.err
    assert f"resume       {last.resolve().with_name('best.ckpt')}, step " in outcome.out
    trained_run("max_steps=5", folder="uninterrupted")
    assert different_tensors(weights("uninterrupted"), weights()) == []
    for path in Path("run/checkpoints").iterdir():
        path.write_bytes(b"")
    outcome = dcgan_train(*command, "max_steps=6")
    assert outcome.code == 1
    assert "run can be read: start a new run in another hydra.run.dir" in outcome.err
    outcome = dcgan_train(*TINY, "ckpt_path=auto")
    assert outcome.code == 1
    assert "ckpt_path=auto needs a run folder: give it with hydra.run.dir=" in outcome.err


def test_earlier_checkpoint_of_the_same_folder_is_rejected(dcgan_train, trained_run):
    trained_run("max_steps=2")
    shutil.copy("run/checkpoints/last.ckpt", "run/checkpoints/second.ckpt")
    dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=4")
    outcome = dcgan_train("ckpt_path=run/checkpoints/second.ckpt", "max_steps=3")
    assert outcome.code == 1
    assert "last.ckpt is at a later step (4) than run/checkpoints/second.ckpt (2): resume from that one" in outcome.err
    assert dcgan_train("ckpt_path=run/checkpoints/second.ckpt", "max_steps=3", "hydra.run.dir=other").code == 0


def test_resumed_run_can_write_to_another_folder(dcgan_train, trained_run):
    trained_run("max_steps=2")
    outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=3", "hydra.run.dir=other")
    assert outcome.code == 0, outcome.err
    assert read_checkpoint("other/checkpoints/last.ckpt")["step"] == 3
    assert read_checkpoint("run/checkpoints/last.ckpt")["step"] == 2
    assert "base_channels: 4" in Path("other/.hydra/config.yaml").read_text()


def test_run_in_the_folder_of_a_failed_attempt_replaces_its_record(dcgan_train):
    assert dcgan_train(*TINY, *RUN, "max_steps=1", "optimizer.lr=-1").code == 1
    assert dcgan_train(*TINY, *RUN, "max_steps=1", "optimizer.lr=1e-3").code == 0
    assert "optimizer.lr=1e-3" in Path("run/.hydra/overrides.yaml").read_text()
    assert "lr: -1" not in Path("run/.hydra/config.yaml").read_text()


def test_finished_run_without_a_summary_gets_one_on_resume(dcgan_train, trained_run):
    trained_run("max_steps=3")
    summary = json.loads(Path("run/summary.json").read_text())
    Path("run/summary.json").unlink()
    Path("run/samples/step_000003.png").unlink()
    assert dcgan_train("ckpt_path=run/checkpoints/last.ckpt").code == 0
    new_summary = json.loads(Path("run/summary.json").read_text())
    assert new_summary["metrics"] == summary["metrics"]
    assert new_summary["step"] == 3
    assert Path("run/samples/step_000003.png").exists()


def test_run_resumed_at_step_0_does_not_duplicate_its_curves(dcgan_train, monkeypatch):
    """As after a kill before the first interval of checkpoints."""
    save = CheckpointCallback.save
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointCallback, "save", lambda self, trainer, gan: gan.step or save(self, trainer, gan))
        dcgan_train(*TINY, *RUN, "samples.steps=[0]", "max_steps=8", "log.every_n_steps=1")
    assert read_checkpoint("run/checkpoints/last.ckpt")["step"] == 0
    outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=1")
    assert outcome.code == 0, outcome.err
    assert [event.step for event in events().Scalars("train/loss_d")] == [1]
    assert [event.step for event in events().Images("samples")] == [0, 1]
    with Path("run/metrics.csv").open(newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["0", "1"]


def test_run_in_a_folder_with_equals_sign_and_apostrophe_can_be_resumed(dcgan_train):
    dcgan_train(*TINY, *RUN, "max_steps=1", "hydra.run.dir=that's/seed=0")
    outcome = dcgan_train("ckpt_path=that's/seed=0/checkpoints/last.ckpt", "max_steps=2")
    assert outcome.code == 0, outcome.err
    assert read_checkpoint("that's/seed=0/checkpoints/last.ckpt")["step"] == 2
