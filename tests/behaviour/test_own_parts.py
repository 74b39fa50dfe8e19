"""A user's own package (tests/extension) is used from outside, through the command line only."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dcgan import compare, evaluate, sample
from dcgan.sampling.trained_generator import load_generator
from tests.conftest import TINY
from tests.processes import ROOT
from tests.run_files import RUN, copy_run_at, rows
from tests.torture import differences

EXTENSION = Path(__file__).parents[1] / "extension"
PARTS = ["model=smooth", "discriminator=smooth", "activation=sine", "normalization=group", "prior=truncated"]
MATHS = [
    *("loss=relativistic_hinge", "penalty=r2_example", "augmentation=instance_noise", "data=stripes"),
    *("optimizer=sign_sgd", "scheduler=halving"),
]
OUTPUTS = ["evaluator=ink", "callbacks=largest_step", "logger=[tensorboard,json_lines]"]
LAB = ["--config-dir", str(EXTENSION / "conf")]
OWN = [*LAB, *PARTS, "discriminator_normalization=none", *MATHS, *OUTPUTS, *TINY, "trainer=cpu", "log.every_n_steps=1"]
LAST = "checkpoint=run/checkpoints/last.ckpt"
TRUST = "trusted=[my_lab]"
REJECTED = re.compile(
    r"the checkpoint's \w+ names my_lab\.\w+\.\w+, which is not a class of .*: a checkpoint must not choose which code "
    r"runs. If you trust that package, add trusted=\[my_lab\] or set DCGAN_TRUSTED=my_lab"
)


@pytest.fixture(autouse=True)
def _extension(monkeypatch):
    monkeypatch.syspath_prepend(EXTENSION)
    monkeypatch.delenv("DCGAN_TRUSTED", raising=False)
    yield
    os.environ.pop("DCGAN_TRUSTED", None)  # set by `trust`


def test_run_of_own_parts_trains_resumes_and_is_used_by_every_command(dcgan_train, dcgan_export, command, monkeypatch):
    undo = copy_run_at(4)
    try:
        outcome = dcgan_train(*OWN, "max_steps=6", "checkpoints.every_n_steps=4", "hydra.run.dir=run")
    finally:
        undo()
    assert (outcome.code, outcome.err) == (0, "")
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["choices"]["model"] == "smooth"
    assert {"ink", "lr_d", "lr_g"} <= summary["metrics"].keys()
    assert [float(row["train/lr_g"]) for row in rows()] == [1e-3, 1e-3, 5e-4, 5e-4, 5e-4, 2.5e-4]
    assert Path("run/my_lab.txt").read_text() == "6 steps"
    logged = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert {"seed", "step"} in [set(line) for line in logged]
    assert sum("train/loss_d" in line for line in logged) == 6

    # resume: the maths come from the checkpoint, callbacks and loggers from the command line
    resumed = ["ckpt_path=run_at_4/checkpoints/last.ckpt", *LAB, "callbacks=largest_step", "trainer=cpu"]
    assert REJECTED.search(dcgan_train(*resumed).err)
    outcome = dcgan_train(*resumed, TRUST)
    assert outcome.code == 0, outcome.err
    assert differences(Path("run"), Path("run_at_4")) == []
    assert "json_lines" not in outcome.err

    monkeypatch.delenv("DCGAN_TRUSTED")
    negative = [LAST, "out=grid.png", *LAB, "mode=negative"]
    assert REJECTED.search(command(sample, *negative).err)
    assert command(sample, *negative, TRUST).code == 0
    assert Path("grid.png").stat().st_size > 100
    monkeypatch.delenv("DCGAN_TRUSTED")

    assert REJECTED.search(dcgan_export(LAST, "out=weights.safetensors").err)
    assert dcgan_export(LAST, "out=weights.safetensors", TRUST).code == 0
    monkeypatch.setenv("DCGAN_TRUSTED", "other, my_lab")
    images = load_generator("weights.safetensors").sample(4, seed=0)
    assert torch.equal(images, load_generator("run/checkpoints/last.ckpt").sample(4, seed=0))
    Path("runs").mkdir()
    Path("run").rename("runs/run")
    outcome = command(compare, "runs")
    assert outcome.code == 0, outcome.err


def test_own_network_is_evaluated_with_an_own_metric(dcgan_train, command):
    assert dcgan_train(*TINY, *RUN, *LAB, "model=smooth", "evaluator=none", "max_steps=1").code == 0
    assert REJECTED.search(command(evaluate, LAST, *LAB, "evaluator=ink").err)
    outcome = command(evaluate, LAST, *LAB, "evaluator=ink", TRUST)
    assert outcome.code == 0, outcome.err
    metrics = json.loads(Path("run/checkpoints/last.evaluation.json").read_text())["metrics"]
    assert metrics["ink"] != 0


def test_distances_are_measured_in_own_features(dcgan_train, command):
    both = "features=[judge,thumbnails]"
    assert dcgan_train(*TINY, *RUN, *LAB, both, "max_steps=1").code == 0
    trained = json.loads(Path("run/summary.json").read_text())
    assert trained["features"]["thumbnails"] == {"description": "4 x 4 pixels", "size": 4}
    outcome = command(evaluate, LAST, *LAB, both, "evaluator=light")
    assert outcome.code == 0, outcome.err
    metrics = json.loads(Path("run/checkpoints/last.evaluation.json").read_text())["metrics"]
    assert metrics["frechet_thumbnails"] == pytest.approx(trained["metrics"]["frechet_thumbnails"])
    assert {"frechet", "coverage", "coverage_thumbnails"} <= metrics.keys()


def test_negative_is_the_users_sampling_mode(dcgan_train, command):
    assert dcgan_train(*TINY, *RUN, "evaluator=none", "max_steps=1").code == 0
    for mode, out in (("grid", "grid.npy"), ("negative", "negative.npy")):
        assert command(sample, LAST, *LAB, f"mode={mode}", f"out={out}", "n=4").code == 0
    assert np.array_equal(np.load("negative.npy"), 255 - np.load("grid.npy"))


def test_run_of_own_networks_is_resumed_from_a_shell(dcgan_train, tmp_path):
    """As a user types it in a new process, with the package in PYTHONPATH and the trust in the environment."""
    arguments = [*LAB, "model=linear", "discriminator=linear", "data=stripes", "data.batch_size=8", "samples.n=4"]
    outcome = dcgan_train("trainer=cpu", "evaluator=none", "max_steps=2", *arguments, "hydra.run.dir=run")
    assert (outcome.code, outcome.err) == (0, "")
    environment = os.environ | {"PYTHONPATH": f"{EXTENSION}:{ROOT}", "DCGAN_TRUSTED": "my_lab"}
    command = [sys.executable, "-m", "dcgan.train", "ckpt_path=run/checkpoints/last.ckpt", "max_steps=3", "trainer=cpu"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((tmp_path / "run/summary.json").read_text())["step"] == 3


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("activation._target_=my_lab.networks.Nothing", "Error loading 'my_lab.networks.Nothing'"),
        ("activation._target_=no_such_package.X", "No module named 'no_such_package'"),
        ("normalization._target_=my_lab.networks.GroupNormalization +normalization.group=2", "unexpected keyword"),
        ("+callbacks.mine={_target_:my_lab.networks.Sine}", "callbacks.mine must be a lightning"),
        ("+logger.mine={_target_:my_lab.networks.Sine}", "logger.mine must be a lightning"),
        ("loss=hinge loss._target_=my_lab.networks.Sine", "loss must be a dcgan.losses.adversarial.Loss"),
        ("optimizer.generator={_target_:my_lab.networks.Truncated,_partial_:true}", "(config key optimizer.generator)"),
        (
            "optimizer.generator.betas=[0.5,2]",
            "Invalid beta parameter at index 1: 2.0 (config key optimizer.generator)",
        ),
        ("optimizer.lr=-1", "Invalid learning rate: -1 (config key optimizer.discriminator)"),
        ("trusted=[a/b]", "trusted must be a list of package names such as [my_lab], got 'a/b'"),
        ("~callbacks.metrics_logger", "a run needs the callback dcgan.training.callbacks.metrics_logger.MetricsLogger"),
    ],
)
def test_mistakes_end_in_one_sentence(dcgan_train, override, sentence):
    outcome = dcgan_train(*TINY, "trainer=cpu", "evaluator=none", "max_steps=1", *override.split(" "))
    assert outcome.code == 1
    assert sentence in outcome.err
    assert "Traceback" not in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1


def test_module_that_fails_on_import_is_named_with_the_line(dcgan_train, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(tmp_path)
    Path("broken_lab.py").write_text("x = 1\ny = 1 / 0\n")
    outcome = dcgan_train(*TINY, *RUN, "max_steps=1", "loss={_target_:broken_lab.MyLoss}")
    assert outcome.code == 1
    assert "fails on import (ZeroDivisionError: division by zero" in outcome.err
    assert "broken_lab.py, line 2) (config key loss)" in outcome.err


def test_error_in_a_users_class_shows_its_traceback(dcgan_train, monkeypatch, tmp_path):
    """Also a ValueError, which in this project's classes is a sentence about an argument."""
    monkeypatch.syspath_prepend(tmp_path)
    Path("faulty_lab.py").write_text(
        "from dcgan.losses.adversarial import Hinge\n\n"
        "class Faulty(Hinge):\n    def generator(self, fake_logits):\n        raise ValueError('bug in my loss')\n"
    )
    with pytest.raises(ValueError, match="bug in my loss") as caught:
        dcgan_train(*TINY, *RUN, "evaluator=none", "max_steps=1", "loss=hinge", "loss._target_=faulty_lab.Faulty")
    assert any("faulty_lab.py" in str(entry.path) for entry in caught.traceback)
