"""Pictures of all modes become uint8 arrays."""

import errno
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dcgan.common.errors import UserError
from dcgan.data.decoding import FileReader, decode_chunk, to_array
from dcgan.data.decoding_pool import decode_chunk_in, start_decoding_process
from dcgan.data.prepared_images import SPLITS, PictureSource, create_array_file, write_prepared


def saved(picture: Image.Image, path: Path, **options: object) -> Image.Image:
    """Return the picture as it is read from a file."""
    picture.save(path, **options)
    return Image.open(path)


def test_picture_is_scaled_and_center_cropped():
    wide = np.zeros((10, 30), dtype=np.uint8)
    wide[:, 10:20] = 255  # the middle third
    array = to_array(Image.fromarray(wide), 10, 1)
    assert (array.shape, array.dtype) == ((1, 10, 10), np.uint8)
    assert np.unique(array).tolist() == [255]


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bits_are_scaled_to_8(tmp_path, suffix):
    values = np.array([[0, 257], [32896, 65535]], dtype=np.uint16)
    picture = saved(Image.fromarray(values), tmp_path / f"a.{suffix}")
    assert to_array(picture, 2, 1).flatten().tolist() == [0, 1, 128, 255]


def test_transparent_value_of_16_bits_becomes_white(tmp_path):
    values = np.array([[0, 257], [32896, 65535]], dtype=np.uint16)
    picture = saved(Image.fromarray(values), tmp_path / "a.png", transparency=257)
    assert to_array(picture, 2, 1)[0].tolist() == [[0, 255], [128, 255]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "I;16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_black_and_white_keep_their_values_in_all_modes(mode, channels):
    for value, color in ((0, "black"), (255, "white")):
        if mode == "I;16":
            picture = Image.new(mode, (4, 4), 257 * value)
        else:
            picture = Image.new("RGB", (4, 4), color).convert(mode)
        array = to_array(picture, 4, channels)
        assert array.shape == (channels, 4, 4)
        assert np.abs(array.astype(int) - value).max() <= 1


@pytest.mark.parametrize("mode", ["LA", "RGBA", "PA"])
def test_transparent_pixels_are_white(mode):
    picture = Image.new(mode, (4, 4), (0,) * len(Image.new(mode, (1, 1)).getbands()))
    assert np.unique(to_array(picture, 4, 3)).tolist() == [255]


def test_transparent_color_of_a_palette_is_white(tmp_path):
    picture = saved(Image.new("P", (4, 4), 0), tmp_path / "a.png", transparency=0)
    assert "transparency" in picture.info
    assert np.unique(to_array(picture, 4, 1)).tolist() == [255]


def test_exif_orientation_is_applied(tmp_path):
    pixels = np.zeros((16, 16), dtype=np.uint8)
    pixels[:8] = 255  # the upper half
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by 180 degrees
    array = to_array(saved(Image.fromarray(pixels), tmp_path / "a.jpg", exif=exif, quality=100), 16, 1)[0]
    assert array[:7].max() < 10
    assert array[9:].min() > 245


def test_large_jpeg_is_decoded_at_a_lower_resolution(tmp_path):
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize(
        (800, 600), Image.Resampling.BICUBIC
    )
    full, draft = saved(smooth, tmp_path / "a.png"), saved(smooth, tmp_path / "a.jpg", quality=100)
    difference = to_array(full, 32, 3).astype(int) - to_array(draft, 32, 3)
    assert np.abs(difference).max() <= 4
    assert draft.size == (100, 75)  # at least twice 32


def test_other_process_gives_the_same_images_and_errors(tmp_path):
    for i in range(3):
        Image.new("L", (8, 8), 50 * i).save(tmp_path / f"{i}.png")
    (tmp_path / "1.png").write_bytes(b"broken")
    names, read = [f"{i}.png" for i in range(3)], FileReader(str(tmp_path))
    output, other = (create_array_file(tmp_path / f"{name}.npy", 3, 8, 1) for name in ("here", "there"))
    process = start_decoding_process()
    try:
        assert decode_chunk_in(process, read, names, 0, other) == decode_chunk(read, names, 0, output)
        assert np.array_equal(np.load(other.path), np.load(output.path))
        Path(other.path).unlink()
        with pytest.raises(OSError, match="No such file"):
            decode_chunk_in(process, read, names, 0, other)
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(EOFError):
            decode_chunk_in(process, read, names, 0, output)
    finally:
        process.communicate()


def test_picture_that_may_be_intact_is_not_counted_as_broken(tmp_path):
    def read(name: str) -> tuple[Image.Image, None]:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    sources = {split: PictureSource(read, ["a.png"]) for split in SPLITS}
    with pytest.raises(UserError, match=r"a\.png cannot be read at the moment \(Stale .*check the disk or the network"):
        write_prepared(tmp_path / "prepared", sources, 4, 1, None)
    assert not (tmp_path / "prepared").exists()
