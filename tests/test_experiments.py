"""The benchmarks and searches still run against the package as it is; their figures are not for tests."""

import json
import sys

import pytest
import torch

from experiments.bench import bare, configured, endless
from experiments.throughput import bare as bare_loop
from experiments.throughput import example, inside, measure
from experiments.time_to_quality import race, search
from experiments.time_to_quality.prototype import BATCH, LATENT, Prototype
from tests.conftest import TINY


@pytest.mark.parametrize("script", [bare_loop, example], ids=lambda script: script.__name__)
def test_the_arms_of_the_benchmark_train(script, monkeypatch, capsys):
    steps = script.WARM_UP + 2
    monkeypatch.setattr(sys, "argv", ["script", str(steps), *TINY, "data.batch_size=2"])
    script.main()
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["images_per_second"] > 0
    assert said.keys() == {"images_per_second", "first_step"}


def test_the_shipped_arm_is_read_behind_its_warm_up(monkeypatch):
    """It reads a run's own files: from the rows behind the first one, and from the first step's picture."""
    monkeypatch.setattr(measure, "WARM_UP", 2)
    run = measure.shipped(4, [*TINY, "trainer=cpu", "log.every_n_steps=2", "evaluator=none"])
    assert run["images_per_second"] > 0
    assert 0 < run["first_step"] < run["seconds"]
    assert run["peak_mb"] > 100


def test_the_share_of_the_step_is_told(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["script", str(inside.WARM_UP + 4), *TINY, "trainer=cpu", "evaluator=none"])
    inside.main()
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert 0 < said["share"] < 1
    assert said["ms_outside"] > 0


def test_the_prototype_trains_and_draws():
    prototype = Prototype(seed=0)
    before = [p.clone() for p in prototype.average.parameters()]
    for _ in range(2):
        prototype.training_step(torch.rand(BATCH, 1, 28, 28))
    assert all(not torch.equal(a, b) for a, b in zip(before, prototype.average.parameters(), strict=True))
    images = prototype.sample(torch.randn(3, LATENT))
    assert (images.shape, images.dtype) == ((3, 1, 28, 28), torch.uint8)


def test_every_recipe_of_the_race_and_the_searches_can_be_built():
    for overrides in race.RECIPES.values():
        configured(*overrides)
    for overrides in (search.BASELINE, *search.FINALISTS):
        configured(*overrides)
    for space in search.SPACES.values():
        for choices in space.values():
            for overrides in choices:
                config = configured(*TINY, *overrides, "data.batch_size=4")
                bare(config).training_step(next(endless(config)), 0)
