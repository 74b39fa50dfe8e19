"""Vector arithmetic, with a generator and a judge whose answers are known."""

import numpy as np
import pytest
import torch
from torch import nn

from dcgan.checks import UserError
from dcgan.metrics.judge import Judged
from dcgan.modes.arithmetic import Arithmetic, Term, expected, parse, result, tell
from dcgan.modes.mode import Source
from dcgan.pixels import PixelRange
from dcgan.prior import Normal
from dcgan.strokes import slant, thickness
from dcgan.trained import TrainedGenerator


def bar(width: int, lean: float = 0.0, length: int = 20) -> torch.Tensor:
    """A stroke of that width, upright or leaning to the right by `lean` pixels a pixel."""
    image = torch.zeros(1, 28, 28, dtype=torch.uint8)
    for y in range(4, 4 + length):
        x = round(14 - lean * (y - 14))
        image[0, y, x - width // 2 : x - width // 2 + width] = 255
    return image


def test_thickness_grows_with_the_stroke_and_not_with_its_place():
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
    ("expression", "answer"),
    [
        ("thick 7 - thin 7 + thin 1", "thick 1"),
        ("thick 7 - thick 1 + thin 1", "thin 7"),
        ("slanted 4 - 4 + 9", "slanted 9"),
        ("3-3+8", "8"),
        ("upright 0 - slanted 0 + thin 0", "0"),
    ],
)
def test_the_answer_is_what_is_left_of_the_terms(expression, answer):
    assert str(result(*parse(expression))) == answer
    assert expected(1, 2, 3) is None


@pytest.mark.parametrize(
    "expression", ["7 - 1", "fat 7 - thin 7 + thin 1", "7 - 7 + x", "7 + 7 - 1", "", "7 - 7 + 1 + 2"]
)
def test_other_expressions_are_refused(expression):
    with pytest.raises(UserError, match="expression must be like"):
        parse(expression)


def test_an_expression_without_a_digit_for_an_answer_is_refused():
    with pytest.raises(UserError, match=r"1 - 2 \+ 3 has no digit for an answer"):
        result(*parse("1 - 2 + 3"))


class Strokes(nn.Module):
    """z[0] > 0 draws a 1 (a bar on the right), else a 7 (on the left); its stroke is as thick as z[1] says."""

    classes, latent_dim = 0, 8

    def draw_z(self, n, device, rng=None):
        return Normal()(n, self.latent_dim, device, rng)

    def forward(self, z, label=None):
        images = -torch.ones(len(z), 1, 28, 28)
        width = (4 + 2 * z[:, 1]).round().clamp(1, 8).int()
        for image, place, w in zip(images, z[:, 0] > 0, width, strict=True):
            left = 18 if place else 2
            image[0, 4:24, left : left + w] = 1
        return images


class SeesThePlace:
    """A judge that takes a bar on the right for a 1 and one on the left for a 7, and is sure of it."""

    facts = {"classes": 10}

    def __call__(self, images):
        ones = images[:, 0, :, 14:].flatten(1).amax(1) > 0
        logits = torch.zeros(len(images), 10)
        logits[:, 1], logits[:, 7] = 20.0 * ones, 20.0 * ~ones
        return Judged(images, images, torch.zeros(len(images), 1), logits)


def source() -> Source:
    made = Source(None, "cpu", 500, lambda: None)
    generator = TrainedGenerator(Strokes(), PixelRange(-1), torch.device("cpu"), {})
    made.__dict__.update(generator=generator, judge=SeesThePlace())
    return made


def arithmetic(expression: str, noise_scale: float = 0.0, **changes) -> Arithmetic:
    options = {"n": None, "seed": 0, "average": 3, "noise": "normal", "draws": 300, "pool": 2000, **changes}
    return Arithmetic(expression=expression, noise_scale=noise_scale, **options)


def share(note: str) -> float:
    return float(note.split("%")[0].split()[-1]) / 100


def test_arithmetic_that_works_is_counted_as_right():
    still = arithmetic("thick 7 - thin 7 + thin 1").still(source())
    assert still.notes[0] == "thick 7 - thin 7 + thin 1 = thick 1"
    right, noisy, without, mixed = map(share, still.notes[1:])
    assert right > 0.7
    assert mixed < right - 0.2
    assert noisy == right  # no noise
    assert without < 0.1  # thin 1s
    assert still.images.shape == (9, 1, 28, 28)
    assert (still.images == still.images[4]).all()
    assert thickness(still.images)[0] > thickness(bar(4)[None])
    assert still.picture(2).shape[0] == 3


