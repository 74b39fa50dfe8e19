"""The training images as `mode=data` shows them."""

import numpy as np
import torch
from hydra.utils import instantiate
from PIL import Image

from tests.conftest import compose_config


def test_data_mode_shows_the_training_images_of_the_seed(dcgan_sample, plain_run):
    assert dcgan_sample("mode=data", "out=a.npy", "data.image_size=32").code == 0
    assert np.load("a.npy").shape == (25, 32, 32)
    dcgan_sample(f"checkpoint={plain_run}", "mode=data", "out=b.npy", "n=64")
    corners = np.load("b.npy")[:, 0, 0]
    assert sorted(corners) == list(range(64))  # each training image once
    dcgan_sample(f"checkpoint={plain_run}", "mode=data", "out=c.npy", "n=64", "seed=1")
    assert not np.array_equal(np.load("c.npy")[:, 0, 0], corners)
    dcgan_sample("mode=data", "out=a.png", "scale=3")
    with Image.open("a.png") as picture:
        assert picture.size == (5 * (32 * 3 + 2) + 2, 5 * (32 * 3 + 18 + 2) + 2)
    outcome = dcgan_sample(f"checkpoint={plain_run}", "mode=data", "data=digits", "out=d.png")
    assert "was trained on data=mnist, not on digits" in outcome.err
    outcome = dcgan_sample(f"checkpoint={plain_run}", "data.image_size=32", "out=d.png")
    assert "data.image_size is set by the checkpoint: omit it" in outcome.err


def test_caption_of_a_training_image_is_its_label():
    data = instantiate(compose_config("data=digits").data)
    data.setup("fit")
    images, names = data.examples([5, 0, 9])
    stored, labels = data.load(train=True)
    assert names == [str(labels[i].item()) for i in (5, 0, 9)]
    assert torch.equal(images, data.resize(stored[[5, 0, 9]]))
