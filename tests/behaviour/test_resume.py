"""A resumed run ends as an uninterrupted one; what it may change, and what it must not overwrite."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from dcgan.checkpoints.io import read_checkpoint
from dcgan.training.callbacks.checkpoints import CheckpointCallback
from dcgan.training.resume import resumed_config
from tests.conftest import TINY, compose_config, idx_bytes
from tests.run_files import RUN, copy_run_at, different_tensors, events, weights
from tests.sampling.test_trained_generator import changed
from tests.torture import differences


def test_resumed_run_of_an_image_folder_ends_as_an_uninterrupted_one(dcgan_train):
    Path("images").mkdir()
    for i in range(32):
        Image.new("L", (8, 8), 8 * i).save(f"images/{i}.png")
    settings = [*TINY, "trainer=cpu", "data=image_folder", "data.root=images", "data.image_size=8", "data.workers=1"]
    dcgan_train(*settings, "max_steps=7", "hydra.run.dir=uninterrupted")
    dcgan_train(*settings, "max_steps=6", "hydra.run.dir=run")  # in the middle of the second epoch
    outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=7", "data.root=images")
    assert outcome.err == ""
    assert different_tensors(weights("uninterrupted"), weights("run")) == []


# all parts that have a state, and the evaluation, which remembers the best step
STATES = ["ema.decay=0.9", "discriminator.dropout=0.3", "conditional=concat", "metrics.every_n_steps=6", "max_epochs=4"]
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
    settings = [*TINY, "trainer=cpu", "max_epochs=4", "evaluator=none", "checkpoints.every_n_steps=8"]
    dcgan_train(*settings, "hydra.run.dir=uninterrupted")
    run = "run"
    for i, step in enumerate((8, 16, 24)):
        undo = copy_run_at(step)
        try:
            dcgan_train(*(["ckpt_path=auto", "trainer=cpu"] if i else settings), f"hydra.run.dir={run}")
        finally:
            undo()
        run += f"_at_{step}"
    assert dcgan_train("ckpt_path=auto", "trainer=cpu", f"hydra.run.dir={run}").code == 0
    assert differences(Path("uninterrupted"), Path(run)) == []


def test_auto_starts_a_run_or_resumes_the_newest_valid_checkpoint(dcgan_train):
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
    dcgan_train(*TINY, *RUN, "max_steps=5", "hydra.run.dir=uninterrupted")
    assert different_tensors(weights("uninterrupted"), weights()) == []
    for path in Path("run/checkpoints").iterdir():
        path.write_bytes(b"")
    outcome = dcgan_train(*command, "max_steps=6")
    assert outcome.code == 1
    assert "run can be read: start a new run in another hydra.run.dir" in outcome.err
    outcome = dcgan_train(*TINY, "ckpt_path=auto")
    assert outcome.code == 1
    assert "ckpt_path=auto needs a run folder: give it with hydra.run.dir=" in outcome.err


def test_changed_maths_are_rejected_with_auto(dcgan_train):
    dcgan_train(*TINY, *RUN, "max_steps=1", "ckpt_path=auto")
    outcome = dcgan_train(*TINY, *RUN, "max_steps=2", "ckpt_path=auto", "loss=hinge")
    assert outcome.code == 1
    assert "loss cannot change when a run is resumed (the checkpoint has 'non_saturating')" in outcome.err


def test_earlier_checkpoint_of_the_same_folder_is_rejected(dcgan_train):
    dcgan_train(*TINY, *RUN, "max_steps=2")
    shutil.copy("run/checkpoints/last.ckpt", "run/checkpoints/second.ckpt")
    dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=4")
    outcome = dcgan_train("ckpt_path=run/checkpoints/second.ckpt", "max_steps=3")
    assert outcome.code == 1
    assert "last.ckpt is at a later step (4) than run/checkpoints/second.ckpt (2): resume from that one" in outcome.err
    assert dcgan_train("ckpt_path=run/checkpoints/second.ckpt", "max_steps=3", "hydra.run.dir=other").code == 0


def learning_rates(run: str = "run") -> list[float]:
    """Return the rates of D and G in the optimizer states of last.ckpt."""
    states = read_checkpoint(Path(run, "checkpoints", "last.ckpt"))["optimizer_states"]
    return [state["param_groups"][0]["lr"] for state in states]


@pytest.mark.parametrize(
    ("overrides", "expected", "change"),
    [
        (["optimizer.lr=1e-4"], [1e-4, 3e-4], "discriminator 0.0002 -> 0.0001, generator 0.0006 -> 0.0003"),
        (["optimizer.generator.lr=1e-4"], [2e-4, 1e-4], "generator 0.0006 -> 0.0001"),
        (["optimizer.discriminator.lr=1e-4"], [1e-4, 6e-4], "discriminator 0.0002 -> 0.0001"),
        (
            ["optimizer.lr=1e-4", "optimizer.generator.lr=5e-4"],
            [1e-4, 5e-4],
            "discriminator 0.0002 -> 0.0001, generator 0.0006 -> 0.0005",
        ),
        (["optimizer.lr=2e-4", "optimizer.generator.lr=6e-4"], [2e-4, 6e-4], None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and isinstance(value[0], str) else "",
)
def test_learning_rates_can_change_with_a_note(dcgan_train, overrides, expected, change):
    """optimizer.lr keeps the ratio of the two rates, which is 3 here."""
    dcgan_train(*TINY, *RUN, "max_steps=1", "optimizer.generator.lr=6e-4")
    outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=2", *overrides)
    assert outcome.code == 0, outcome.err
    note = "the run is no longer bit-identical to an uninterrupted one"
    assert outcome.err == ("" if change is None else f"note: learning rates change ({change}): {note}\n")
    assert learning_rates() == pytest.approx(expected, rel=1e-12)
    # the next resume keeps them, without a note
    assert dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=3").err == ""
    assert learning_rates() == pytest.approx(expected, rel=1e-12)


def test_changed_learning_rate_changes_the_weights(dcgan_train):
    dcgan_train(*TINY, *RUN, "max_steps=1")
    resume = ["ckpt_path=run/checkpoints/last.ckpt", "max_steps=2"]
    for run, override in (("same", "optimizer.lr=2e-4"), ("lower", "optimizer.lr=1e-4")):
        assert dcgan_train(*resume, override, f"hydra.run.dir={run}").code == 0
    dcgan_train(*TINY, *RUN, "max_steps=2", "hydra.run.dir=uninterrupted")
    assert different_tensors(weights("uninterrupted"), weights("same")) == []
    assert "generator.to_image.weight" in different_tensors(weights("uninterrupted"), weights("lower"))


def test_invalid_learning_rate_is_rejected(dcgan_train):
    dcgan_train(*TINY, *RUN, "max_steps=1")
    outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=2", "optimizer.lr=-1")
    assert outcome.code == 1
    assert "Invalid learning rate: -1" in outcome.err


def test_changed_precision_is_noted_and_a_changed_number_of_images_rejected(dcgan_train, mnist_root):
    dcgan_train(*TINY, *RUN, "max_steps=1")
    outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=2", "trainer.precision=bf16-mixed")
    assert outcome.code == 0
    assert "note: bf16-mixed after 32-true: the run is no longer bit-identical to an uninterrupted" in outcome.err
    raw = Path(shutil.copytree(mnist_root, "less")) / "MNIST" / "raw"
    (raw / "train-images-idx3-ubyte").write_bytes(idx_bytes(np.zeros((60, 28, 28), dtype=np.uint8)))
    (raw / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(60, dtype=np.uint8)))
    outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=3", "data.root=less")
    assert outcome.code == 1
    assert "the checkpoint was made with 64 training images, now there are 60: give it the same data" in outcome.err


def test_changed_images_are_rejected(dcgan_train, mnist_root):
    dcgan_train(*TINY, *RUN, "max_steps=1")
    path = Path(shutil.copytree(mnist_root, "other")) / "MNIST" / "raw" / "train-images-idx3-ubyte"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=2", "data.root=other")
    assert outcome.code == 1
    assert "the training images are not those that the checkpoint was made with" in outcome.err
    path.write_bytes(content)
    assert dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=2", "data.root=other").err == ""


def test_renamed_image_file_is_rejected_and_a_rewritten_one_noted(dcgan_train):
    folder = Path("images")
    folder.mkdir()
    for i in range(8):
        Image.new("L", (8, 8), 8 * i).save(folder / f"{i}.png")
    data = ["data=image_folder", "data.root=images", "data.workers=0"]
    resume = ["ckpt_path=run/checkpoints/last.ckpt", *data]
    assert dcgan_train(*TINY, *RUN, *data, "data.image_size=8", "max_steps=1").code == 0
    assert dcgan_train(*resume, "max_steps=2").err == ""
    os.utime(folder / "3.png")
    outcome = dcgan_train(*resume, "max_steps=3")
    assert outcome.code == 0, outcome.err
    assert "note: the files of the training images were written after the checkpoint" in outcome.err
    (folder / "3.png").rename(folder / "9.png")
    outcome = dcgan_train(*resume, "max_steps=4")
    assert outcome.code == 1
    assert "the training images are not those that the checkpoint was made with" in outcome.err


def test_trainer_and_folders_do_not_come_from_the_checkpoint(plain_run, dcgan_train, mnist_root, monkeypatch):
    def change(content):
        config = content["config"]
        profiler = {"_target_": "lightning.pytorch.profilers.SimpleProfiler", "dirpath": "outside", "filename": "x"}
        config["trainer"] |= {"profiler": profiler, "devices": 7, "default_root_dir": "outside", "accelerator": "gpu"}
        config["data"]["root"] = "outside"

    path = changed(plain_run, Path("evil.ckpt"), change)
    monkeypatch.setenv("DCGAN_DATA_DIR", str(shutil.copytree(mnist_root, "moved")))
    outcome = dcgan_train(f"ckpt_path={path}", "max_steps=5", "hydra.run.dir=run", "trainer=cpu")
    assert outcome.code == 0, outcome.err
    assert not Path("outside").exists()
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["processes"] == 1
    assert summary["config"]["data"]["root"] == "moved"
    assert summary["choices"]["trainer"] == "cpu"


def test_number_of_workers_does_not_come_from_the_checkpoint():
    checkpoint = {"config": compose_config("data=image_folder", "data.workers=150"), "choices": {}}
    checkpoint["config"] = OmegaConf.to_container(checkpoint["config"], resolve=True)
    for cfg, workers in ((compose_config(), 2), (compose_config("data=image_folder", "data.workers=3"), 3)):
        resumed, _ = resumed_config(checkpoint, cfg, {}, [])
        assert instantiate(resumed.data).workers == workers


def test_metric_that_reads_a_file_does_not_come_from_the_checkpoint(plain_run, dcgan_train):
    def change(content):
        content["config"]["evaluator"] = {"_target_": "dcgan.metrics.inception.InceptionDistance", "weights": "x"}

    resume = [f"ckpt_path={changed(plain_run, Path('evil.ckpt'), change)}", "max_steps=5", "hydra.run.dir=run"]
    outcome = dcgan_train(*resume, "trainer=cpu")
    assert outcome.code == 1
    assert "code runs. Give evaluator= on the command line" in outcome.err
    assert dcgan_train(*resume, "trainer=cpu", "evaluator=none").code == 0


def test_maths_can_be_repeated_but_not_changed(dcgan_train):
    dcgan_train(*TINY, *RUN, "max_steps=2", "loss=hinge")
    resume = ["ckpt_path=run/checkpoints/last.ckpt", "max_steps=3"]
    before = Path("run/.hydra/config.yaml").read_text()
    for override in ("loss=minimax", "optimizer.betas=[0.9,0.999]", "seed=3", "data.batch_size=4", "experiment=demo"):
        outcome = dcgan_train(*resume, override)
        assert outcome.code == 1
        assert "cannot change when a run is resumed" in outcome.err, outcome.err
        assert outcome.err.count("\n") == 1
    repeated = ["loss=hinge", "data.batch_size=8", "discriminator=strided_conv", "data=mnist"]
    outcome = dcgan_train(*resume, *repeated, "log.every_n_steps=1", "trainer=auto")
    assert outcome.code == 0, outcome.err
    assert Path("run/.hydra/config.yaml").read_text() == before
    assert read_checkpoint("run/checkpoints/last.ckpt")["config"]["loss"]["_target_"].endswith(".Hinge")


def test_resumed_run_can_write_to_another_folder(dcgan_train):
    dcgan_train(*TINY, *RUN, "max_steps=2")
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


def test_finished_run_without_a_summary_gets_one_on_resume(dcgan_train):
    dcgan_train(*TINY, *RUN, "max_steps=3")
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
    assert [event.step for event in events().Images("samples/fixed_noise")] == [0, 1]
    with Path("run/metrics.csv").open(newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["0", "1"]


def test_run_in_a_folder_with_equals_sign_and_apostrophe_can_be_resumed(dcgan_train):
    dcgan_train(*TINY, *RUN, "max_steps=1", "hydra.run.dir=that's/seed=0")
    outcome = dcgan_train("ckpt_path=that's/seed=0/checkpoints/last.ckpt", "max_steps=2")
    assert outcome.code == 0, outcome.err
    assert read_checkpoint("that's/seed=0/checkpoints/last.ckpt")["step"] == 2
