import numpy as np
import pytest

from dcgan.common.errors import UserError
from dcgan.exporting.web_page import GRID_IMAGES, WALK_IMAGES, Explorer
from dcgan.sampling.base import load_matching_judge
from dcgan.sampling.latent_walks import principal_directions
from dcgan.sampling.trained_generator import load_generator


def pixels(picture, factor: int) -> np.ndarray:
    """Return the first channel of a picture that was enlarged by `factor`."""
    return np.array(picture)[::factor, ::factor, 0]


def test_sliders_set_z(plain_run):
    g = load_generator(plain_run)
    explorer = Explorer(g, None, "principal", [0, 2])
    axes = principal_directions(g.network)
    z = 0.7 * g.z(1, 5) + 2 * axes[:1] - 1 * axes[2:3]
    picture, prediction = explorer.render(5, 0.7, None, 2.0, -1.0)
    assert np.array_equal(pixels(picture, 18), next(g.generate(z))[0, 0].numpy())
    assert prediction == {}


def test_label_and_prediction(conditional_run):
    g, judge = load_generator(conditional_run), load_matching_judge(load_generator(conditional_run))
    explorer = Explorer(g, judge, "coordinate", [0, 1])
    pictures = [explorer.render(0, 1.0, str(label), 0.0, 0.0)[0] for label in range(10)]
    assert len({picture.tobytes() for picture in pictures}) == 10
    expected = g.sample(1, label=7)
    assert np.array_equal(pixels(pictures[7], 18), expected[0, 0].numpy())
    _, prediction = explorer.render(0, 1.0, "7", 0.0, 0.0)
    assert list(prediction) == [str(k) for k in range(10)]
    assert sum(prediction.values()) == pytest.approx(1)
    assert max(prediction, key=prediction.get) == str(judge.classify(expected).argmax().item())


def test_grid_shows_consecutive_seeds(plain_run):
    explorer = Explorer(load_generator(plain_run), None, "principal", [0, 1])
    pictures, captions = zip(*explorer.grid(40, 1.0, None), strict=True)
    assert captions == tuple(str(seed) for seed in range(40, 40 + GRID_IMAGES))
    for seed in (40, 47):
        expected = explorer.render(seed, 1.0, None, 0.0, 0.0)[0]
        assert np.abs(pixels(pictures[seed - 40], 5).astype(int) - pixels(expected, 18).astype(int)).max() <= 1


def test_walk_connects_two_seeds(conditional_run):
    explorer = Explorer(load_generator(conditional_run), None, "principal", [0, 1])
    walk = pixels(explorer.walk(3, 8, 0.5, "2"), 3).astype(int)
    assert walk.shape == (32, 2 + 30 * WALK_IMAGES)
    for seed, cell in ((3, walk[2:30, 2:30]), (8, walk[2:30, -30:-2])):
        end = pixels(explorer.render(seed, 0.5, "2", 0.0, 0.0)[0], 18).astype(int)
        assert np.abs(cell - end).max() <= 1


def test_invalid_values_are_rejected(plain_run):
    g = load_generator(plain_run)
    with pytest.raises(ValueError, match="directions must be two indices, got"):
        Explorer(g, None, "principal", [1])
    with pytest.raises(UserError, match="directions must be from 0 to 7"):
        Explorer(g, None, "principal", [1, 8])
    with pytest.raises(ValueError, match="seed must be an integer >= 0"):
        Explorer(g, None, "principal", [0, 1]).grid(-1, 1.0, None)
