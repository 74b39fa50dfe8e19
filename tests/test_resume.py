"""Going on where a run stopped, and not writing over another one."""

import csv
import json
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from dcgan.loggers import CSVMetrics
from dcgan.resuming import resumed_config
from dcgan.run_folder import sole_owner
from tests.conftest import TINY, compose_config, idx_bytes
from tests.runs import RUN, differing, events, keep_states, weights
from tests.test_trained import changed
from tests.torture import differences


def test_a_resumed_run_of_pictures_read_by_workers_ends_where_the_uninterrupted_one_does(dcgan_train):
    Path("pictures").mkdir()
    for i in range(32):
        Image.new("L", (8, 8), 8 * i).save(f"pictures/{i}.png")
    common = [*TINY, "trainer=cpu", "data=image_folder", "data.root=pictures", "data.image_size=8", "data.workers=1"]
    dcgan_train(*common, "max_steps=7", "hydra.run.dir=whole")
    dcgan_train(*common, "max_steps=6", "hydra.run.dir=run")  # in the middle of the second epoch
    outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=7", "data.root=pictures")
    assert outcome.err == ""
    assert differing(weights("whole"), weights("run")) == []


# all that has a state of its own, and the figures that remember the best one
STATES = ["ema.decay=.9", "discriminator.dropout=.3", "conditional=concat", "metrics.every_n_steps=6", "max_epochs=4"]
PLAIN = ["evaluator=none", "max_epochs=2", "ema.decay=.9", "discriminator.dropout=.3"]


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
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_run_that_was_killed_at_any_place_ends_as_if_it_had_not_been(dcgan_train, kills, extra):
    """Weights, optimizers, the average, statistics, pictures, curves, the best figure: all bit for bit."""
    often = ["log.every_n_steps=3", "log.activity_every_n_steps=4", "checkpoints.every_n_steps=1"]
    undo = keep_states(*kills)
    try:
        outcome = dcgan_train(*TINY, "trainer=cpu", "samples.steps=[0,5,18]", *often, *extra, "hydra.run.dir=whole")
        assert outcome.code == 0, outcome.err
    finally:
        undo()
    for step in kills:
        run = Path(f"whole_at_{step}")
        outcome = dcgan_train(f"ckpt_path={run}/checkpoints/last.ckpt", "trainer=cpu")
        assert outcome.code == 0, outcome.err
        assert outcome.err == ""
        assert differences(Path("whole"), run) == []
    assert not Path("runs").exists()


def test_a_run_that_is_killed_at_the_end_of_one_epoch_after_the_other_repeats_none(dcgan_train):
    """Lightning counts an epoch twice that it goes on from the end of."""
    common = [*TINY, "trainer=cpu", "max_epochs=4", "evaluator=none", "checkpoints.every_n_steps=8"]
    dcgan_train(*common, "hydra.run.dir=whole")
    run = "run"
    for i, step in enumerate((8, 16, 24)):
        undo = keep_states(step)
        try:
            dcgan_train(*(["ckpt_path=auto", "trainer=cpu"] if i else common), f"hydra.run.dir={run}")
        finally:
            undo()
        run += f"_at_{step}"
    assert dcgan_train("ckpt_path=auto", "trainer=cpu", f"hydra.run.dir={run}").code == 0
    assert differences(Path("whole"), Path(run)) == []


def test_auto_starts_goes_on_and_takes_the_newest_checkpoint_that_is_whole(dcgan_train):
    command = [*TINY, *RUN, "ckpt_path=auto", "checkpoints.every_n_steps=2", "metrics.every_n_steps=2"]
    outcome = dcgan_train(*command, "max_steps=2")
    assert outcome.code == 0, outcome.err
    assert "goes on" not in outcome.out
    assert dcgan_train(*command, "max_steps=3").out.startswith(
        f"goes on from {Path('run/checkpoints/last.ckpt').resolve()}"
    )
    last = Path("run/checkpoints/last.ckpt")
    last.write_bytes(last.read_bytes()[:-1000])
    outcome = dcgan_train(*command, "max_steps=5")
    assert outcome.code == 0, outcome.err
    assert "note:" in outcome.err
    assert "last.ckpt cannot be read as a checkpoint" in outcome.err
    assert "goes on from " in outcome.out
    assert "best.ckpt" in outcome.out
    dcgan_train(*TINY, *RUN, "max_steps=5", "hydra.run.dir=whole")
    assert differing(weights("whole"), weights()) == []
    for path in Path("run/checkpoints").iterdir():
        path.write_bytes(b"")
    outcome = dcgan_train(*command, "max_steps=6")
    assert outcome.code == 1
    assert "run can be read: start anew in another hydra.run.dir" in outcome.err
    outcome = dcgan_train(*TINY, "ckpt_path=auto")
    assert outcome.code == 1
    assert "ckpt_path=auto looks into a run folder: say which one with hydra.run.dir=" in outcome.err


