"""Projection of pictures, with generators whose inverse is known, and from the command line."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from dcgan.common.errors import UserError
from dcgan.data.pixel_range import PixelRange
from dcgan.models.prior import Uniform
from dcgan.sampling.base import SampleSource
from dcgan.sampling.projection import Projection, read_picture
from dcgan.sampling.trained_generator import TrainedGenerator, load_generator


class LinearGenerator(nn.Module):
    """Four horizontal bands whose brightness is z; the label lights one of three columns."""

    latent_dim = 4

    def __init__(self, classes: int = 0) -> None:
        super().__init__()
        self.classes, self.label_prior = classes, torch.full((classes,), 1 / max(classes, 1))

    def sample_z(self, n, device, rng=None):
        return Uniform()(n, self.latent_dim, device, rng)

    def forward(self, z, label=None):
        image = z.repeat_interleave(3, dim=1)[:, None, :, None].expand(-1, 1, -1, 12)
        if label is None:
            return image
        columns = nn.functional.one_hot(label, 3).repeat_interleave(4, dim=1).float()
        return image / 2 + columns[:, None, None, :] / 2


def source(classes: int = 0, batch_size: int = 200) -> SampleSource:
    source = SampleSource(None, "cpu", batch_size)
    network = LinearGenerator(classes)
    source.__dict__.update(generator=TrainedGenerator(network, PixelRange(-1), torch.device("cpu"), {}))
    return source


def save(image: torch.Tensor) -> str:
    Image.fromarray(image.squeeze().numpy()).save("target.png")
    return "target.png"


def projection(image: str | None, **changes) -> Projection:
    options = {"n": None, "seed": 0, "steps": 60, "starts": 3, "feature_weight": 1.0, **changes}
    return Projection(image=image, **options)


@pytest.mark.parametrize("feature_weight", [0.0, 1.0])
def test_vector_of_a_generated_image_is_found(tmp_path, monkeypatch, feature_weight):
    monkeypatch.chdir(tmp_path)
    z = torch.tensor([[0.9, -0.5, 0.1, -0.9]])
    image = next(source().generator.generate(z))
    sheet = projection(save(image), feature_weight=feature_weight).image_sheet(source())
    torch.testing.assert_close(sheet.latents, z, atol=0.05, rtol=0)
    assert torch.equal(sheet.images[0], image[0])
    assert (sheet.images[-1].int() - image[0].int()).abs().max() < 8
    assert sheet.captions == ["picture", *(f"step {step}" for step in (0, 2, 7, 15, 27, 42, 60))]
    errors = (sheet.images.float() - image).square().mean(dim=(1, 2, 3))
    assert errors[1] > 20 * errors[-1]


@pytest.mark.parametrize("batch_size", [200, 2])
def test_all_classes_are_tried_unless_one_is_given(tmp_path, monkeypatch, batch_size):
    monkeypatch.chdir(tmp_path)
    image = next(source(3).generator.generate(torch.tensor([[0.5, -0.5, 0.5, 0.0]]), torch.tensor([2])))
    sheet = projection(save(image)).image_sheet(source(3, batch_size))
    assert sheet.notes[0].endswith("class 2")
    assert (sheet.images[-1].int() - image[0].int()).abs().max() < 8
    assert projection("target.png", label=1).image_sheet(source(3)).notes[0].endswith("class 1")
    with pytest.raises(UserError, match="label must be one of 0 to 2"):
        projection("target.png", label=3).image_sheet(source(3))


def test_vectors_stay_where_the_prior_has_values(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sheet = projection(save(torch.full((12, 12), 255, dtype=torch.uint8)), steps=100).image_sheet(source())
    samples = source().z(1000, 0)
    assert 0.9 < sheet.latents.abs().max() <= samples.abs().max()
    assert sheet.latents.norm() <= samples.norm(dim=1).max() + 1e-5
    # one component wants to be 1, and the length allows it
    truncated = SampleSource(None, "cpu", 200, truncation=0.5)
    truncated.__dict__.update(generator=source().generator)
    band = torch.full((12, 12), 128, dtype=torch.uint8)
    band[:3] = 255
    assert 0.4 < projection(save(band), steps=100).image_sheet(truncated).latents.abs().max() <= 0.5


def test_animation_shows_the_picture_next_to_the_search(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image = next(source().generator.generate(torch.zeros(1, 4)))
    animation = projection(save(image), n=5).animation(source())
    assert animation.captions == ["step 0", "step 4", "step 15", "step 34", "step 60"]
    for frame in animation.frames:
        assert torch.equal(frame[:1, 2:14, 2:14], image[0])


def test_picture_of_any_size_is_projected_from_the_command_line(dcgan_sample, plain_run):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (60, 40, 3), dtype=np.uint8)).save("any.png")
    arguments = [f"checkpoint={plain_run}", "mode=project", "image=any.png", "steps=4", "starts=2"]
    for out in ("a.png", "a.gif", "a.npy"):
        outcome = dcgan_sample(*arguments, f"out={out}", "n=3")
        assert outcome.code == 0, outcome.err
    assert "after 4 steps" in outcome.out
    assert sorted(path.name for path in Path().iterdir()) == ["a.gif", "a.npy", "a.png", "a.z.npy", "any.png"]
    images, z = np.load("a.npy"), torch.from_numpy(np.load("a.z.npy"))
    assert images.shape == (3, 28, 28)
    assert np.array_equal(images[0], read_picture(Path("any.png"), 28, 1)[0, 0].numpy())
    assert np.abs(next(load_generator(plain_run).generate(z))[0, 0].int().numpy() - images[-1].astype(int)).max() <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "mode=project needs a picture: give image=FILE.png"),
        (["image=nowhere.png"], "nowhere.png cannot be read as a picture (No such file or directory)"),
        (["image=text.png"], "it is not a valid JPEG, PNG, WebP, BMP or TIFF picture"),
        (["image=empty.png"], "empty.png cannot be read as a picture (it is empty): choose another image="),
        (["image=text.png", "n=1"], "n must be an integer >= 2, got 1"),
        (["image=text.png", "steps=0"], "steps must be an integer >= 1, got 0"),
        (["image=text.png", "starts=0"], "starts must be an integer >= 1, got 0"),
        (["image=text.png", "feature_weight=-1"], "feature_weight must be a number in [0, inf), got -1"),
        (["image=text.png", "label=3"], "the model is unconditional"),
    ],
)
def test_mistakes_are_reported(dcgan_sample, plain_run, arguments, message):
    Path("text.png").write_text("no picture")
    Path("empty.png").touch()
    outcome = dcgan_sample(f"checkpoint={plain_run}", "mode=project", "out=a.png", *arguments)
    assert outcome.code == 1
    assert message in outcome.err
    assert "Traceback" not in outcome.err
    assert not Path("a.png").exists()
