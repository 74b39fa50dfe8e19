"""One command, from the command line to the files of its run folder."""

import csv
import json
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from dcgan import demo
from dcgan.loggers import log_graph
from tests.conftest import SMALL, TINY, compose_with_choices, options
from tests.runs import RUN, differing, events, weights


def test_a_run_leaves_all_that_a_person_looks_for(dcgan_train):
    outcome = dcgan_train(*TINY, *RUN, "max_steps=7", "ema.decay=.9", "samples.steps=[0,1,5]")
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""  # no warning that is ours to mend
    run = Path("run")

    # the terminal: one summary, progress, where to look
    assert outcome.out.count("parameters") == 2
    assert "step 7/7" in outcome.out
    assert "run/samples/step_000007.png" in outcome.out
    assert "tensorboard --logdir run" in outcome.out

    # pictures: at the steps asked for and at the end
    assert [p.name for p in sorted((run / "samples").iterdir())] == [f"step_{s:06d}.png" for s in (0, 1, 5, 7)]
    with Image.open(run / "samples" / "step_000007.png") as picture:
        assert picture.size[0] == picture.size[1] >= 400

    # metrics.csv: a row for each step that logged, means of both losses, gradient norms, speed, activity
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [0, 2, 4, 6, 7]
    assert all(float(row["train/loss_d"]) > 0 for row in rows[1:])
    assert 0 < float(rows[1]["train/d_real"]) < 1
    assert [bool(row["units_dead/generator/start.hidden"]) for row in rows] == [True, False, True, False, False]

    # summary.json
    summary = json.loads((run / "summary.json").read_text())
    assert summary["step"] == 7
    assert summary["images_per_second"] > 0
    assert set(summary["versions"]) == {
        "dcgan",
        "python",
        "torch",
        "torchvision",
        "lightning",
        "hydra-core",
        "tensorboard",
    }
    assert summary["metrics"]["loss_d"] == pytest.approx(float(rows[-1]["train/loss_d"]))

    # the checkpoint: Lightning's dict, safe to read, both networks, the average, the fixed noise, the config
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert {name.partition(".")[0] for name in checkpoint["state_dict"]} == {
        "generator",
        "discriminator",
        "ema",
        "fixed_z",
    }
    assert checkpoint["step"] == 7
    assert checkpoint["global_step"] == 14
    assert checkpoint["config"]["model"]["base_channels"] == 4
    assert checkpoint["choices"]["model"] == "transposed_conv"
    assert sorted(p.name for p in run.iterdir() if "tfevents" not in p.name) == [
        ".hydra",
        "checkpoints",
        "metrics.csv",
        "samples",
        "summary.json",
    ]


def test_tensorboard_shows_curves_images_histograms_text_graph_and_hyperparameters(dcgan_train, monkeypatch):
    monkeypatch.setattr("dcgan.report.log_graph", log_graph)
    assert dcgan_train(*TINY, *RUN, "max_steps=6", "samples.steps=[0,2]").code == 0
    log = events()
    tags = log.Tags()
    for name in ("loss_d", "loss_g", "d_real", "d_fake"):
        assert [event.step for event in log.Scalars(f"train/{name}")] == [2, 4, 6]
    assert {"train/gradient_norm_d", "train/gradient_norm_g", "train/images_per_second"} <= set(tags["scalars"])
    for layer in ("generator/start.hidden", "generator/doublings.0", "discriminator/halvings.0"):
        assert [event.step for event in log.Scalars(f"units_dead/{layer}")] == [0, 4]
        assert [event.step for event in log.Scalars(f"units_saturated/{layer}")] == [0, 4]
        assert [event.step for event in log.Scalars(f"gradient_norms/{layer}")] == [4]
    # scalars and images share the step axis
    assert [event.step for event in log.Images("samples/fixed_noise")] == [0, 2, 4, 6]
    assert [event.step for event in log.Images("samples/fresh_noise")] == [0, 2, 4, 6]
    assert [event.step for event in log.Images("real")] == [0]
    assert set(tags["histograms"]) == {"discriminator/real_logits", "discriminator/fake_logits"}
    assert "config/text_summary" in tags["tensors"]
    nodes = {node.name for node in log.Graph().node}
    assert any("[G]" in name and "doublings" in name for name in nodes)
    assert any("[D]" in name and "halvings" in name for name in nodes)
    assert "_hparams_/session_start_info" in log.summary_metadata
    assert "_hparams_/session_end_info" in log.summary_metadata