def test_auto_refuses_other_maths_than_the_checkpoints(dcgan_train):
    dcgan_train(*TINY, *RUN, "max_steps=1", "ckpt_path=auto")
    outcome = dcgan_train(*TINY, *RUN, "max_steps=2", "ckpt_path=auto", "loss=hinge")
    assert outcome.code == 1
    assert "loss cannot change when a run goes on (the checkpoint has 'non_saturating')" in outcome.err


def test_a_run_does_not_go_back_in_its_own_folder(dcgan_train):
    dcgan_train(*TINY, *RUN, "max_steps=2")
    shutil.copy("run/checkpoints/last.ckpt", "run/checkpoints/second.ckpt")
    dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=4")
    outcome = dcgan_train("ckpt_path=run/checkpoints/second.ckpt", "max_steps=3")
    assert outcome.code == 1
    assert "last.ckpt is further on (step 4) than run/checkpoints/second.ckpt (step 2): go on from that" in outcome.err
    assert dcgan_train("ckpt_path=run/checkpoints/second.ckpt", "max_steps=3", "hydra.run.dir=other").code == 0


def test_what_is_not_the_same_when_a_run_goes_on_is_said_or_refused(dcgan_train, mnist_root):
    dcgan_train(*TINY, *RUN, "max_steps=1")
    outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=2", "trainer.precision=bf16-mixed")
    assert outcome.code == 0
    assert "note: bf16-mixed after 32-true: what comes is not, bit for bit, what it would have been" in outcome.err
    raw = Path(shutil.copytree(mnist_root, "less")) / "MNIST" / "raw"
    (raw / "train-images-idx3-ubyte").write_bytes(idx_bytes(np.zeros((60, 28, 28), dtype=np.uint8)))
    (raw / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(60, dtype=np.uint8)))
    outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=3", "data.root=less")
    assert outcome.code == 1
    assert "the checkpoint was made with 64 training images, now there are 60: give it the same data" in outcome.err


def test_other_images_of_the_same_number_are_refused(dcgan_train, mnist_root):
    dcgan_train(*TINY, *RUN, "max_steps=1")
    path = Path(shutil.copytree(mnist_root, "other")) / "MNIST" / "raw" / "train-images-idx3-ubyte"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=2", "data.root=other")
    assert outcome.code == 1
    assert "the training images are not those that the checkpoint was made with" in outcome.err
    path.write_bytes(whole)
    assert dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=2", "data.root=other").err == ""


def test_other_pictures_of_the_same_number_are_refused_and_touched_ones_told(dcgan_train):
    folder = Path("pictures")
    folder.mkdir()
    for i in range(8):
        Image.new("L", (8, 8), 8 * i).save(folder / f"{i}.png")
    where = ["data.root=pictures", "data.workers=0"]
    common = [*TINY, *RUN, "data=image_folder", "data.image_size=8", *where]
    resume = ["ckpt_path=run/checkpoints/last.ckpt", "data=image_folder", *where]
    assert dcgan_train(*common, "max_steps=1").code == 0
    assert dcgan_train(*resume, "max_steps=2").err == ""
    os.utime(folder / "3.png")
    outcome = dcgan_train(*resume, "max_steps=3")
    assert outcome.code == 0, outcome.err
    assert "note: the files of the training images were written since the checkpoint was made" in outcome.err
    (folder / "3.png").rename(folder / "9.png")
    outcome = dcgan_train(*resume, "max_steps=4")
    assert outcome.code == 1
    assert "the training images are not those that the checkpoint was made with" in outcome.err


def test_machine_folders_and_processes_are_not_the_checkpoints(plain_run, dcgan_train, mnist_root, monkeypatch):
    def plant(content):
        config = content["config"]
        profiler = {"_target_": "lightning.pytorch.profilers.SimpleProfiler", "dirpath": "outside", "filename": "x"}
        config["trainer"] |= {"profiler": profiler, "devices": 7, "default_root_dir": "outside", "accelerator": "gpu"}
        config["data"]["root"] = "outside"

    path = changed(plain_run, Path("evil.ckpt"), plant)
    monkeypatch.setenv("DCGAN_DATA_DIR", str(shutil.copytree(mnist_root, "moved")))
    outcome = dcgan_train(f"ckpt_path={path}", "max_steps=5", "hydra.run.dir=run", "trainer=cpu")
    assert outcome.code == 0, outcome.err
    assert not Path("outside").exists()
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["processes"] == 1
    assert summary["config"]["data"]["root"] == "moved"
    assert summary["choices"]["trainer"] == "cpu"


