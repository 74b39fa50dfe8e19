"""Vector arithmetic, with a generator and a judge whose outputs are known."""

import numpy as np
import pytest
import torch
from torch import nn

from dcgan.common.errors import UserError
from dcgan.data.pixel_range import PixelRange
from dcgan.models.prior import Normal
from dcgan.sampling.arithmetic import NOISES, Arithmetic, Pool, Term, cancel, expected_result, parse_expression
from dcgan.sampling.base import SampleSource
from dcgan.sampling.strokes import slant, thickness
from dcgan.sampling.trained_generator import TrainedGenerator, sample_labels


def bar(width: int, lean: float = 0.0, length: int = 20) -> torch.Tensor:
    """Return an image of a stroke, upright or leaning to the right by `lean` pixels per pixel."""
    image = torch.zeros(1, 28, 28, dtype=torch.uint8)
    for y in range(4, 4 + length):
        x = round(14 - lean * (y - 14))
        image[0, y, x - width // 2 : x - width // 2 + width] = 255
    return image


def test_thickness_depends_on_width_and_not_on_position():
    widths = thickness(torch.stack([bar(w) for w in (1, 2, 4, 6)]))
    torch.testing.assert_close(widths / widths[0], torch.tensor([1.0, 2.0, 4.0, 6.0]), rtol=0.05, atol=0)
    torch.testing.assert_close(thickness(bar(3)[None].roll(5, 3)), thickness(bar(3)[None]))
    torch.testing.assert_close(thickness(bar(2, length=12)[None]), thickness(bar(2)[None]), rtol=0.05, atol=0)
    assert thickness(torch.zeros(1, 1, 28, 28, dtype=torch.uint8)).isfinite().all()


def test_slant_is_the_shear_to_the_right():
    leans = slant(torch.stack([bar(2, lean) for lean in (-0.4, 0.0, 0.3)]))
    torch.testing.assert_close(leans, torch.tensor([-0.4, 0.0, 0.3]), atol=0.03, rtol=0)
    assert slant(torch.zeros(1, 1, 28, 28, dtype=torch.uint8)).isfinite().all()


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("thick 7 - thin 7 + thin 1", "thick 1"),
        ("thick 7 - thick 1 + thin 1", "thin 7"),
        ("slanted 4 - 4 + 9", "slanted 9"),
        ("3-3+8", "8"),
        ("upright 0 - slanted 0 + thin 0", "0"),
    ],
)
def test_equal_parts_of_terms_cancel(expression, result):
    assert str(expected_result(*parse_expression(expression))) == result
    assert cancel(1, 2, 3) is None


@pytest.mark.parametrize(
    "expression", ["7 - 1", "fat 7 - thin 7 + thin 1", "7 - 7 + x", "7 + 7 - 1", "", "7 - 7 + 1 + 2"]
)
def test_invalid_expression_is_rejected(expression):
    with pytest.raises(UserError, match="expression must be like"):
        parse_expression(expression)


def test_expression_with_undefined_digit_is_rejected():
    with pytest.raises(UserError, match=r"1 - 2 \+ 3 has no digit as its result"):
        expected_result(*parse_expression("1 - 2 + 3"))


class BarGenerator(nn.Module):
    """z[0] > 0 is a 1 (a bar on the right), else a 7 (on the left); z[1] sets the thickness."""

    classes, latent_dim = 0, 8

    def sample_z(self, n, device, rng=None):
        return Normal()(n, self.latent_dim, device, rng)

    def forward(self, z, label=None):
        images = -torch.ones(len(z), 1, 28, 28)
        width = (4 + 2 * z[:, 1]).round().clamp(1, 8).int()
        for image, right, w in zip(images, z[:, 0] > 0, width, strict=True):
            left = 18 if right else 2
            image[0, 4:24, left : left + w] = 1
        return images


class FakeJudge:
    """Confidently sees a 1 in a bar on the right and a 7 in one on the left."""

    facts = {"classes": 10}

    def digits(self, images):
        return torch.where(images[:, 0, :, 14:].flatten(1).amax(1) > 0, 1, 7)

    def classify(self, images):
        return 20.0 * nn.functional.one_hot(self.digits(images), 10)


class AlternatingJudge(FakeJudge):
    def digits(self, images):
        return torch.where(torch.arange(len(images)) % 2 == 0, 7, 1)


