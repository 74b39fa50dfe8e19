"""NaN and infinity: in the data, a loss or a gradient, the step is named, and the last good state is kept."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dcgan import pixels
from dcgan.losses import NonSaturating
from dcgan.trained import read_checkpoint
from tests.conftest import TINY
from tests.runs import RUN, differing, keep_states, weights

STEPS = [*TINY, *RUN, "max_steps=12", "evaluator=none", "checkpoints.every_n_steps=2"]


class BrokenGradient(torch.autograd.Function):
    """The loss is as it was, its gradient is not finite."""

    @staticmethod
    def forward(ctx, loss):
        return loss.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * math.inf


def at_call(number: int, function: Callable, change: Callable) -> Callable:
    """Calls with a single logit do not count: so Health asks before the training what D's loss can be."""
    calls: list[int] = []

    def spied(*args):
        result = function(*args)
        if len(args[-1]) == 1:
            return result
        calls.append(1)
        return change(result) if len(calls) == number else result

    return spied


def break_data(patch: pytest.MonkeyPatch, value: float) -> None:
    patch.setattr(pixels.PixelRange, "encode", at_call(7, pixels.PixelRange.encode, lambda real: real * value))


def break_loss(patch: pytest.MonkeyPatch, which: str, change: Callable) -> None:
    """At step 7."""
    patch.setattr(NonSaturating, which, at_call(7, getattr(NonSaturating, which), change))


NO_DATA = "the discriminator's outputs for the real images are not finite, look at the data"


@pytest.mark.parametrize(
    ("broken", "every", "said"),
    [
        (lambda patch: break_data(patch, math.nan), 1, ("7 loss_d was nan and loss_g nan", NO_DATA)),
        (lambda patch: break_data(patch, math.inf), 5, ("7 loss_d was nan and loss_g nan", NO_DATA)),
        (
            lambda patch: break_loss(patch, "discriminator", lambda x: x * math.nan),
            5,
            ("7 loss_d was", "(the loss itself)"),
        ),
        (lambda patch: break_loss(patch, "generator", lambda x: x * math.inf), 5, ("7 loss_d was", "loss_g inf")),
        (
            lambda patch: break_loss(patch, "discriminator", BrokenGradient.apply),
            5,
            ("7 loss_d was", "discriminator's gradient of that"),
        ),
        (lambda patch: break_loss(patch, "generator", BrokenGradient.apply), 5, ("8 loss_d was", "gradient of step 7")),
        # each step's row is looked at: seen before it has done anything
        (lambda patch: break_loss(patch, "generator", BrokenGradient.apply), 1, ("7 the generator's gradient was",)),
    ],
    ids=["nan data", "inf data", "nan loss_d", "inf loss_g", "gradient of d", "gradient of g", "seen at once"],
)
def test_step_and_cause_are_named_and_the_last_good_state_is_kept(dcgan_train, monkeypatch, broken, every, said):
    with monkeypatch.context() as patch:
        broken(patch)
        outcome = dcgan_train(*STEPS, f"log.every_n_steps={every}")
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert f"at step {said[0]}" in outcome.err
    assert all(part in outcome.err for part in said)
    assert "run/checkpoints/last.ckpt holds the last good state, of step 6" in outcome.err
    kept = read_checkpoint("run/checkpoints/last.ckpt")
    assert kept["step"] == 6
    assert all(value.isfinite().all() for value in kept["state_dict"].values())
    if every == 5:
        return
    assert dcgan_train("ckpt_path=run/checkpoints/last.ckpt").code == 0
    dcgan_train(*STEPS, "hydra.run.dir=whole")
    assert differing(weights("whole"), weights()) == []


def rates(run: str = "run") -> list[float]:
    optimizers = read_checkpoint(Path(run, "checkpoints", "last.ckpt"))["optimizer_states"]
    return [optimizer["param_groups"][0]["lr"] for optimizer in optimizers]


def test_rollback_goes_back_once_with_half_the_rates_and_a_resumed_run_keeps_them(dcgan_train, monkeypatch):
    undo = keep_states(10)
    try:
        with monkeypatch.context() as patch:
            break_loss(patch, "generator", lambda x: x * math.nan)
            outcome = dcgan_train(*STEPS, "health.action=rollback", "optimizer.generator.lr=4e-4")
    finally:
        undo()
    assert outcome.code == 0, outcome.err
    assert "rollback       training stopped: at step 7" in outcome.out
    assert "step 12/12" in outcome.out
    assert rates() == [1e-4, 2e-4]
    assert json.loads(Path("run/summary.json").read_text())["rolled_back"] == 6
    dcgan_train("ckpt_path=run_at_10/checkpoints/last.ckpt")
    assert rates("run_at_10") == [1e-4, 2e-4]
    assert differing(weights("run_at_10"), weights()) == []
    dcgan_train(*STEPS, "optimizer.generator.lr=4e-4", "hydra.run.dir=whole")
    assert differing(weights("whole"), weights()) != []


@pytest.mark.parametrize("again", ["at once", "after a resumption"])
def test_rollback_does_not_go_back_twice(dcgan_train, monkeypatch, again):
    with monkeypatch.context() as patch:
        if again == "at once":
            patch.setattr(NonSaturating, "generator", lambda self, fake_logits: fake_logits.mean() * math.nan)
        else:
            break_loss(patch, "generator", lambda x: x * math.nan)
        outcome = dcgan_train(*STEPS, "health.action=rollback")
    if again == "after a resumption":
        assert outcome.code == 0
        monkeypatch.setattr(NonSaturating, "generator", lambda self, fake_logits: fake_logits.mean() * math.nan)
        outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=20")
    assert outcome.code == 1
    assert "training stopped: at step" in outcome.err
    assert rates() == [1e-4, 1e-4]


def test_without_rollback_the_run_stops(dcgan_train, monkeypatch):
    break_loss(monkeypatch, "generator", lambda x: x * math.nan)
    assert dcgan_train(*STEPS, "health.action=warn").code == 1
    assert rates() == [2e-4, 2e-4]


BROKEN_ONCE = """
import math, os
from dcgan import train
from dcgan.losses import NonSaturating
generator, calls = NonSaturating.generator, []
def broken(self, fake_logits):
    calls.append(1)
    return generator(self, fake_logits) * (math.nan if len(calls) == 7 and os.environ.get("LOCAL_RANK") == "1" else 1)
NonSaturating.generator = broken
if __name__ == "__main__":
    train.main()
"""


def test_two_processes_go_back_together_also_where_one_of_them_is_broken(tmp_path, mnist_root):
    (tmp_path / "broken.py").write_text(BROKEN_ONCE)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    settings = [setting for setting in STEPS if not setting.startswith("hydra.run.dir")]  # the first one knows
    done = subprocess.run(
        [*torchrun, "broken.py", *settings, "trainer=ddp_cpu", "health.action=rollback", f"data.root={mnist_root}"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("rollback") == 1
    (run,) = tmp_path.glob("runs/*/*")
    assert json.loads((run / "summary.json").read_text())["rolled_back"] == 6
    assert read_checkpoint(run / "checkpoints" / "last.ckpt")["step"] == 12