def test_every_run_has_the_same_hyperparameter_keys(dcgan_train):
    dcgan_train(*TINY, *RUN, "max_steps=1")
    dcgan_train(
        *SMALL, *RUN, "max_steps=1", "hydra.run.dir=other", "model=keras_mnist", "activation=gelu", "loss=hinge"
    )
    one, other = (json.loads(Path(run, "summary.json").read_text())["hyperparameters"] for run in ("run", "other"))
    assert list(one) == list(other)
    assert (one["model"], other["model"]) == ("transposed_conv", "keras_mnist")
    assert (one["model.hidden_width"], other["model.hidden_width"]) == (16, "-")


def test_a_step_is_one_batch_everywhere(dcgan_train):
    """64 images, batches of 8, two epochs: 16 steps; with three D updates a step 2 steps an epoch."""
    assert "step 16/16" in dcgan_train(*TINY, *RUN, "max_epochs=2").out
    outcome = dcgan_train(*TINY, *RUN, "max_epochs=2", "discriminator_steps=3", "hydra.run.dir=three")
    assert "step 4/4" in outcome.out
    outcome = dcgan_train(*TINY, *RUN, "max_steps=5", "discriminator_steps=3", "hydra.run.dir=five")
    assert "step 5/5" in outcome.out
    assert torch.load("five/checkpoints/last.ckpt", weights_only=True)["step"] == 5


@pytest.mark.parametrize("loss", ["non_saturating", "wasserstein_gp"])
def test_bf16_trains_as_on_a_gpu(dcgan_train, loss):
    outcome = dcgan_train(*TINY, *RUN, "max_steps=2", "trainer.precision=bf16-mixed", f"loss={loss}", "ema.decay=.9")
    assert outcome.code == 0, outcome.err
    assert {value.dtype for value in weights().values()} <= {torch.float32, torch.int64}


def test_samples_are_drawn_at_each_doubling_after_the_last_given_step():
    from dcgan.callbacks import Samples

    samples = Samples(Path("run"), [0, 1, 100])
    assert [step for step in range(1700) if samples.due(step)] == [0, 1, 100, 200, 400, 800, 1600]


# --- what the weights depend on


def test_same_seed_same_weights_bit_for_bit_another_seed_others(dcgan_train):
    for run, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert dcgan_train(*TINY, *RUN, "max_steps=5", f"seed={seed}", f"hydra.run.dir={run}").code == 0
    assert differing(weights("a"), weights("b")) == []
    assert "generator.to_image.weight" in differing(weights("a"), weights("c"))


def test_weights_depend_on_no_interval_and_not_on_how_long_the_run_is(dcgan_train):
    extra = [*TINY, "trainer=cpu", "ema.decay=.9", "discriminator.dropout=.3"]
    dcgan_train(*extra, "max_steps=4", "hydra.run.dir=plain")
    dcgan_train(
        *extra, "max_steps=4", "hydra.run.dir=busy", "log.every_n_steps=1", "log.activity_every_n_steps=1",
        "samples.steps=[0,1,2,3,4]", "checkpoints.every_n_steps=1",
    )  # fmt: skip
    dcgan_train(*extra, "max_epochs=1", "hydra.run.dir=long")  # 8 steps, resumed below at 4: not at all
    assert differing(weights("plain"), weights("busy")) == []
    dcgan_train(*extra, "max_steps=8", "hydra.run.dir=eight")
    assert differing(weights("long"), weights("eight")) == []


# --- help


def test_help_names_every_group_and_every_option(dcgan_train):
    outcome = dcgan_train("--help")
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert len(lines) < 50
    assert max(map(len, lines)) <= 120
    for group in (group for group in compose_with_choices()[1] if "/" not in group and "@" not in group):
        (at,) = [i for i, line in enumerate(lines) if line.startswith(f"  {group} ")]
        if not group.startswith("discriminator_"):  # they refer to the generator's lists
            described = " ".join(lines[at : at + 2])
            for option in options(group):
                assert option in described, f"{group}={option} is not in --help"


def test_the_demo_looks_for_mnist_where_it_is_told_to(monkeypatch, mnist_root, tmp_path):
    monkeypatch.setenv("DCGAN_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["demo", f"data.root={mnist_root}"])
    monkeypatch.setattr("dcgan.train.main", lambda: None)
    demo.main()
    assert "data=mnist" in sys.argv
