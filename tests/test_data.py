import gzip
import hashlib
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from PIL import Image

from dcgan.batches import BatchIndices, ResumableLoader
from dcgan.checks import UserError
from dcgan.image_folder import Pictures
from dcgan.pixels import fit_images
from tests.conftest import compose_config


def build(*overrides: str, setup: bool = True):
    data = instantiate(compose_config("data.batch_size=8", *overrides).data)
    if setup:
        data.prepare_data()
        data.setup("fit")
    return data


# --- the order of images


def test_an_epoch_visits_every_image_once_in_an_order_of_seed_and_epoch():
    batches = BatchIndices(64, 8, seed=0)
    epochs = []
    for epoch in (0, 1, 0):
        batches.set_epoch(epoch)
        epochs.append(torch.cat(list(batches)))
    assert epochs[0].sort().values.tolist() == list(range(64))
    assert epochs[0].tolist() == epochs[2].tolist() != epochs[1].tolist()
    assert torch.cat(list(BatchIndices(64, 8, seed=1))).tolist() != epochs[0].tolist()


def test_the_last_partial_batch_is_dropped():
    assert [len(batch) for batch in BatchIndices(30, 8, seed=0)] == [8, 8, 8]


def test_ranks_have_disjoint_shards_of_equal_length_that_cover_the_epoch():
    ranks = [torch.cat(list(BatchIndices(70, 8, seed=0, rank=r, world_size=2))).tolist() for r in range(2)]
    assert len(ranks[0]) == len(ranks[1]) == 32
    assert len(set(ranks[0] + ranks[1])) == 64


def loader_of(world_size: int = 1) -> ResumableLoader:
    return ResumableLoader(BatchIndices(64, 8, 0, 0, world_size), lambda indices: [b.tolist() for b in indices])


@pytest.mark.parametrize("done", [0, 3, 7, 8])
def test_a_stopped_epoch_goes_on_where_it_stopped_however_far_was_read_ahead(done):
    whole = list(loader_of())
    stopped = loader_of()
    batches = iter(stopped)
    begun = [next(batches) for _ in range(done)]
    resumed = loader_of()
    resumed.load_state_dict(stopped.state_dict())
    assert begun[: done % 8] + list(resumed) == whole  # after the last batch of an epoch, the next one is whole
    assert len(list(resumed)) == 8


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (1, 8)])
def test_another_number_of_processes_goes_on_at_about_the_same_place(before, after):
    stopped, resumed = loader_of(before), loader_of(after)
    batches = iter(stopped)
    for _ in range(3):
        next(batches)
    resumed.load_state_dict(stopped.state_dict())
    assert len(list(resumed)) == len(resumed) - 3 * before // after
    assert len(list(resumed)) == len(resumed)


# --- MNIST's format


def test_batches_are_training_images_in_the_networks_range():
    data = build()
    loader = data.train_dataloader()
    batches, labels = zip(*loader, strict=True)
    assert len(batches) == len(loader) == 8
    assert set(labels) == {None}
    assert batches[0].shape == (8, 1, 28, 28)
    images = torch.cat(batches)
    assert images.min() == -1
    assert images.max() == 1
    corner = ((images[:, 0, 0, 0] + 1) * 127.5).round().sort().values
    assert corner.tolist() == list(range(64))  # each training image once; test images have 255 there


def test_the_sigmoid_output_has_its_data_in_0_to_1():
    images = torch.cat([images for images, _ in build("output=sigmoid").train_dataloader()])
    assert images.min() == 0
    assert images.max() == 1


def test_limit_takes_the_first_images():
    images = build("data.limit=10").train_images
    assert images[:, 0, 0, 0].tolist() == list(range(10))


def test_images_are_resized_and_spread_over_channels():
    data = build("data.image_size=32", "data.channels=3")
    batch, _ = next(iter(data.train_dataloader()))
    assert batch.shape == (8, 3, 32, 32)
    assert torch.equal(batch[:, 0], batch[:, 2])
    flat = torch.full((1, 1, 28, 28), 200, dtype=torch.uint8)
    assert fit_images(flat, 64, 1).unique().tolist() == [200]


def test_a_step_of_several_d_updates_takes_several_batches():
    data = build("discriminator_steps=3")
    assert len(next(iter(data.train_dataloader()))[0]) == 24
    assert len(data.train_dataloader()) == 2


def test_more_images_a_step_than_there_are_is_refused():
    with pytest.raises(UserError, match=r"one step needs 65 images .* but there are only 64: lower data.batch_size"):
        build("data.batch_size=65").train_dataloader()


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("data.batch_size=0", "data.batch_size must be an integer >= 1, got 0"),
        ("data.limit=0", "data.limit must be an integer >= 1, got 0"),
        ("data.channels=2", "data.channels must be 1 or 3, got 2"),
    ],
)
def test_bad_values_are_refused(override, sentence):
    with pytest.raises(Exception, match=sentence):
        build(override)


@pytest.fixture
def root(mnist_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(mnist_root, tmp_path / "data"))


@pytest.fixture
def _no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "create_connection", refuse)


def test_a_truncated_file_is_named(root):
    path = root / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte is damaged \(50,185 bytes, its header says 50,192\)"):
        build(f"data.root={root}")


