"""Pixel ranges and resizing."""

import pytest
import torch

from dcgan.data.pixel_range import PixelRange, resize_images

ALL_VALUES = torch.arange(256, dtype=torch.uint8)


def test_tanh_range_maps_0_to_minus_1_and_255_to_1():
    x = PixelRange(-1).encode(ALL_VALUES)
    assert x[0] == -1
    assert x[255] == 1
    torch.testing.assert_close(x, ALL_VALUES.float() / 127.5 - 1)


def test_sigmoid_range_maps_0_to_0_and_255_to_1():
    x = PixelRange(0).encode(ALL_VALUES)
    assert x[0] == 0
    assert x[255] == 1
    torch.testing.assert_close(x, ALL_VALUES.float() / 255)


@pytest.mark.parametrize("low", [-1, 0])
def test_decoding_inverts_encoding(low):
    pixels = PixelRange(low)
    assert torch.equal(pixels.decode(pixels.encode(ALL_VALUES)), ALL_VALUES)


def test_decoding_rounds_to_the_nearest_value_and_clamps():
    x = torch.tensor([-2.0, -1 + 0.49 / 127.5, -1 + 0.51 / 127.5, 3.0])
    assert PixelRange(-1).decode(x).tolist() == [0, 0, 1, 255]


@pytest.mark.parametrize("low", [1, -1.5, "x", True])
def test_low_that_is_out_of_range_is_rejected(low):
    with pytest.raises(ValueError, match=r"low must be a number in \[-1, 1\)"):
        PixelRange(low)


def test_resizing_keeps_constant_images_and_repeats_one_channel():
    flat = torch.full((2, 1, 28, 28), 200, dtype=torch.uint8)
    resized = resize_images(flat, 64, 3)
    assert resized.shape == (2, 3, 64, 64)
    assert resized.unique().tolist() == [200]
    assert torch.equal(resize_images(flat, 28, 1), flat)


def test_color_becomes_luminance():
    color = torch.tensor([255, 0, 0, 0, 255, 0, 0, 0, 255], dtype=torch.uint8).reshape(3, 3, 1, 1)
    assert resize_images(color, 1, 1).flatten().tolist() == [76, 150, 29]  # as Pillow's convert("L")
    flat = torch.full((2, 3, 28, 28), 200, dtype=torch.uint8)
    assert resize_images(flat, 14, 1).unique().tolist() == [200]


def test_other_channels_are_not_converted():
    with pytest.raises(ValueError, match="images with 4 channels cannot be converted to 3"):
        resize_images(torch.zeros(1, 4, 8, 8, dtype=torch.uint8), 8, 3)
