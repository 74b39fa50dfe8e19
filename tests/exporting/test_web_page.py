import numpy as np
import pytest
import torch

from dcgan.common.errors import UserError
from dcgan.exporting.web_page import Explorer
from dcgan.sampling.base import load_matching_judge
from dcgan.sampling.latent_walks import principal_directions
from dcgan.sampling.trained_generator import load_generator


def test_sliders_set_z(plain_run):
    g = load_generator(plain_run)
    explorer = Explorer(g, None, "principal", [0, 2])
    axes = principal_directions(g.network)
    z = 0.7 * g.z(1, 5) + 2 * axes[:1] - 1 * axes[2:3]
    expected = next(g.generate(z))
    picture, prediction = explorer.render(5, 0.7, None, 2.0, -1.0)
    assert np.array_equal(np.array(picture)[::18, ::18, 0], expected[0, 0].numpy())
    assert prediction == {}


def test_label_and_prediction(conditional_run):
    g = load_generator(conditional_run)
    explorer = Explorer(g, load_matching_judge(g), "coordinate", [0, 1])
    images = [explorer.generate(0, 1.0, label, 0.0, 0.0) for label in range(10)]
    assert len({tuple(image.flatten().tolist()) for image in images}) == 10
    assert torch.equal(images[7], g.sample(1, label=7))
    _, prediction = explorer.render(0, 1.0, "7", 0.0, 0.0)
    assert list(prediction) == [str(k) for k in range(10)]
    assert sum(prediction.values()) == pytest.approx(1)
    assert max(prediction, key=prediction.get) == str(load_matching_judge(g).classify(images[7]).argmax().item())


def test_invalid_directions_are_rejected(plain_run):
    with pytest.raises(ValueError, match="directions must be two indices, got"):
        Explorer(load_generator(plain_run), None, "principal", [1])
    with pytest.raises(UserError, match="directions must be from 0 to 7"):
        Explorer(load_generator(plain_run), None, "principal", [1, 8])