@pytest.mark.parametrize("content", [b"", b"\0\0", b"\0\0\x08\x03\0\0", b"<html>not found</html>"])
def test_a_file_that_is_no_idx_file_is_named(root, content):
    path = root / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    path.write_bytes(content)
    with pytest.raises(UserError, match="t10k-labels-idx1-ubyte is damaged"):
        build(f"data.root={root}")


def test_a_damaged_archive_is_named(root):
    raw = root / "MNIST" / "raw"
    (raw / "train-images-idx3-ubyte").unlink()
    (raw / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"not MNIST"))
    with pytest.raises(
        UserError, match=r"train-images-idx3-ubyte.gz is damaged .* delete it to have it downloaded anew"
    ):
        build(f"data.root={root}")


@pytest.mark.usefixtures("_no_network")
def test_no_data_and_no_network_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match=r"MNIST is not in .*raw and could not be put there .*use data=digits"):
        build(f"data.root={tmp_path / 'empty'}")


def test_archives_are_unpacked_once_they_are_verified(root, monkeypatch):
    data = build(f"data.root={root}", setup=False)
    raw = root / "MNIST" / "raw"
    resources = []
    for name, _ in data.dataset.resources:
        content = gzip.compress((raw / name).with_suffix("").read_bytes())
        (raw / name).with_suffix("").unlink()
        (raw / name).write_bytes(content)
        resources.append((name, hashlib.md5(content).hexdigest()))
    monkeypatch.setattr(data.dataset, "resources", resources)
    data.prepare_data()
    data.setup("fit")
    assert len(data.train_images) == 64


def test_the_original_mnist_is_read_whole(real_mnist):
    assert [len(part) for part in real_mnist.load(train=True)] == [60_000, 60_000]
    images, labels = real_mnist.load(train=False)
    assert images.shape == (10_000, 1, 28, 28)
    assert labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.mark.parametrize(("data", "folder"), [("fashion_mnist", "FashionMNIST"), ("kmnist", "KMNIST")])
def test_the_sets_in_mnists_format_are_read_from_their_own_folders(root, data, folder):
    (root / "MNIST").rename(root / folder)
    assert build(f"data={data}", f"data.root={root}").train_images.shape == (64, 1, 28, 28)


# --- sets that need no download


def test_digits_are_real_and_keep_their_test_images_out():
    data = build("data=digits")
    assert data.train_images.shape == (1437, 1, 28, 28)
    assert [len(part) for part in data.load(train=False)] == [360, 360]
    assert (data.train_images.min(), data.train_images.max()) == (0, 255)


# --- the user's own pictures


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "below").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(10):
        size = (40 + i, 30) if i % 2 else (30, 50)
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / f"{i}.jpg")
    Image.fromarray(rng.integers(0, 256, (9, 9), dtype=np.uint8)).save(folder / "below" / "grey.png")
    Image.fromarray(rng.integers(0, 256, (9, 9, 4), dtype=np.uint8)).save(folder / "below" / "alpha.PNG")
    (folder / "notes.txt").write_text("not a picture")
    return folder


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_any_kind_become_batches(pictures, channels):
    data = build("data=image_folder", f"data.root={pictures}", f"data.channels={channels}", "data.workers=0")
    (stack,) = data.train_dataloader()
    batch, labels = data.on_after_batch_transfer(data.on_before_batch_transfer(stack, 0), 0)
    assert labels is None
    assert batch.shape == (8, channels, 64, 64)
    assert -1 <= batch.min() < batch.max() <= 1
    assert data.preview(100).shape == (12, channels, 64, 64)


def test_a_picture_is_scaled_and_its_middle_cropped(tmp_path):
    wide = np.zeros((10, 30), dtype=np.uint8)
    wide[:, 10:20] = 255  # the middle third
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert Pictures([tmp_path / "wide.png"], None, 10, 1)[0].image.unique().tolist() == [255]


def test_a_limit_takes_pictures_and_labels_from_all_folders_alike(tmp_path):
    for name, n in (("a", 8), ("b", 4)):
        (tmp_path / name).mkdir()
        for i in range(n):
            Image.new("L", (8, 8)).save(tmp_path / name / f"{i}.png")
    labelled = ["data=image_folder", "conditional=concat", "data.classes=2", "data.batch_size=2"]
    data = build(*labelled, f"data.root={tmp_path}", "data.workers=0", "data.limit=6")
    assert [data.pictures.paths[i].parent.name for i in range(6)] == list("aaaabb")
    assert data.examples([3, 4])[1] == ["a", "b"]
    assert data.label_prior().tolist() == pytest.approx([2 / 3, 1 / 3])


def test_no_pictures_or_no_folder_says_so(tmp_path):
    with pytest.raises(UserError, match=r"no .jpg, .jpeg or .png file below"):
        build("data=image_folder", f"data.root={tmp_path}")
    with pytest.raises(UserError, match="there is no folder"):
        build("data=image_folder", f"data.root={tmp_path / 'nowhere'}")


def test_a_broken_picture_is_named(pictures):
    (pictures / "3.jpg").write_bytes((pictures / "3.jpg").read_bytes()[:200])
    data = build("data=image_folder", f"data.root={pictures}", "data.workers=0", "data.batch_size=12")
    with pytest.raises(UserError, match=r"the picture .*3\.jpg cannot be read"):
        data.on_before_batch_transfer(next(iter(data.train_dataloader())), 0)
