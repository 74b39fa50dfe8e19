import pytest
import torch

from dcgan.pixels import PixelRange

ALL = torch.arange(256, dtype=torch.uint8)


def test_tanh_range_maps_0_to_minus_1_and_255_to_1():
    x = PixelRange(-1).encode(ALL)
    assert x[0] == -1
    assert x[255] == 1
    torch.testing.assert_close(x, ALL.float() / 127.5 - 1)


def test_sigmoid_range_maps_0_to_0_and_255_to_1():
    x = PixelRange(0).encode(ALL)
    assert x[0] == 0
    assert x[255] == 1
    torch.testing.assert_close(x, ALL.float() / 255)


@pytest.mark.parametrize("low", [-1, 0])
def test_every_stored_pixel_survives_both_ways(low):
    pixels = PixelRange(low)
    assert torch.equal(pixels.decode(pixels.encode(ALL)), ALL)


def test_decoding_rounds_to_the_nearest_and_clamps():
    x = torch.tensor([-2.0, -1 + 0.49 / 127.5, -1 + 0.51 / 127.5, 3.0])
    assert PixelRange(-1).decode(x).tolist() == [0, 0, 1, 255]


@pytest.mark.parametrize("low", [1, -1.5, "x", True])
def test_a_bad_range_is_refused(low):
    with pytest.raises(ValueError, match=r"low must be a number in \[-1, 1\)"):
        PixelRange(low)