class LabelJudge(FakeJudge):
    """Sees the labels of a conditional model's pool."""

    def digits(self, images):
        class Model:
            classes, label_prior = 10, torch.full((10,), 0.1)

        return sample_labels(Model, len(images), 0)


def fake_source() -> SampleSource:
    source = SampleSource(None, "cpu", 500)
    generator = TrainedGenerator(BarGenerator(), PixelRange(-1), torch.device("cpu"), {})
    source.__dict__.update(generator=generator, judge=FakeJudge())
    return source


def arithmetic(expression: str, noise_scale: float = 0.0, **changes) -> Arithmetic:
    options = {"n": None, "seed": 0, "average": 3, "noise": "normal", "pool": 2000, **changes}
    return Arithmetic(expression=expression, noise_scale=noise_scale, **options)


def test_result_is_in_all_cells_without_noise():
    sheet = arithmetic("thick 7 - thin 7 + thin 1", average=20).image_sheet(fake_source())
    assert sheet.notes == ("thick 7 - thin 7 + thin 1 = thick 1",)
    assert sheet.images.shape == (9, 1, 28, 28)
    assert (sheet.images == sheet.images[4]).all()
    assert FakeJudge().digits(sheet.images)[0] == 1
    assert thickness(sheet.images)[0] > thickness(bar(4)[None])
    assert sheet.picture(2).shape[0] == 3


def test_noise_changes_all_cells_but_the_center():
    plain, noisy = (arithmetic("thick 7 - thin 7 + thin 1", s).image_sheet(fake_source()) for s in (0.0, 3.0))
    assert torch.equal(plain.images[4], noisy.images[4])
    assert len({tuple(image.flatten().tolist()) for image in noisy.images}) > 3


def test_uniform_noise_is_in_its_range():
    noise = NOISES["uniform"]((10_000,), torch.Generator().manual_seed(0))
    assert -1 <= noise.min() < -0.99
    assert 0.99 < noise.max() <= 1


def test_terms_are_picked_from_their_quartile_without_repetition():
    pool = Pool.generate(fake_source(), 2000, seed=0)
    sevens = pool.strokes["thickness"][pool.digits == 7]
    assert (pool.z[pool.mask(Term("", 7))][:, 0] <= 0).all()
    assert pool.strokes["thickness"][pool.mask(Term("thick", 7))].min() >= sevens.quantile(0.75)
    assert pool.strokes["thickness"][pool.mask(Term("thin", 7))].max() <= sevens.quantile(0.25)
    picked = pool.pick(Term("thick", 7), rows=300, average=3, rng=torch.Generator().manual_seed(0))
    assert picked.shape == (300, 3, 8)
    assert all(len({tuple(z.tolist()) for z in row}) == 3 for row in picked)


def test_digit_without_images_is_rejected():
    with pytest.raises(UserError, match=r"only 0 of 2,000 images are 5 .* and 6 are needed: raise pool="):
        arithmetic("5 - 5 + 1").image_sheet(fake_source())


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"average": 0}, "average must be an integer >= 1"),
        ({"pool": 0}, "pool must be"),
        ({"noise": "pink"}, "noise must be one of uniform, normal, got 'pink'"),
        ({"noise_scale": -1}, "noise_scale must be a number"),
    ],
)
def test_invalid_option_is_rejected(option, message):
    with pytest.raises(ValueError, match=message):
        arithmetic("7 - 7 + 1", **option)


def test_arithmetic_runs_from_the_command_line(dcgan_sample, plain_run, conditional_run, monkeypatch):
    monkeypatch.setattr(SampleSource, "judge", AlternatingJudge())
    outcome = dcgan_sample(f"checkpoint={plain_run}", "mode=arithmetic", "pool=100", "out=a.png")
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines() == ["thick 7 - thin 7 + thin 1 = thick 1", "arithmetic   a.png"]
    for out in ("a.npy", "a.gif"):
        assert dcgan_sample(f"checkpoint={plain_run}", "mode=arithmetic", "pool=100", f"out={out}").code == 0
    assert np.load("a.npy").shape == (9, 28, 28)
    monkeypatch.setattr(SampleSource, "judge", LabelJudge())
    outcome = dcgan_sample(f"checkpoint={conditional_run}", "mode=arithmetic", "pool=300", "average=1", "out=b.npy")
    assert outcome.code == 0, outcome.err
    assert np.load("b.labels.npy").tolist() == [1] * 9
