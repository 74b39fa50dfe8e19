"""A folder of the user's own pictures. Damaged files are tested in tests/behaviour/test_broken_data_files.py."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dcgan.common.errors import UserError
from tests.data.building import batches, build_data, set_up_data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with ten color pictures and, in a subfolder, a grey and a transparent one."""
    folder = tmp_path / "images"
    (folder / "below").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(10):
        size = (40 + i, 30) if i % 2 else (30, 50)
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / f"{i}.jpg")
    Image.fromarray(rng.integers(0, 256, (9, 9), dtype=np.uint8)).save(folder / "below" / "grey.png")
    Image.fromarray(rng.integers(0, 256, (9, 9, 4), dtype=np.uint8)).save(folder / "below" / "alpha.PNG")
    (folder / "notes.txt").write_text("not a picture")
    return folder


def write_classes(root: Path, **n: int) -> Path:
    """Write n flat pictures into each class folder: class i has the value 100 i."""
    for i, (name, n_pictures) in enumerate(n.items()):
        (root / name).mkdir(parents=True)
        for j in range(n_pictures):
            Image.new("L", (8, 8), 100 * i).save(root / name / f"{j}.png")
    return root


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_any_size_and_mode_become_batches(folder, channels, capsys):
    settings = ["data=image_folder", f"data.root={folder}", f"data.channels={channels}", "data.test_fraction=0"]
    data = set_up_data(*settings)
    assert capsys.readouterr().err == f"note: 1 files in {folder} are no pictures and ignored\n"
    ((images, labels),) = batches(data)
    assert labels is None
    assert images.shape == (8, channels, 64, 64)
    assert -1 <= images.min() < images.max() <= 1
    assert data.preview(100).shape == (12, channels, 64, 64)
    assert data.examples([1])[1] is None
    assert set_up_data(*settings).train_images.equal(data.train_images)
    assert capsys.readouterr().err == ""


def test_pictures_are_in_an_order_that_depends_on_their_names_alone(folder, tmp_path):
    order = build_data("data=image_folder", f"data.root={folder}").split_names
    os.renames(folder, tmp_path / "other" / "place")
    (tmp_path / "other" / "place" / "5.jpg").unlink()
    less = build_data("data=image_folder", f"data.root={tmp_path / 'other' / 'place'}").split_names
    for split in ("train", "test"):
        assert less[split] == [name for name in order[split] if name != "5.jpg"]
    assert order["train"] != sorted(order["train"])


def test_fraction_of_the_pictures_is_held_out(tmp_path):
    write_classes(tmp_path, a=200)
    names = build_data("data=image_folder", f"data.root={tmp_path}", "data.test_fraction=0.25").split_names
    more = build_data("data=image_folder", f"data.root={tmp_path}", "data.test_fraction=0.5").split_names
    assert 35 < len(names["test"]) < 65
    assert len(names["train"]) + len(names["test"]) == 200
    assert set(names["test"]) < set(more["test"])


def test_train_and_test_folders_are_the_splits(tmp_path):
    for split, n in (("train", 9), ("test", 3)):
        write_classes(tmp_path / split, cat=n, dog=n)
    settings = ["data=image_folder", f"data.root={tmp_path}", "data.image_size=8", "data.channels=1"]
    data = set_up_data(*settings, "data.classes=2")
    for train, n in ((True, 18), (False, 6)):
        images, labels = data.load(train)
        assert len(images) == n
        assert (images.float().mean(dim=(1, 2, 3)) == 100 * labels).all()
    assert data.class_name(1) == "dog"
    assert data.load(train=True)[1].sum() == 9
    assert set_up_data(*settings).train_labels is None


def test_limit_keeps_a_random_subset_and_its_labels(tmp_path):
    write_classes(tmp_path, a=30, b=30)
    labelled = ["data=image_folder", "conditional=concat", "data.classes=2", "data.image_size=8", "data.channels=1"]
    data = set_up_data(*labelled, f"data.root={tmp_path}", "data.limit=20")
    assert data.n_images == 20
    assert 4 < data.train_labels.sum() < 16
    images, names = data.examples([3, 4, 5])
    assert images.float().mean(dim=(1, 2, 3)).tolist() == [100.0 * (name == "b") for name in names]
    assert data.label_prior()[1] == pytest.approx(data.train_labels.double().mean().item())


def test_links_are_followed_but_not_in_circles(tmp_path):
    write_classes(tmp_path / "elsewhere", cat=2)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "cat").symlink_to(tmp_path / "elsewhere" / "cat")
    (tmp_path / "images" / "again").symlink_to(tmp_path / "images")
    files = build_data("data=image_folder", f"data.root={tmp_path / 'images'}").files
    assert sorted(name for name in files if not name.startswith("again")) == ["cat/0.png", "cat/1.png"]
    assert len(files) <= 4


@pytest.mark.parametrize(("classes", "n"), [(1, 1), (3, 1)])
def test_other_number_of_folders_than_classes_is_rejected(folder, classes, n):
    settings = ["data=image_folder", f"data.root={folder}", f"data.classes={classes}", "data.labelled=true"]
    message = rf"must contain data.classes={classes} folders of images, .* and no other images, got {n} folders"
    with pytest.raises(UserError, match=message):
        set_up_data(*settings)


def test_missing_pictures_and_missing_folder_are_rejected(tmp_path):
    with pytest.raises(UserError, match=r"there is no \.jpg, .* \.tiff file in"):
        set_up_data("data=image_folder", f"data.root={tmp_path}")
    (tmp_path / "notes.txt").write_text("not a picture")
    with pytest.raises(UserError, match=r"there is no \.jpg, .* \.tiff file in"):
        set_up_data("data=image_folder", f"data.root={tmp_path}")
    with pytest.raises(UserError, match="there is no folder"):
        set_up_data("data=image_folder", f"data.root={tmp_path / 'nowhere'}")


def test_one_picture_is_too_few(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    data = set_up_data("data=image_folder", f"data.root={tmp_path}", "data.test_fraction=0")
    with pytest.raises(UserError, match=r"one step needs 8 images .* but there are only 1"):
        data.train_dataloader()
    with pytest.raises(UserError, match=r"no test image among the 1 pictures .* raise data.test_fraction \(0\)"):
        data.load(train=False)
    with pytest.raises(UserError, match=r"no train image among the 1 pictures .* lower data.test_fraction \(0.999\)"):
        set_up_data("data=image_folder", f"data.root={tmp_path}", "data.test_fraction=0.999")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.on_broken=ignore", "data.on_broken must be one of raise, skip, got 'ignore'"),
        ("data.test_fraction=1", r"data.test_fraction must be a number in \[0, 1\), got 1"),
    ],
)
def test_argument_that_is_out_of_range_is_rejected(override, message):
    with pytest.raises(Exception, match=message):
        build_data("data=image_folder", override)


def test_fingerprint_and_name_of_the_judge_depend_on_the_content(folder):
    def facts() -> tuple[dict[str, str], str]:
        data = set_up_data("data=image_folder", f"data.root={folder}")
        return data.fingerprint, data.judge_name

    before = facts()
    assert before[1].startswith("images-")
    os.utime(folder / "3.jpg", (0, 0))
    assert facts() == before
    Image.new("L", (8, 8)).save(folder / "3.jpg")
    changed = facts()
    assert changed[0] != before[0]
    assert changed[1] != before[1]
