"""`python -m dcgan.train`, from the command line to the files of the run folder."""

import csv
import json
import re
import sys
from pathlib import Path

import pytest
import torch
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

from dcgan import demo
from dcgan.training.loggers import log_graph
from tests.conftest import TINY, compose_with_choices, options
from tests.run_files import RUN, different_tensors, events, weights


def test_run_writes_all_documented_files(dcgan_train):
    outcome = dcgan_train(*TINY, *RUN, "max_steps=7", "samples.steps=[0,1,5]")
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""  # no warnings
    run = Path("run")

    assert outcome.out.count("parameters") == 2
    assert "step 7/7" in outcome.out
    assert "run/samples/step_000007.png" in outcome.out
    assert "tensorboard --logdir run" in outcome.out

    assert [p.name for p in sorted((run / "samples").iterdir())] == [f"step_{s:06d}.png" for s in (0, 1, 5, 7)]
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [0, 2, 4, 6, 7]
    assert all(float(row["train/loss_d"]) > 0 for row in rows[1:])
    assert 0 < float(rows[1]["train/d_real"]) < 1
    assert [bool(row["units_dead/generator/start.hidden"]) for row in rows] == [True, False, True, False, False]

    summary = json.loads((run / "summary.json").read_text())
    assert summary["step"] == 7
    assert summary["metrics"]["loss_d"] == pytest.approx(float(rows[-1]["train/loss_d"]))
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["step"] == 7
    names = [".hydra", "checkpoints", "metrics.csv", "samples", "summary.json"]
    assert sorted(p.name for p in run.iterdir() if "tfevents" not in p.name) == names