def test_noise_moves_the_cells_around_the_middle_and_the_rate():
    calm, shaken = (arithmetic("thick 7 - thin 7 + thin 1", s).still(source()) for s in (0.0, 3.0))
    assert torch.equal(calm.images[4], shaken.images[4])
    assert len({tuple(image.flatten().tolist()) for image in shaken.images}) > 3
    assert share(shaken.notes[2]) < share(shaken.notes[1]) - 0.2


def test_uniform_noise_stays_in_its_bounds():
    mode = arithmetic("3 - 3 + 8", noise="uniform")
    drawn = mode.noise((10_000,), torch.Generator().manual_seed(0))
    assert -1 <= drawn.min() < -0.99
    assert 0.99 < drawn.max() <= 1


def test_terms_are_picked_from_their_quarter_and_differ_within_a_mean():
    mode, given = arithmetic("thick 7 - thin 7 + thin 1"), source()
    pool = mode.fill_pool(given)
    sevens = pool.strokes["thickness"][pool.digits == 7]
    assert (pool.z[pool.of(Term("", 7))][:, 0] <= 0).all()
    assert pool.strokes["thickness"][pool.of(Term("thick", 7))].min() >= sevens.quantile(0.75)
    assert pool.strokes["thickness"][pool.of(Term("thin", 7))].max() <= sevens.quantile(0.25)
    picked = mode.pick(pool, Term("thick", 7), torch.Generator().manual_seed(0))
    assert picked.shape == (300, 3, 8)
    assert all(len({tuple(z.tolist()) for z in draw}) == 3 for draw in picked)


def test_a_digit_that_is_not_drawn_is_said():
    with pytest.raises(UserError, match="the judge is sure of 0 as 5, and 6 are needed: raise pool="):
        arithmetic("5 - 5 + 1").still(source())


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ({"average": 0}, "average must be an integer >= 1"),
        ({"draws": 0}, "draws must be"),
        ({"pool": 0}, "pool must be"),
        ({"noise": "pink"}, "noise must be one of uniform, normal, got 'pink'"),
        ({"noise_scale": -1}, "noise_scale must be a number"),
    ],
)
def test_options_out_of_range_are_refused(option, sentence):
    with pytest.raises(ValueError, match=sentence):
        arithmetic("7 - 7 + 1", **option)


def test_shares_come_with_wilsons_interval():
    assert tell(0.5, 100) == "50.0% of 100 draws (95 % interval 40.4% to 59.6%)"
    assert tell(0.0, 1000).endswith("(95 % interval 0.0% to 0.4%)")


def test_arithmetic_from_the_command_line(dcgan_sample, plain_run, conditional_run, monkeypatch):
    from dcgan.modes import mode

    class Any(SeesThePlace):
        """Sure that every other image is a 7."""

        def __call__(self, images):
            logits = torch.zeros(len(images), 10)
            logits[::2, 7], logits[1::2, 1] = 20, 20
            return Judged(images, images, torch.zeros(len(images), 1), logits)

    monkeypatch.setattr(mode.Source, "judge", Any())
    small = ["mode=arithmetic", "pool=100", "draws=10"]
    outcome = dcgan_sample(f"checkpoint={plain_run}", *small, "out=a.png")
    assert outcome.code == 0, outcome.err
    assert "thick 7 - thin 7 + thin 1 = thick 1" in outcome.out
    for out in ("a.npy", "a.gif"):
        assert dcgan_sample(f"checkpoint={plain_run}", *small, f"out={out}").code == 0
    assert np.load("a.npy").shape == (9, 28, 28)
    monkeypatch.setattr(mode.Source, "judge", SureOfTheLabel())
    small = ["mode=arithmetic", "pool=300", "draws=10", "average=1", "out=b.npy"]
    outcome = dcgan_sample(f"checkpoint={conditional_run}", *small)
    assert outcome.code == 0, outcome.err
    assert np.load("b.labels.npy").tolist() == [1] * 9


class SureOfTheLabel:
    """Knows the labels that a conditional model draws for its pool."""

    facts = {"classes": 10}

    def __call__(self, images):
        from dcgan.trained import labels

        class Model:
            classes, label_prior = 10, torch.full((10,), 0.1)

        logits = 20.0 * nn.functional.one_hot(labels(Model, len(images), 0), 10)
        return Judged(images, images, torch.zeros(len(images), 1), logits)
