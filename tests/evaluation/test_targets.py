from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from dcgan.common.errors import UserError
from dcgan.evaluation.targets import read_samples, samples_target
from tests.conftest import compose_config


def random_pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def save(path: Path, array: np.ndarray) -> Path:
    np.save(path / "samples.npy", array)
    return path / "samples.npy"


def test_floats_are_read_as_pixels(tmp_path):
    pixels = random_pixels(16, 28, 28)
    images = read_samples(save(tmp_path, (pixels / 255).astype(np.float32)), 1, 28)
    assert torch.equal(images[:, 0], torch.from_numpy(pixels))


def test_images_of_a_file_are_taken_at_random(tmp_path):
    """A file may be sorted by class, and some metrics read a part of the images."""
    pixels = np.arange(200, dtype=np.uint8)[:, None, None] * np.ones((28, 28), np.uint8)
    cfg = OmegaConf.to_container(compose_config(), resolve=True)
    cfg |= {"samples": str(save(tmp_path, pixels)), "batch_size": 50}
    target = samples_target(OmegaConf.create(cfg), tmp_path, "mnist")
    few, all_ = (torch.cat([*target.generate(n)])[:, 0, 0, 0].tolist() for n in (100, 200))
    assert few == all_[:100] != [*range(100)]
    assert sorted(all_) == [*range(200)]


def test_color_images_are_read_with_channels_first_or_last(tmp_path):
    pixels = random_pixels(4, 28, 28, 3)
    expected = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    for array in (pixels, np.moveaxis(pixels, 3, 1)):
        assert torch.equal(read_samples(save(tmp_path, array), 3, 28), expected)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((0, 28, 28), np.uint8), "the array is empty"),
        (
            random_pixels(5, 32, 32),
            "must be N x 28 x 28 or N x 1 x 28 x 28, got 5 x 1 x 32 x 32: give data.image_size=",
        ),
        (random_pixels(5, 28, 28, 3), "must be N x 28 x 28"),
        (random_pixels(5, 28, 32), "crop or resize them to squares"),
        (random_pixels(28, 28), "must be N x 28 x 28"),
        (np.full((5, 28, 28), np.nan, np.float32), "there are NaN or infinite pixels"),
        (np.full((5, 28, 28), -0.5, np.float32), "must be in [0, 1], got [-0.5, -0.5]"),
        (random_pixels(5, 28, 28).astype(np.float32), "must be in [0, 1]"),
        (random_pixels(5, 28, 28).astype(np.int64), "must be uint8 or floats in [0, 1], got int64"),
        (np.array([{}] * 3), "cannot be read as an .npy file"),
    ],
)
def test_other_arrays_are_rejected(tmp_path, array, message):
    with pytest.raises(UserError) as error:
        read_samples(save(tmp_path, array), 1, 28)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_checkpoint_is_evaluated_on_its_own_data_only(trained_run, dcgan_evaluate):
    trained_run("max_steps=1")
    checkpoint = "checkpoint=run/checkpoints/last.ckpt"
    assert "was trained on data=mnist, not on kmnist" in dcgan_evaluate(checkpoint, "data=kmnist").err
    for key in ("data.image_size=32", "~data.image_size", "output=sigmoid", "discriminator_steps=2"):
        assert "is set by the checkpoint: omit it" in dcgan_evaluate(checkpoint, key).err
    assert dcgan_evaluate(checkpoint, "data=mnist", "evaluator=none").code == 0
