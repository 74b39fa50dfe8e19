"""NaN and infinity in the data, a loss or a gradient: the error names the step, and the last good state is saved."""

import math
from collections.abc import Callable

import pytest
import torch

from dcgan.checkpoints.io import read_checkpoint
from dcgan.data.pixel_range import PixelRange
from dcgan.losses.adversarial import NonSaturating
from tests.conftest import TINY
from tests.processes import run_two_ranks
from tests.run_files import RUN, different_tensors, weights

STEPS = [*TINY, *RUN, "max_steps=12", "evaluator=none", "checkpoints.every_n_steps=2"]


class BrokenGradient(torch.autograd.Function):
    """The identity, with a gradient that is not finite."""

    @staticmethod
    def forward(ctx, loss):
        return loss.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * math.inf


def patch_call(number: int, function: Callable, change: Callable) -> Callable:
    """Return the function with its result changed in one call, counted from 1.

    Calls with a single logit do not count: `Health` uses them to find the range of D's loss.
    """
    calls: list[int] = []

    def patched(*args):
        result = function(*args)
        if len(args[-1]) == 1:
            return result
        calls.append(1)
        return change(result) if len(calls) == number else result

    return patched


def break_data(patch: pytest.MonkeyPatch, value: float) -> None:
    """Multiply the real images of step 7."""
    encode = PixelRange.encode
    patch.setattr(PixelRange, "encode", patch_call(7, encode, lambda real: real * value))


def break_loss(patch: pytest.MonkeyPatch, network: str, change: Callable) -> None:
    """Change the network's loss at step 7."""
    patch.setattr(NonSaturating, network, patch_call(7, getattr(NonSaturating, network), change))


NOT_FINITE = "the discriminator's outputs for the real images are not finite"


@pytest.mark.parametrize(
    ("break_run", "log_every", "expected"),
    [
        (lambda patch: break_data(patch, math.nan), 1, ("7 loss_d was nan and loss_g nan", NOT_FINITE)),
        (lambda patch: break_data(patch, math.inf), 5, ("7 loss_d was nan and loss_g nan", NOT_FINITE)),
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
        # every step is read: the gradient is found before it has changed a loss
        (lambda patch: break_loss(patch, "generator", BrokenGradient.apply), 1, ("7 the generator's gradient was",)),
    ],
    ids=["nan data", "inf data", "nan loss_d", "inf loss_g", "gradient of d", "gradient of g", "found at once"],
)
def test_error_names_step_and_cause_and_the_last_good_state_is_saved(
    dcgan_train, monkeypatch, break_run, log_every, expected, trained_run
):
    with monkeypatch.context() as patch:
        break_run(patch)
        outcome = dcgan_train(*STEPS, f"log.every_n_steps={log_every}")
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert f"at step {expected[0]}" in outcome.err
    assert all(part in outcome.err for part in expected)
    assert "run/checkpoints/last.ckpt holds the last good state, of step 6" in outcome.err
    checkpoint = read_checkpoint("run/checkpoints/last.ckpt")
    assert checkpoint["step"] == 6
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())
    if log_every == 5:
        return
    assert dcgan_train("ckpt_path=run/checkpoints/last.ckpt").code == 0
    trained_run("max_steps=12", folder="uninterrupted")
    assert different_tensors(weights("uninterrupted"), weights()) == []


BROKEN_ON_RANK_1 = """
import math, os
from dcgan import train
from dcgan.losses.adversarial import NonSaturating
generator, calls = NonSaturating.generator, []
def patched(self, fake_logits):
    calls.append(1)
    return generator(self, fake_logits) * (math.nan if len(calls) == 7 and os.environ.get("LOCAL_RANK") == "1" else 1)
NonSaturating.generator = patched
if __name__ == "__main__":
    train.main()
"""


def test_both_ranks_stop_if_the_loss_of_one_is_not_finite(tmp_path, mnist_root):
    (tmp_path / "broken.py").write_text(BROKEN_ON_RANK_1)
    done = run_two_ranks("broken.py", *STEPS, "trainer=ddp_cpu", f"data.root={mnist_root}", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("at step 7 loss_d was") == 1
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["step"] == 6
