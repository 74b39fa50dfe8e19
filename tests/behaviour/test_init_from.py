"""A new run that starts from the weights of another one."""

import json
from pathlib import Path

import pytest
import torch

from tests.conftest import TINY
from tests.run_files import RUN, different_tensors, weights


def part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}


@pytest.mark.parametrize("average", [False, True])
def test_weights_are_those_of_the_checkpoint_and_all_else_is_new(dcgan_train, plain_run, average):
    settings = ["optimizer=sgd", "optimizer.lr=1e-30", "loss=hinge", "seed=5", "evaluator=none", "ema.decay=.5"]
    outcome = dcgan_train(
        *TINY,
        *RUN,
        f"init_from={plain_run}",
        f"init_from_ema={average}",
        *settings,
        "normalization.momentum=1e-12",
        "discriminator_normalization.momentum=1e-12",
        "max_steps=1",
    )
    assert (outcome.code, outcome.err) == (0, "")
    before, after = weights(plain_run.parent.parent), weights()
    learned = [name for name in before if not name.endswith("num_batches_tracked") and "fixed_z" not in name]
    before, after = ({name: tensors[name] for name in learned} for tensors in (before, after))
    assert different_tensors(part(before, "discriminator."), part(after, "discriminator.")) == []
    source = part(before, "ema.network." if average else "generator.")
    assert different_tensors(source, part(after, "generator.")) == []
    assert different_tensors(source, part(after, "ema.network.")) == []
    assert json.loads(Path("run/summary.json").read_text())["init_from"] == {
        "checkpoint": str(plain_run),
        "step": 4,
        "average": average,
    }


def test_resume_does_not_start_from_the_weights_again(dcgan_train, plain_run):
    settings = [*TINY, "trainer=cpu", "evaluator=none", f"init_from={plain_run}"]
    dcgan_train(*settings, "max_steps=4", "hydra.run.dir=uninterrupted")
    dcgan_train(*settings, "max_steps=2", "hydra.run.dir=run")
    outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=4", "trainer=cpu")
    assert (outcome.code, outcome.err) == (0, "")
    assert different_tensors(weights("uninterrupted"), weights()) == []


def test_mistakes_are_sentences(dcgan_train, plain_run, conditional_run):
    for overrides, sentence in (
        (["init_from=missing.ckpt"], "there is no checkpoint missing.ckpt"),
        (
            [f"init_from={plain_run}", "model.base_channels=8"],
            f"the weights of {plain_run} do not fit this run's model:",
        ),
        ([f"init_from={plain_run}", "activation=prelu"], "do not fit this run's model: Missing key(s) in state_dict"),
        ([f"init_from={conditional_run}", "init_from_ema=true"], "has no average of the weights"),
    ):
        outcome = dcgan_train(*TINY, *RUN, "max_steps=1", *overrides)
        assert outcome.code == 1
        assert sentence in outcome.err
        assert "Traceback" not in outcome.err
