"""The benchmarks and searches still run against the package as it is; their figures are not for tests."""

import pytest
import torch

from experiments.bench import bare, endless
from experiments.composing import configured
from experiments.throughput import measure
from experiments.time_to_quality import race, search
from experiments.time_to_quality.prototype import BATCH, LATENT, Prototype
from tests.conftest import TINY


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("bare", {"images_per_second", "first_step"}),
        ("example", {"images_per_second", "first_step"}),
        ("inside", {"share", "ms_outside"}),
    ],
)
def test_the_arms_of_the_benchmark_train(script, said):
    extra = ["trainer=cpu", "evaluator=none"] if script == "inside" else []
    run = measure.said_by(script, measure.WARM_UP + 4, [*TINY, "data.batch_size=2", *extra])
    assert all(run[name] > 0 for name in said)


def test_the_bare_loop_refuses_a_step_that_it_has_not():
    with pytest.raises(measure.Failed, match="the bare loop has the default's step alone"):
        measure.said_by("bare", 30, [*TINY, "ema.decay=.9"])


def test_the_shipped_arm_is_read_behind_its_warm_up(monkeypatch):
    """It reads a run's own files: from the rows behind the first one, and from the first step's picture."""
    monkeypatch.setattr(measure, "WARM_UP", 2)
    run = measure.shipped(4, [*TINY, "trainer=cpu", "log.every_n_steps=2", "evaluator=none"])
    assert run["images_per_second"] > 0
    assert 0 < run["first_step"] < run["seconds"]
    assert run["peak_mb"] > 100


def test_the_prototype_trains_and_draws():
    prototype = Prototype(seed=0)
    before = [p.clone() for p in prototype.average.parameters()]
    for _ in range(2):
        prototype.training_step(torch.rand(BATCH, 1, 28, 28))
    assert all(not torch.equal(a, b) for a, b in zip(before, prototype.average.parameters(), strict=True))
    images = prototype.sample(torch.randn(3, LATENT))
    assert (images.shape, images.dtype) == ((3, 1, 28, 28), torch.uint8)


def test_every_recipe_of_the_race_and_the_searches_can_be_built():
    choices = [overrides for space in search.SPACES.values() for options in space.values() for overrides in options]
    recipes = [*race.RECIPES.values(), search.BASELINE, *search.FINALISTS, *choices]
    for recipe in {tuple(recipe) for recipe in recipes}:
        bare(configured(*TINY, *recipe))


def test_the_batches_of_a_benchmark_never_end():
    config = configured(*TINY)
    gan, batches = bare(config), endless(config)
    for i in range(64 // 8 + 1):
        gan.training_step(next(batches), i)
    assert gan.step == 9
