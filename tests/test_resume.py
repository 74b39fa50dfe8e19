"""Going on where a run stopped, and not writing over another one."""

import csv
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.conftest import TINY
from tests.runs import RUN, differing, events, weights


def test_a_resumed_run_of_pictures_read_by_workers_ends_where_the_uninterrupted_one_does(dcgan_train):
    Path("pictures").mkdir()
    for i in range(32):
        Image.new("L", (8, 8), 8 * i).save(f"pictures/{i}.png")
    common = [*TINY, "trainer=cpu", "data=image_folder", "data.root=pictures", "data.image_size=8", "data.workers=1"]
    dcgan_train(*common, "max_steps=7", "hydra.run.dir=whole")
    dcgan_train(*common, "max_steps=6", "hydra.run.dir=run")  # in the middle of the second epoch
    outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=7")
    assert outcome.err == ""
    assert differing(weights("whole"), weights("run")) == []


@pytest.mark.parametrize("stop", [3, 8])  # in the middle of an epoch, and at its end
@pytest.mark.parametrize("extra", [["ema.decay=.9", "discriminator.dropout=.3"], ["discriminator_steps=2"]])
def test_a_resumed_run_ends_where_the_uninterrupted_one_does(dcgan_train, stop, extra):
    common = [*TINY, "trainer=cpu", "log.every_n_steps=1", *extra]
    dcgan_train(*common, "max_steps=12", "hydra.run.dir=whole")
    dcgan_train(*common, f"max_steps={stop}", "hydra.run.dir=run")
    outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=12")
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    assert differing(weights("whole"), weights("run")) == []
    with Path("run/metrics.csv").open(newline="") as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == list(range(13))
    assert [event.step for event in events().Scalars("train/loss_d")] == list(range(1, 13))
    assert not Path("runs").exists()


def test_a_resumed_run_may_not_change_the_maths_but_may_repeat_it(dcgan_train):
    dcgan_train(*TINY, *RUN, "max_steps=2", "loss=hinge")
    resume = ["ckpt_path=run/checkpoints/last.ckpt", "max_steps=3"]
    before = Path("run/.hydra/config.yaml").read_text()
    for override in ("loss=minimax", "optimizer.lr=1e-3", "seed=3", "data.batch_size=4", "experiment=demo", "+x=1"):
        outcome = dcgan_train(*resume, override)
        assert outcome.code == 1
        assert "when a run goes on" in outcome.err, outcome.err
        assert outcome.err.count("\n") == 1
    repeated = ["loss=hinge", "data.batch_size=8", "discriminator=strided_conv", "data=mnist"]
    outcome = dcgan_train(*resume, *repeated, "log.every_n_steps=1", "trainer=auto")
    assert outcome.code == 0, outcome.err
    assert Path("run/.hydra/config.yaml").read_text() == before
    assert (
        torch.load("run/checkpoints/last.ckpt", weights_only=True)["config"]["loss"]["_target_"] == "dcgan.losses.Hinge"
    )


def test_a_resumed_run_can_write_elsewhere(dcgan_train):
    dcgan_train(*TINY, *RUN, "max_steps=2")
    outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=3", "hydra.run.dir=elsewhere")
    assert outcome.code == 0, outcome.err
    assert torch.load("elsewhere/checkpoints/last.ckpt", weights_only=True)["step"] == 3
    assert torch.load("run/checkpoints/last.ckpt", weights_only=True)["step"] == 2
    assert "base_channels: 4" in Path("elsewhere/.hydra/config.yaml").read_text()


def test_a_new_run_does_not_write_over_an_old_one(dcgan_train):
    dcgan_train(*TINY, *RUN, "max_steps=1")
    before = weights()
    outcome = dcgan_train(*TINY, *RUN, "max_steps=2", "seed=1")
    assert outcome.code == 1
    assert "run already holds checkpoints: go on with ckpt_path=" in outcome.err
    assert differing(before, weights()) == []
    assert "seed: 0" in Path("run/.hydra/config.yaml").read_text()
    # nor does a run that goes on from somewhere else
    dcgan_train(*TINY, *RUN, "max_steps=1", "hydra.run.dir=other")
    outcome = dcgan_train("ckpt_path=other/checkpoints/last.ckpt", "hydra.run.dir=run", "max_steps=2")
    assert outcome.code == 1
    assert differing(before, weights()) == []


def test_a_run_after_a_failed_attempt_in_its_folder_records_itself(dcgan_train):
    assert dcgan_train(*TINY, *RUN, "max_steps=1", "optimizer.lr=-1").code == 1
    assert dcgan_train(*TINY, *RUN, "max_steps=1", "optimizer.lr=1e-3").code == 0
    assert "optimizer.lr=1e-3" in Path("run/.hydra/overrides.yaml").read_text()
    assert "lr: -1" not in Path("run/.hydra/config.yaml").read_text()


def test_a_run_that_was_killed_before_its_summary_gets_one(dcgan_train):
    dcgan_train(*TINY, *RUN, "max_steps=3")
    summary = json.loads(Path("run/summary.json").read_text())
    Path("run/summary.json").unlink()
    assert dcgan_train("ckpt_path=run/checkpoints/last.ckpt").code == 0
    again = json.loads(Path("run/summary.json").read_text())
    assert again["metrics"] == summary["metrics"]
    assert again["step"] == 3


def test_curves_of_a_run_that_goes_on_from_its_start_are_not_doubled(dcgan_train, monkeypatch):
    """As after a kill before the first checkpoint that was due."""
    from dcgan.checkpointing import Checkpoints

    save = Checkpoints.save
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", lambda self, trainer, gan: gan.step or save(self, trainer, gan))
        dcgan_train(*TINY, *RUN, "samples.steps=[0]", "max_steps=8", "log.every_n_steps=1")
    assert torch.load("run/checkpoints/last.ckpt", weights_only=True)["step"] == 0
    outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=1")
    assert outcome.code == 0, outcome.err
    assert [event.step for event in events().Scalars("train/loss_d")] == [1]
    assert [event.step for event in events().Images("samples/fixed_noise")] == [0, 1]
    with Path("run/metrics.csv").open(newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["0", "1"]


def test_a_folder_with_an_equals_sign_can_be_gone_on_from(dcgan_train):
    dcgan_train(*TINY, *RUN, "max_steps=1", "hydra.run.dir=sweep/seed=0")
    outcome = dcgan_train("ckpt_path=sweep/seed=0/checkpoints/last.ckpt", "max_steps=2")
    assert outcome.code == 0, outcome.err
    assert torch.load("sweep/seed=0/checkpoints/last.ckpt", weights_only=True)["step"] == 2
