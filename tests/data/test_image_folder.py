"""A folder of the user's own images. Damaged files are tested in tests/behaviour/test_broken_data_files.py."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dcgan.common.errors import UserError
from dcgan.data.image_folder import ImageDataset
from tests.data.building import build_data, set_up_data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with ten color images and, in a subfolder, a grey and a transparent one."""
    folder = tmp_path / "images"
    (folder / "below").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(10):
        size = (40 + i, 30) if i % 2 else (30, 50)
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / f"{i}.jpg")
    Image.fromarray(rng.integers(0, 256, (9, 9), dtype=np.uint8)).save(folder / "below" / "grey.png")
    Image.fromarray(rng.integers(0, 256, (9, 9, 4), dtype=np.uint8)).save(folder / "below" / "alpha.PNG")
    (folder / "notes.txt").write_text("not an image")
    return folder


@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_any_size_and_mode_become_batches(folder, channels):
    data = set_up_data("data=image_folder", f"data.root={folder}", f"data.channels={channels}", "data.workers=0")
    (batch,) = data.train_dataloader()
    images, labels = data.on_after_batch_transfer(data.on_before_batch_transfer(batch, 0), 0)
    assert labels is None
    assert images.shape == (8, channels, 64, 64)
    assert -1 <= images.min() < images.max() <= 1
    assert data.preview(100).shape == (12, channels, 64, 64)


def test_image_is_scaled_and_center_cropped(tmp_path):
    wide = np.zeros((10, 30), dtype=np.uint8)
    wide[:, 10:20] = 255  # the middle third
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert ImageDataset([tmp_path / "wide.png"], None, 10, 1)[0].image.unique().tolist() == [255]


def test_limit_keeps_images_and_labels_evenly_from_all_folders(tmp_path):
    for name, n in (("a", 8), ("b", 4)):
        (tmp_path / name).mkdir()
        for i in range(n):
            Image.new("L", (8, 8)).save(tmp_path / name / f"{i}.png")
    labelled = ["data=image_folder", "conditional=concat", "data.classes=2", "data.batch_size=2"]
    data = set_up_data(*labelled, f"data.root={tmp_path}", "data.workers=0", "data.limit=6")
    assert [path.parent.name for path in data.dataset.paths] == list("aaaabb")
    assert data.examples([3, 4])[1] == ["a", "b"]
    assert data.label_prior().tolist() == pytest.approx([2 / 3, 1 / 3])


@pytest.mark.parametrize(("classes", "n"), [(1, 1), (3, 1)])
def test_other_number_of_folders_than_classes_is_rejected(folder, classes, n):
    settings = ["data=image_folder", f"data.root={folder}", f"data.classes={classes}", "data.labelled=true"]
    message = rf"must contain data.classes={classes} folders of images, .* and no other images, got {n} folders"
    with pytest.raises(UserError, match=message):
        set_up_data(*settings)


def test_missing_images_and_missing_folder_are_rejected(tmp_path):
    with pytest.raises(UserError, match=r"there is no .jpg, .jpeg or .png file in"):
        set_up_data("data=image_folder", f"data.root={tmp_path}")
    with pytest.raises(UserError, match="there is no folder"):
        set_up_data("data=image_folder", f"data.root={tmp_path / 'nowhere'}")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.on_broken=ignore", "data.on_broken must be one of raise, skip, got 'ignore'"),
        ("data.workers=-1", "data.workers must be an integer >= 0, got -1"),
    ],
)
def test_argument_that_is_out_of_range_is_rejected(override, message):
    with pytest.raises(Exception, match=message):
        build_data("data=image_folder", override)


def test_broken_image_is_named(folder):
    (folder / "3.jpg").write_bytes((folder / "3.jpg").read_bytes()[:200])
    data = set_up_data("data=image_folder", f"data.root={folder}", "data.workers=0", "data.batch_size=12")
    with pytest.raises(UserError, match=r"the image .*3\.jpg cannot be read"):
        data.on_before_batch_transfer(next(iter(data.train_dataloader())), 0)


def test_fingerprint_separates_changed_content_from_changed_times(folder):
    def fingerprint() -> dict[str, str]:
        return set_up_data("data=image_folder", f"data.root={folder}").fingerprint

    before = fingerprint()
    os.utime(folder / "3.jpg", (0, 0))
    copied = fingerprint()
    (folder / "3.jpg").rename(folder / "other.jpg")
    renamed = fingerprint()
    assert before["content"] == copied["content"] != renamed["content"]
    assert before["modified"] != copied["modified"]


def test_notes_about_broken_images_are_limited(folder, capsys):
    for i in range(10):
        (folder / f"{i}.jpg").write_bytes(b"broken")
    for i in range(2):
        (folder / f"1{i}.jpg").write_bytes(b"broken")
    data = set_up_data("data=image_folder", f"data.root={folder}", "data.on_broken=skip")
    data.examples(list(range(14)))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 11
    assert lines[-1] == "note: more images are skipped, summary.json will list all of them"
    assert len(data.broken_files) == 12
