"""Changes to a resumed run: noted, rejected, or taken from the command line instead of the checkpoint."""

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
from dcgan.training.resume import resumed_config
from tests.conftest import TINY, compose_config, idx_bytes
from tests.run_files import RUN, different_tensors, weights, write_grey_pictures
from tests.sampling.test_trained_generator import changed


def test_changed_maths_are_rejected_with_auto(dcgan_train, trained_run):
    trained_run("max_steps=1")
    outcome = dcgan_train(*TINY, *RUN, "max_steps=2", "ckpt_path=auto", "loss=hinge")
    assert outcome.code == 1
    assert "loss cannot change when a run is resumed (the checkpoint has 'non_saturating')" in outcome.err


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
def test_learning_rates_can_change_with_a_note(dcgan_train, overrides, expected, change, trained_run):
    """optimizer.lr keeps the ratio of the two rates, which is 3 here."""
    trained_run("max_steps=1", "optimizer.generator.lr=6e-4")
    outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=2", *overrides)
    assert outcome.code == 0, outcome.err
    note = "the run is no longer bit-identical to an uninterrupted one"
    assert outcome.err == ("" if change is None else f"note: learning rates change ({change}): {note}\n")
    assert learning_rates() == pytest.approx(expected, rel=1e-12)
    # the next resume keeps them, without a note
    assert dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=3").err == ""
    assert learning_rates() == pytest.approx(expected, rel=1e-12)


def test_changed_learning_rate_changes_the_weights(dcgan_train, trained_run):
    trained_run("max_steps=1")
    resume = ["ckpt_path=run/checkpoints/last.ckpt", "max_steps=2"]
    for run, override in (("same", "optimizer.lr=2e-4"), ("lower", "optimizer.lr=1e-4")):
        assert dcgan_train(*resume, override, f"hydra.run.dir={run}").code == 0
    trained_run("max_steps=2", folder="uninterrupted")
    assert different_tensors(weights("uninterrupted"), weights("same")) == []
    assert "generator.to_image.weight" in different_tensors(weights("uninterrupted"), weights("lower"))


def test_invalid_learning_rate_is_rejected(dcgan_train, trained_run):
    trained_run("max_steps=1")
    outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=2", "optimizer.lr=-1")
    assert outcome.code == 1
    assert "Invalid learning rate: -1" in outcome.err


def test_changed_precision_is_noted_and_a_changed_number_of_images_rejected(dcgan_train, mnist_root, trained_run):
    trained_run("max_steps=1")
    outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=2", "trainer.precision=bf16-mixed")
    assert outcome.code == 0
    assert "note: bf16-mixed after 32-true: the run is no longer bit-identical to an uninterrupted" in outcome.err
    raw = Path(shutil.copytree(mnist_root, "less")) / "MNIST" / "raw"
    (raw / "train-images-idx3-ubyte").write_bytes(idx_bytes(np.zeros((60, 28, 28), dtype=np.uint8)))
    (raw / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(60, dtype=np.uint8)))
    outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=3", "data.root=less")
    assert outcome.code == 1
    assert "the checkpoint was made with 64 training images, now there are 60: give it the same data" in outcome.err


@pytest.mark.parametrize("precision", [(), ("trainer.precision=auto",)])
def test_automatic_precision_is_kept_on_another_cpu(dcgan_train, monkeypatch, precision):
    def set_bf16(available: bool) -> None:
        for module in ("training.run", "training.callbacks.progress_bar"):
            monkeypatch.setattr(f"dcgan.{module}.computes_bf16", lambda: available)

    set_bf16(True)
    outcome = dcgan_train(*TINY, *RUN, "max_steps=1", "hydra.run.dir=run", "trainer.precision=auto")
    assert "cpu x 1, bf16-mixed" in outcome.out
    assert "precision  " not in outcome.out
    set_bf16(False)
    outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=2", *precision)
    assert "cpu x 1, bf16-mixed" in outcome.out
    assert "this CPU has no bfloat16: trainer.precision=32-true is faster here" in outcome.out
    assert json.loads(Path("run/summary.json").read_text())["config"]["trainer"]["precision"] == "bf16-mixed"


def test_changed_images_are_rejected(dcgan_train, mnist_root, trained_run):
    trained_run("max_steps=1")
    path = Path(shutil.copytree(mnist_root, "other")) / "MNIST" / "raw" / "train-images-idx3-ubyte"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=2", "data.root=other")
    assert outcome.code == 1
    assert "the training images are not those that the checkpoint was made with" in outcome.err
    path.write_bytes(content)
    assert dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=2", "data.root=other").err == ""


def test_changed_pictures_are_rejected_and_rewritten_ones_accepted(dcgan_train):
    folder = Path("images")
    write_grey_pictures(folder, 8)
    data = ["data=image_folder", "data.root=images", "data.test_fraction=0"]
    resume = ["ckpt_path=run/checkpoints/last.ckpt", *data]
    assert dcgan_train(*TINY, *RUN, *data, "data.image_size=8", "max_steps=1").code == 0
    assert dcgan_train(*resume, "max_steps=2").err == ""
    os.utime(folder / "3.png")
    outcome = dcgan_train(*resume, "max_steps=3")
    assert (outcome.code, outcome.err) == (0, "")
    Image.new("L", (8, 8), 25).save(folder / "3.png")
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


def test_cache_folder_does_not_come_from_the_checkpoint():
    checkpoint = {"config": compose_config("data=image_folder", "data.cache_dir=outside"), "choices": {}}
    checkpoint["config"] = OmegaConf.to_container(checkpoint["config"], resolve=True)
    for cfg, folder in ((compose_config(), None), (compose_config("data=image_folder", "data.cache_dir=here"), "here")):
        resumed, _ = resumed_config(checkpoint, cfg, {}, [])
        assert instantiate(resumed.data).cache_dir == folder


def test_options_that_are_newer_than_the_checkpoint_have_their_defaults(plain_run, dcgan_train):
    def remove_options(content):
        del content["config"]["checkpoints"]["best"], content["config"]["health"]["patience"]
        content["config"]["checkpoints"]["every_n_minutes"] = 7

    path = changed(plain_run, Path("old.ckpt"), remove_options)
    outcome = dcgan_train(f"ckpt_path={path}", "max_steps=5", "hydra.run.dir=run", "trainer=cpu")
    assert outcome.code == 0, outcome.err
    config = json.loads(Path("run/summary.json").read_text())["config"]
    assert config["checkpoints"] == {"every_n_steps": None, "every_n_minutes": 7, "best": True}
    assert config["health"]["patience"] == 200


def test_metric_that_reads_a_file_does_not_come_from_the_checkpoint(plain_run, dcgan_train):
    def change(content):
        content["config"]["evaluator"] = {"_target_": "dcgan.metrics.pretrained.InceptionFeatures", "weights": "x"}

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


def test_augmentation_cannot_change(dcgan_train, plain_run):
    outcome = dcgan_train(f"ckpt_path={plain_run}", "trainer=cpu", "augmentation=flip", "hydra.run.dir=other")
    assert "augmentation cannot change when a run is resumed" in outcome.err
