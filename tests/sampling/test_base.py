import torch

from dcgan.sampling.base import Animation, ImageSheet


def test_captions_of_different_widths_pad_cells_to_one_width():
    images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    picture = ImageSheet(images, 2, ["1", "a long name"]).picture(1)
    assert picture.shape[2] > 2 * 60
    frames = Animation(list(images.expand(-1, 3, -1, -1)), ["1", "a long name"]).pictures(1)
    assert frames[0].shape == frames[1].shape
