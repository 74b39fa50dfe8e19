"""Grids, stacks, captions and PNG files of images."""

import numpy as np
import pytest
import torch
from PIL import Image

from dcgan.common.image_grid import (
    GREY,
    add_caption,
    display_scale,
    enlarge,
    hstack,
    image_grid,
    mosaic,
    save_png,
    vstack,
)


def constant_image(value: int, height: int, width: int) -> torch.Tensor:
    return torch.full((3, height, width), value, dtype=torch.uint8)


@pytest.mark.parametrize(("n", "columns", "rows"), [(1, 1, 1), (4, 2, 2), (10, 3, 4), (64, 8, 8)])
def test_grid_is_about_square_by_default(n, columns, rows):
    grid = image_grid(torch.zeros(n, 1, 4, 4, dtype=torch.uint8))
    assert grid.shape == (3, 2 + 6 * rows, 2 + 6 * columns)


def test_images_are_in_reading_order():
    images = torch.arange(6, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 4, 4)
    grid = image_grid(images, columns=3)
    assert grid[0, 2::6, 2::6].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_stacks_are_aligned_at_the_top_and_at_the_left():
    tall, wide = constant_image(1, 3, 1), constant_image(2, 1, 2)
    assert hstack([tall, wide])[0].tolist() == [[1, 2, 2], [1, GREY, GREY], [1, GREY, GREY]]
    assert vstack([wide, tall])[0].tolist() == [[2, 2], [1, GREY], [1, GREY], [1, GREY]]


def test_enlarged_image_repeats_each_pixel():
    assert enlarge(torch.arange(2, dtype=torch.uint8).expand(3, 1, 2), 2)[0].tolist() == [[0, 0, 1, 1]] * 2


@pytest.mark.parametrize(("width", "scale"), [(28, 18), (242, 2), (512, 1), (4000, 1)])
def test_display_scale(width, scale):
    assert display_scale(constant_image(0, 1, width)) == scale


def test_png_is_enlarged_for_display_unless_a_scale_is_given(tmp_path):
    image = torch.arange(3 * 4 * 128).reshape(3, 4, 128).to(torch.uint8)
    for scale, factor in ((None, 4), (1, 1), (3, 3)):
        save_png(tmp_path / "a.png", image, scale)
        with Image.open(tmp_path / "a.png") as file:
            assert np.array_equal(np.array(file), enlarge(image, factor).permute(1, 2, 0).numpy())
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_mosaic_has_rows_and_borders():
    pictures = [torch.full((3, 4, 5), i, dtype=torch.uint8) for i in range(3)]
    grid = mosaic(pictures, 2)
    assert grid.shape == (3, 2 + 2 * (4 + 2), 2 + 2 * (5 + 2))
    assert (grid[:, 2:6, 2:7] == 0).all()
    assert (grid[:, 2:6, 9:14] == 1).all()
    assert (grid[:, 8:12, 2:7] == 2).all()
    border = grid.clone()
    for top, left in ((2, 2), (2, 9), (8, 2)):
        border[:, top : top + 4, left : left + 5] = 64
    assert (border == 64).all()


def test_caption_is_above_the_picture_and_may_widen_it():
    picture = torch.zeros(3, 10, 20, dtype=torch.uint8)
    captioned = add_caption(picture, "a long caption")
    assert captioned.shape[1] == 10 + 18
    assert captioned.shape[2] > 60
    assert (captioned[:, 18:, :20] == 0).all()
    assert (captioned[:, :18] > 200).any()