def test_the_number_of_reading_processes_is_not_the_checkpoints():
    checkpoint = {"config": compose_config("data=image_folder", "data.workers=150"), "choices": {}}
    checkpoint["config"] = OmegaConf.to_container(checkpoint["config"], resolve=True)
    for cfg, workers in ((compose_config(), 2), (compose_config("data=image_folder", "data.workers=3"), 3)):
        resumed = resumed_config(checkpoint, cfg, {}, [])
        assert instantiate(resumed.data).workers == workers


def test_a_metric_that_reads_a_file_of_its_choice_is_not_the_checkpoints(plain_run, dcgan_train):
    def plant(content):
        content["config"]["evaluator"] = {"_target_": "dcgan.metrics.inception.InceptionDistance", "weights": "x"}

    resume = [f"ckpt_path={changed(plain_run, Path('evil.ckpt'), plant)}", "max_steps=5", "hydra.run.dir=run"]
    outcome = dcgan_train(*resume, "trainer=cpu")
    assert outcome.code == 1
    assert "code runs; put your class there, or give evaluator= on the command line" in outcome.err
    assert dcgan_train(*resume, "trainer=cpu", "evaluator=none").code == 0


def test_a_table_of_something_else_is_named(dcgan_train):
    dcgan_train(*TINY, *RUN, "max_steps=1")
    Path("run/metrics.csv").write_text("a,b\n1,2\n")
    outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=2")
    assert outcome.code == 1
    assert "metrics.csv is not this run's table any more ('step'): move it away" in outcome.err


def test_a_row_that_a_kill_has_cut_short_is_left_out(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,a,b\n1,1,\n12,2,3\n100,4,5")
    assert [row["step"] for row in CSVMetrics(tmp_path / "metrics.csv", 1000).rows] == ["1", "12"]


def test_two_trainings_do_not_write_into_one_folder(dcgan_train, monkeypatch):
    monkeypatch.setattr("dcgan.run_folder.WAIT_SECONDS", 0.1)
    with sole_owner(Path("run")):
        outcome = dcgan_train(*TINY, *RUN, "max_steps=1")
    assert outcome.code == 1
    assert "another training works in" in outcome.err
    assert not Path("run/.hydra/config.yaml").exists()  # nor into its record
    assert dcgan_train(*TINY, *RUN, "max_steps=1").code == 0


def test_a_training_that_is_about_to_end_is_waited_for(dcgan_train):
    Path("run/.hydra").mkdir(parents=True)
    lock = FileLock("run/.hydra/lock", thread_local=False)
    lock.acquire()
    threading.Timer(1, lock.release).start()
    outcome = dcgan_train(*TINY, *RUN, "max_steps=1")
    assert outcome.code == 0, outcome.err
    assert "run: waiting for it to end" in outcome.err


def test_what_a_killed_run_left_half_written_goes(dcgan_train):
    for name in ("checkpoints/.last.ckpt.1.tmp", "samples/.step_000001.png.1.tmp", ".metrics.csv.1.tmp"):
        Path("run", name).parent.mkdir(parents=True, exist_ok=True)
        Path("run", name).write_text("half")
    evaluation = Path("run/checkpoints/.last.evaluation.json.2.tmp")  # somebody may be at it
    evaluation.write_text("half")
    assert dcgan_train(*TINY, *RUN, "max_steps=1").code == 0
    assert list(Path("run").rglob("*.tmp")) == [evaluation]


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
    Path("run/samples/step_000003.png").unlink()
    assert dcgan_train("ckpt_path=run/checkpoints/last.ckpt").code == 0
    again = json.loads(Path("run/summary.json").read_text())
    assert again["metrics"] == summary["metrics"]
    assert again["step"] == 3
    assert Path("run/samples/step_000003.png").exists()


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


def test_a_folder_with_an_equals_sign_and_an_apostrophe_can_be_gone_on_from(dcgan_train):
    dcgan_train(*TINY, *RUN, "max_steps=1", "hydra.run.dir=that's/seed=0")
    outcome = dcgan_train("ckpt_path=that's/seed=0/checkpoints/last.ckpt", "max_steps=2")
    assert outcome.code == 0, outcome.err
    assert torch.load("that's/seed=0/checkpoints/last.ckpt", weights_only=True)["step"] == 2
