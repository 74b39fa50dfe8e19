"""Each transformation, compared with what it may do to small images."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F

from dcgan.models.augmentation import (
    Augmentation,
    DiffAugment,
    Flip,
    change_brightness,
    change_contrast,
    change_saturation,
    cut_out,
    translate,
)

N = 2000  # images, enough for each of a hundred cases to occur
X = torch.rand(8, 3, 16, 16) * 2 - 1


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def distinct(images: torch.Tensor) -> set[tuple[float, ...]]:
    return {tuple(image.flatten().tolist()) for image in images}


def test_flip_mirrors_half_of_the_real_images_and_no_inputs():
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]).expand(N, -1, -1, -1)
    flipped = Flip().real(x)
    assert distinct(flipped) == {(1, 2, 3, 4), (2, 1, 4, 3)}
    assert (flipped[:, 0, 0, 0] == 2).float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert Flip().inputs(x) is x


@pytest.mark.parametrize("augmentation", [Augmentation(), Flip(enabled=False)])
def test_no_augmentation_computes_nothing(augmentation):
    state = torch.get_rng_state()
    assert augmentation.real(X) is X
    assert augmentation.inputs(X) is X
    assert torch.equal(torch.get_rng_state(), state)
    assert augmentation.description == ""


def test_brightness_adds_one_number_to_an_image():
    x = X[:1].expand(N, -1, -1, -1)
    change = change_brightness(x, 0.25) - x
    assert (change.amax((1, 2, 3)) - change.amin((1, 2, 3))).max() < 1e-6
    assert change.min().item() == pytest.approx(-0.25, abs=0.01)
    assert change.max().item() == pytest.approx(0.25, abs=0.01)


def test_saturation_scales_the_distance_to_the_mean_of_the_channels():
    pixel = torch.tensor([0.9, 0.1, -0.4]).reshape(1, 3, 1, 1)  # mean 0.2
    out = change_saturation(pixel.expand(N, -1, -1, -1))
    factor = (out - 0.2) / (pixel - 0.2)
    assert torch.allclose(factor, factor[:, :1].expand_as(factor), atol=1e-5)
    assert factor.min().item() == pytest.approx(0, abs=0.01)
    assert factor.max().item() == pytest.approx(2, abs=0.01)


def test_saturation_leaves_gray_images_as_they_are():
    gray = X[:, :1]
    assert torch.equal(change_saturation(gray), gray)
    assert torch.allclose(change_saturation(gray.expand(-1, 3, -1, -1)), gray.expand(-1, 3, -1, -1), atol=1e-6)


def test_contrast_scales_the_distance_to_the_mean_of_the_image():
    image = torch.tensor([[[-0.2, 0.2], [0.8, 0.0]]])[None]  # mean 0.2
    out = change_contrast(image.expand(N, -1, -1, -1))
    factor = ((out - 0.2) / (image - 0.2))[:, 0, [0, 1, 1], [0, 0, 1]]
    assert torch.allclose(factor, factor[:, :1].expand_as(factor), atol=1e-5)
    assert factor.min().item() == pytest.approx(0.5, abs=0.01)
    assert factor.max().item() == pytest.approx(1.5, abs=0.01)


def test_translation_moves_by_an_eighth_and_fills():
    image = torch.arange(3.0 * 16 * 16).reshape(1, 3, 16, 16)
    padded = F.pad(image, (2, 2, 2, 2), value=-1)
    crops = [padded[..., i : i + 16, j : j + 16] for i, j in product(range(5), repeat=2)]
    out = translate(image.expand(N, -1, -1, -1), -1)
    assert distinct(out) == distinct(torch.cat(crops))
    assert not torch.equal(out[0], out[1])


@pytest.mark.parametrize(
    ("size", "ranges"),
    [
        (4, [(0, 1), (0, 2), (1, 3), (2, 4), (3, 4)]),  # of a square of 2 x 2 pixels
        (6, [(0, 2), (0, 3), (1, 4), (2, 5), (3, 6), (4, 6)]),  # 3 x 3
    ],
)
def test_cutout_fills_a_square_of_half_the_size(size, ranges):
    masks = []
    for (top, bottom), (left, right) in product(ranges, repeat=2):
        image = torch.ones(1, 2, size, size)
        image[..., top:bottom, left:right] = 0.5
        masks.append(image)
    out = cut_out(torch.ones(N, 2, size, size), 0.5)
    assert distinct(out) == distinct(torch.cat(masks))


def test_pixels_in_0_1_are_changed_as_those_in_minus_1_1():
    out = DiffAugment(low=-1).inputs(X)
    torch.manual_seed(0)
    torch.testing.assert_close(DiffAugment(low=0).inputs((X + 1) / 2), (out + 1) / 2)
    assert (out == 0).any()  # filled with gray


def test_gradient_is_that_of_an_affine_function():
    """With fixed random numbers f(x + d) - f(x) is J d, whose product with w is that of d with the gradient J^T w."""
    augment = DiffAugment(flip=True).inputs
    x, d, w = X.clone().requires_grad_(), torch.rand_like(X), torch.rand_like(X)
    outputs = []
    for inputs in (x, x + d):
        torch.manual_seed(1)
        outputs.append(augment(inputs))
    (gradient,) = torch.autograd.grad((outputs[0] * w).sum(), x)
    expected = ((outputs[1] - outputs[0]) * w).sum(dim=(1, 2, 3))
    torch.testing.assert_close((gradient * d).sum(dim=(1, 2, 3)), expected)
    assert (expected.abs() > 0.1).all()


def test_seed_reproduces_the_transformations():
    augment = DiffAugment(flip=True)
    first, second = augment.inputs(X), augment.inputs(X)
    torch.manual_seed(0)
    assert torch.equal(augment.inputs(X), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("augmentation", "description"),
    [
        (DiffAugment(color=False, translation=False, cutout=False), ""),
        (DiffAugment(color=False, translation=False, flip=True), "cutout, flip"),
        (DiffAugment(), "color, translation, cutout"),
        (Flip(), "flip"),
    ],
)
def test_switches_and_description(augmentation, description):
    assert augmentation.description == description
    assert torch.equal(augmentation.inputs(X), X) == (description in ("", "flip"))
    assert torch.equal(augmentation.real(X), X) == ("flip" not in description)


def test_bf16_images_become_float32():
    assert DiffAugment().inputs(X.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Flip("yes"), "augmentation.enabled must be true or false, got 'yes'"),
        (lambda: DiffAugment(cutout=1), "augmentation.cutout must be true or false, got 1"),
        (lambda: DiffAugment(low=1), r"augmentation.low must be a number in \[-1, 1\), got 1"),
    ],
)
def test_invalid_arguments_are_rejected(build, message):
    with pytest.raises(ValueError, match=message):
        build()
