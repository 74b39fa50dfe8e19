import pytest
from PIL import Image

from dcgan.training.callbacks.sample_grids import SampleGrids


@pytest.mark.parametrize(
    ("steps", "due"),
    [([0, 1, 100], [0, 1, 100, 200, 400, 800, 1600]), ([3, 3], [3, 6, 12]), ([0], [0, 1, 2, 4, 8]), ([], [])],
)
def test_grids_are_due_at_the_given_steps_and_each_doubling_of_the_last(steps, due):
    samples = SampleGrids(steps)
    assert [step for step in range(due[-1] + 2 if due else 10) if samples.is_due(step)] == due


def test_bad_steps_are_rejected():
    with pytest.raises(ValueError, match=r"samples\.steps must be an integer >= 0, got -1"):
        SampleGrids([1, -1])


def test_grids_are_saved_at_the_given_steps_and_at_the_end(plain_run):
    files = sorted((plain_run.parents[1] / "samples").iterdir())
    assert [path.name for path in files] == ["step_000000.png", "step_000002.png", "step_000004.png"]
    with Image.open(files[-1]) as image:
        assert image.size[0] == image.size[1] >= 400
