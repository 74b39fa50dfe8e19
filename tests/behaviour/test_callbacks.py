"""Callbacks come from the config: more, fewer, and Lightning's own."""

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from dcgan.common.command import CONF
from tests.conftest import SMALL, TINY
from tests.run_files import RUN, different_tensors, rows, weights

EARLY_STOPPING = (
    "+callbacks.stop={_target_:lightning.pytorch.callbacks.EarlyStopping,monitor:test/cb2,patience:1,min_delta:1000}"
)


def test_every_callback_has_its_own_file():
    names = [node["_target_"].split(".")[-2] for node in OmegaConf.load(CONF / "callbacks/default.yaml").values()]
    files = {path.stem for path in Path("dcgan/training/callbacks").glob("*.py")} or set(names)
    others = {"shared", "__init__", "trial_report"}  # a search adds the last one
    assert {*names} | others == files | others


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks")  # EarlyStopping is left out
def test_early_stopping_ends_a_run_that_is_complete_and_can_be_resumed(dcgan_train):
    """Epochs 1 and 2 are no better than the first evaluation by 1000."""
    settings = [*SMALL, *RUN, "data=digits", "data.image_size=28", "data.limit=16", "metrics.n=16"]
    outcome = dcgan_train(*settings, "max_epochs=6", "metrics.every_n_steps=1", EARLY_STOPPING)
    assert outcome.code == 0, outcome.err
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["step"] == 4
    assert [int(row["step"]) for row in rows()] == [2, 4]
    dcgan_train(*settings, "max_epochs=3", "metrics.every_n_steps=1", "hydra.run.dir=uninterrupted")
    outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_epochs=3", "trainer=cpu")
    assert outcome.code == 0, outcome.err
    assert different_tensors(weights("uninterrupted"), weights()) == []


def test_callbacks_can_be_removed(dcgan_train):
    removed = [f"~callbacks.{name}" for name in ("health", "activation_stats", "sample_grids", "progress_bar")]
    outcome = dcgan_train(*TINY, "trainer=cpu", "hydra.run.dir=run", "evaluator=none", "max_steps=2", *removed)
    assert (outcome.code, outcome.err) == (0, "")
    assert not Path("run/samples").exists()
    assert "health/collapse" not in rows()[-1]
    outcome = dcgan_train(*TINY, *RUN, "hydra.run.dir=other", "~callbacks.health", "health.action=stop")
    assert outcome.code == 1
    assert "health.action=stop has no effect" in outcome.err


def test_lightnings_checkpoints_and_bar_can_be_added(dcgan_train):
    own = "+callbacks.every={_target_:lightning.pytorch.callbacks.ModelCheckpoint,dirpath:more}"
    bar = "+callbacks.bar={_target_:lightning.pytorch.callbacks.TQDMProgressBar}"
    outcome = dcgan_train(*TINY, *RUN, "evaluator=none", "max_epochs=1", own, bar)
    assert outcome.code == 0, outcome.err
    assert list(Path("more").glob("*.ckpt"))
