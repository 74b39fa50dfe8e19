"""Each optimizer and scheduler is resumed exactly; states that do not fit are rejected."""

import copy
from pathlib import Path

import pytest
import torch

from dcgan.training.optimizer_states import convert
from tests.conftest import TINY, options
from tests.run_files import RUN, copy_run_at, rows
from tests.torture import differences

NO_MOMENTUM = "~optimizer.generator.momentum"
QUICK = [
    *TINY,
    "trainer=cpu",
    "evaluator=none",
    "samples.steps=[0]",
    "log.every_n_steps=1",
    "checkpoints.every_n_steps=1",
]
MULTI_STEP = "{_target_:torch.optim.lr_scheduler.MultiStepLR,_partial_:true,milestones:[2,5],gamma:0.5}"
ONE_CYCLE = "{_target_:torch.optim.lr_scheduler.OneCycleLR,_partial_:true,max_lr:0.01,total_steps:${scheduler.steps}}"


@pytest.mark.parametrize(
    "settings",
    [
        ["optimizer=adam"],
        ["optimizer=adamw", "scheduler=cosine"],
        ["optimizer=rmsprop", "optimizer.momentum=0.5", "scheduler=linear", "scheduler.steps=5"],
        ["optimizer=sgd", "scheduler=cosine", "scheduler.eta_min=1e-4"],
        [
            "optimizer=rmsprop",
            "optimizer.generator._target_=torch.optim.Adadelta",
            "~optimizer.generator.alpha",
            "~optimizer.generator.lr",
            NO_MOMENTUM,
        ],
        ["+optimizer.generator.amsgrad=true", f"scheduler={{generator:{MULTI_STEP},discriminator:{MULTI_STEP}}}"],
        [f"scheduler={{steps:null,generator:{ONE_CYCLE},discriminator:{ONE_CYCLE}}}"],
    ],
    ids=lambda settings: settings[0].partition("{")[0],
)
def test_resume_is_exact(dcgan_train, settings):
    undo = copy_run_at(0, 3, 6)
    try:
        outcome = dcgan_train(*QUICK, *settings, "max_steps=8", "hydra.run.dir=run")
        assert outcome.code == 0, outcome.err
    finally:
        undo()
    for step in (0, 3, 6):
        outcome = dcgan_train(f"ckpt_path=run_at_{step}/checkpoints/last.ckpt", "trainer=cpu")
        assert (outcome.code, outcome.err) == (0, "")
        assert differences(Path("run"), Path(f"run_at_{step}")) == []


@pytest.mark.parametrize("scheduler", ["linear", "cosine"])
def test_schedule_ends_with_the_run(dcgan_train, scheduler):
    """Also if the run is as long as a number of epochs."""
    outcome = dcgan_train(*QUICK, f"scheduler={scheduler}", "max_epochs=1", "hydra.run.dir=run")
    assert outcome.code == 0, outcome.err
    rates = [float(row["train/lr_d"]) for row in rows()]
    assert len(rates) == 8
    assert rates[-1] == pytest.approx(0, abs=1e-9)
    assert rates[3] == pytest.approx(1e-4)  # after half of the run, half the rate
    assert rates == sorted(rates, reverse=True)


def test_warm_up_ends_at_the_optimizers_rate(dcgan_train):
    dcgan_train(*QUICK, "scheduler=warm_up", "scheduler.steps=4", "max_steps=6", "hydra.run.dir=run")
    rates = [float(row["train/lr_d"]) for row in rows()]
    assert rates == pytest.approx([2e-4 * (0.01 + 0.99 * step / 4) for step in (1, 2, 3)] + 3 * [2e-4])


def test_changed_rate_scales_the_rest_of_a_schedule(dcgan_train):
    dcgan_train(*QUICK, "scheduler=linear", "scheduler.steps=8", "max_steps=4", "hydra.run.dir=run")
    outcome = dcgan_train(
        "ckpt_path=run/checkpoints/last.ckpt", "max_steps=6", "optimizer.generator.lr=4e-4", "trainer=cpu"
    )
    assert "learning rates change (generator 0.0002 -> 0.0004)" in outcome.err
    assert float(rows()[-1]["train/lr_g"]) == pytest.approx(4e-4 * 2 / 8)
    assert float(rows()[-1]["train/lr_d"]) == pytest.approx(2e-4 * 2 / 8)


@pytest.mark.parametrize("optimizer", options("optimizer"))
def test_every_optimizer_trains(dcgan_train, optimizer):
    outcome = dcgan_train(*TINY, *RUN, "evaluator=none", "max_steps=2", f"optimizer={optimizer}", "optimizer.lr=1e-4")
    assert (outcome.code, outcome.err) == (0, "")


def test_scheduler_that_needs_a_metric_is_rejected(dcgan_train):
    plateau = "{_target_:torch.optim.lr_scheduler.ReduceLROnPlateau,_partial_:true}"
    outcome = dcgan_train(*TINY, *RUN, "max_steps=2", f"scheduler={{generator:{plateau},discriminator:{plateau}}}")
    assert outcome.code == 1
    assert "needs a metric at each step" in outcome.err


REFERENCE = {"step": torch.zeros(()), "moments": [torch.zeros(2, 3)], "epoch": 1, "rates": [0.1], "name": "x"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("step", torch.zeros(1)),
        ("moments", [torch.zeros(3, 2)]),
        ("moments", [1.0]),
        ("moments", []),
        ("epoch", "1"),
        ("epoch", None),
        ("rates", {"0": 0.1}),
        ("name", 3),
    ],
)
def test_states_that_do_not_fit_are_rejected(name, value):
    saved = copy.deepcopy(REFERENCE)
    assert str(convert(REFERENCE, saved)) == str(saved)
    saved[name] = value
    with pytest.raises(ValueError, match="instead of"):
        convert(REFERENCE, saved)
    del saved[name]
    with pytest.raises(ValueError, match="instead of"):
        convert(REFERENCE, saved)