def test_tensorboard_shows_scalars_images_histograms_text_graph_and_hyperparameters(dcgan_train, monkeypatch):
    monkeypatch.setattr("dcgan.training.callbacks.run_summary.log_graph", log_graph)
    assert dcgan_train(*TINY, *RUN, "max_steps=6", "samples.steps=[0,2]").code == 0
    board = events()
    tags = board.Tags()
    for name in ("loss_d", "loss_g", "d_real", "d_fake"):
        assert [event.step for event in board.Scalars(f"train/{name}")] == [2, 4, 6]
    assert {"train/gradient_norm_d", "train/gradient_norm_g", "train/images_per_second"} <= set(tags["scalars"])
    for layer in ("generator/start.hidden", "generator/up_1", "discriminator/down_1"):
        assert [event.step for event in board.Scalars(f"units_dead/{layer}")] == [0, 4]
        assert [event.step for event in board.Scalars(f"units_saturated/{layer}")] == [0, 4]
        assert [event.step for event in board.Scalars(f"gradient_norms/{layer}")] == [4]
    # scalars and images share the step axis
    assert {tag: [event.step for event in board.Images(tag)] for tag in tags["images"]} == {
        "real": [0],
        "samples": [0, 2, 4, 6],
    }
    assert set(tags["histograms"]) == {"discriminator/real_logits", "discriminator/fake_logits"}
    assert "config/text_summary" in tags["tensors"]
    nodes = board.Graph().node
    assert {node.name.partition("/")[0] for node in nodes} == {"input", "generator", "discriminator", "output"}
    assert {"generator/up_1/layer", "generator/to_image", "discriminator/down_2/layer"} <= {
        "/".join(node.name.split("/")[:n]) for node in nodes for n in (2, 3)
    }
    names = {node.name for node in nodes}
    crossing = {name for node in nodes if node.name.startswith("discriminator/") for name in node.input} & names
    assert any(name.startswith("generator/") for name in crossing)
    layout = Layout.FromString(board.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    assert [chart.title for chart in layout.category[0].chart] == ["losses", "D(x) and D(G(z))"]
    (frechet,) = [chart for chart in layout.category[1].chart if chart.title == "frechet"]
    matching = [tag for tag in tags["scalars"] if re.match(frechet.multiline.tag[0], tag)]
    assert matching == ["test/frechet"]
    assert "_hparams_/session_start_info" in board.summary_metadata
    assert "_hparams_/session_end_info" in board.summary_metadata


def test_augmentation_is_in_the_summaries_if_there_is_one(dcgan_train):
    settings = [*TINY, *RUN, "evaluator=none", "max_steps=1"]
    out = dcgan_train(*settings, "augmentation=diffaugment", "augmentation.cutout=false").out
    assert "\naugmentation   color, translation\n" in out
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["hyperparameters"]["augmentation"] == "diffaugment"
    assert summary["hyperparameters"]["augmentation.cutout"] is False
    assert "augmentation" not in dcgan_train(*settings, "hydra.run.dir=default").out


def test_step_is_one_generator_update(dcgan_train):
    """64 images in batches of 8 are 8 steps per epoch, or 2 with three D updates per step."""
    assert "step 16/16" in dcgan_train(*TINY, *RUN, "max_epochs=2").out
    outcome = dcgan_train(*TINY, *RUN, "max_epochs=2", "discriminator_steps=3", "hydra.run.dir=three")
    assert "step 4/4" in outcome.out
    outcome = dcgan_train(*TINY, *RUN, "max_steps=5", "discriminator_steps=3", "hydra.run.dir=five")
    assert "step 5/5" in outcome.out
    assert torch.load("five/checkpoints/last.ckpt", weights_only=True)["step"] == 5


@pytest.mark.parametrize("loss", ["non_saturating", "wasserstein_gp"])
def test_bf16_trains_with_float32_weights(dcgan_train, loss):
    outcome = dcgan_train(*TINY, *RUN, "max_steps=2", "trainer.precision=bf16-mixed", f"loss={loss}", "ema.decay=.9")
    assert outcome.code == 0, outcome.err
    assert {value.dtype for value in weights().values()} <= {torch.float32, torch.int64}


# --- reproducibility


def test_weights_are_bit_identical_for_the_same_seed_only(dcgan_train):
    for run, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert dcgan_train(*TINY, *RUN, "max_steps=5", f"seed={seed}", f"hydra.run.dir={run}").code == 0
    assert different_tensors(weights("a"), weights("b")) == []
    assert "generator.to_image.weight" in different_tensors(weights("a"), weights("c"))


def test_weights_depend_on_no_interval_and_not_on_the_length_of_the_run(dcgan_train):
    overrides = [*TINY, "trainer=cpu", "ema.decay=.9", "discriminator.dropout=.3"]
    dcgan_train(*overrides, "max_steps=8", "hydra.run.dir=plain")
    dcgan_train(
        *overrides, "max_steps=8", "hydra.run.dir=busy", "log.every_n_steps=1", "log.activity_every_n_steps=1",
        "samples.steps=[0,1,2,3,4]", "checkpoints.every_n_steps=1",
    )  # fmt: skip
    assert different_tensors(weights("plain"), weights("busy")) == []
    dcgan_train(*overrides, "max_epochs=1", "hydra.run.dir=epoch")  # 8 steps
    assert different_tensors(weights("plain"), weights("epoch")) == []
    dcgan_train(*overrides, "max_steps=4", "hydra.run.dir=resumed")
    dcgan_train("ckpt_path=resumed/checkpoints/last.ckpt", "max_steps=8")
    assert different_tensors(weights("plain"), weights("resumed")) == []


# --- help


def test_help_lists_every_group_and_option(dcgan_train):
    outcome = dcgan_train("--help")
    assert outcome.code == 0
    explained, listed = outcome.out.split("\nactivation: ")
    lists = dict(line.split(": ", 1) for line in f"activation: {listed}".splitlines() if re.match("[a-z_]+: ", line))
    for group in (group for group in compose_with_choices()[1] if "/" not in group and "@" not in group):
        assert f" {group} " in explained
        assert lists[group].split(", ") == options(group)


def test_demo_uses_mnist_from_data_root(monkeypatch, mnist_root, tmp_path):
    monkeypatch.setenv("DCGAN_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["demo", f"data.root={mnist_root}"])
    monkeypatch.setattr("dcgan.train.main", lambda: None)
    demo.main()
    assert "data=mnist" in sys.argv
