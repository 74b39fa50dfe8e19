"""The grids of a run over its steps."""

import numpy as np
import pytest
import torch
from PIL import Image

from dcgan.common.image_grid import enlarge
from dcgan.sampling.progression import enlargement_factor


def test_progression_shows_the_sample_grids_of_the_run(dcgan_sample, plain_run):
    run = plain_run.parent.parent
    outcome = dcgan_sample(f"checkpoint={plain_run}", "mode=progression", "out=a.npy", "steps=[4,2,100]")
    assert outcome.code == 0, outcome.err
    panels = np.load("a.npy")
    assert panels.shape == (2, 62, 62, 3)
    for panel, step in zip(panels, (2, 4), strict=True):
        with Image.open(run / "samples" / f"step_{step:06d}.png") as picture:
            assert np.array_equal(np.array(picture), panel.repeat(8, 0).repeat(8, 1))
    dcgan_sample(f"checkpoint={plain_run}", "mode=progression", "out=all.npy")  # the run has none of the default steps
    assert len(np.load("all.npy")) == 3
    dcgan_sample(f"checkpoint={plain_run}", "mode=progression", "out=two.npy", "n=2")
    assert np.array_equal(np.load("two.npy"), np.load("all.npy")[[0, 2]])
    dcgan_sample(f"checkpoint={plain_run}", "mode=progression", "out=a.gif")
    with Image.open("a.gif") as gif:
        assert gif.n_frames == 3


@pytest.mark.parametrize("run", ["plain_run", "conditional_run"])
def test_progression_can_be_generated_from_checkpoints(dcgan_sample, run, request):
    checkpoint = request.getfixturevalue(run)
    outcome = dcgan_sample(f"checkpoint={checkpoint}", "mode=progression", "grids=checkpoints", "out=a.npy")
    assert outcome.code == 0, outcome.err
    dcgan_sample(f"checkpoint={checkpoint}", "mode=progression", "out=b.npy")
    assert np.array_equal(np.load("a.npy")[-1], np.load("b.npy")[-1])


def test_enlargement_factor_is_found():
    small = torch.arange(3 * 6 * 9, dtype=torch.uint8).reshape(3, 6, 9)
    for factor in (1, 2, 5):
        assert enlargement_factor(enlarge(small, factor)) == factor
