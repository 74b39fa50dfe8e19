"""Samples next to their nearest training images."""

from types import SimpleNamespace

import numpy as np
import torch

from dcgan.sampling.base import SampleSource
from dcgan.sampling.nearest_training_images import NearestTrainingImages
from dcgan.sampling.trained_generator import load_generator


def random_images(n: int) -> torch.Tensor:
    return torch.randint(0, 256, (n, 1, 28, 28), dtype=torch.uint8, generator=torch.manual_seed(0))


def fake_source(samples: torch.Tensor, train: torch.Tensor, mirrored: bool = False) -> SampleSource:
    """Return a source that generates `samples`."""
    source = SampleSource(None, "cpu", 200)
    generator = SimpleNamespace(
        z=lambda n, seed, truncation: torch.zeros(n, 1),
        labels=lambda n, seed, label: None,
        generate=lambda z, label, batch_size: iter([samples]),
        device=torch.device("cpu"),
    )
    data = SimpleNamespace(
        train_images=train, mirrored=mirrored, channels=1, examples=lambda indices: (train[indices], None)
    )
    source.__dict__.update(generator=generator, training_data=data)
    return source


def test_nearest_image_is_on_the_right_and_the_distance_above():
    train = random_images(50)
    brighter = (train[7].float() * 0.8 + 51).to(torch.uint8)
    sheet = NearestTrainingImages(3, 0).image_sheet(fake_source(torch.stack((train[3], brighter, train[40])), train))
    left, right = sheet.images.chunk(2, dim=3)
    assert torch.equal(right, train[[3, 7, 40]])
    assert torch.equal(left[1], brighter)
    difference = (brighter.float() - train[7].float()).square().mean().sqrt().item() / 255
    assert sheet.captions == ["0.00", f"{difference:.2f}", "0.00"]


def test_copies_of_mirrored_images_are_found():
    train = random_images(50)
    mirrored, plain = (
        NearestTrainingImages(1, 0).image_sheet(fake_source(train[9:10].flip(3), train, mirrored)).captions
        for mirrored in (True, False)
    )
    assert mirrored == ["0.00"]
    assert float(plain[0]) > 0.3


def test_left_images_are_the_samples_of_the_seed(dcgan_sample, conditional_run):
    outcome = dcgan_sample(
        f"checkpoint={conditional_run}", "mode=nearest", "n=5", "seed=2", "truncation=1", "out=a.npy"
    )
    assert outcome.code == 0, outcome.err
    expected = load_generator(conditional_run).sample(5, seed=2, truncation=1)
    assert np.array_equal(np.load("a.npy")[:, :, :28], expected[:, 0].numpy())
    assert len(np.load("a.labels.npy")) == 5
