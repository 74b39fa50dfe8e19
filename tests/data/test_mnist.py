"""Data sets in MNIST's format: downloads, archives and damaged files."""

import gzip
import hashlib
import shutil
import socket
from pathlib import Path

import pytest

from dcgan.common.errors import UserError
from dcgan.data.mnist import MissingDataError, MNISTDataModule
from dcgan.data.pixel_range import PixelRange
from tests.data.building import build_data, set_up_data


@pytest.fixture
def root(mnist_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(mnist_root, tmp_path / "data"))


@pytest.fixture
def _no_network(monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "create_connection", fail)


def test_truncated_file_is_rejected(root):
    path = root / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-7])
    message = r"train-images-idx3-ubyte is damaged \(50,185 bytes instead of the 50,192 of its header\)"
    with pytest.raises(UserError, match=message):
        set_up_data(f"data.root={root}")


@pytest.mark.parametrize("content", [b"", b"\0\0", b"\0\0\x08\x03\0\0", b"<html>not found</html>"])
def test_file_without_an_idx_header_is_rejected(root, content):
    (root / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").write_bytes(content)
    with pytest.raises(UserError, match="t10k-labels-idx1-ubyte is damaged"):
        set_up_data(f"data.root={root}")


def test_damaged_archive_is_rejected(root):
    raw = root / "MNIST" / "raw"
    (raw / "train-images-idx3-ubyte").unlink()
    (raw / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"not MNIST"))
    message = r"train-images-idx3-ubyte.gz is damaged .* delete it, and it is downloaded again"
    with pytest.raises(UserError, match=message):
        set_up_data(f"data.root={root}")


@pytest.mark.usefixtures("_no_network")
def test_error_without_data_and_network_lists_what_to_do(tmp_path):
    timeout = socket.getdefaulttimeout()
    message = r"MNIST is not in .*raw and cannot be downloaded .*: copy .*ubyte\.gz there, .*use data=digits"
    with pytest.raises(MissingDataError, match=message):
        set_up_data(f"data.root={tmp_path / 'empty'}")
    assert socket.getdefaulttimeout() == timeout


def test_verified_archives_are_unpacked(root, monkeypatch):
    data = build_data(f"data.root={root}")
    resources = []
    for name, _ in data.dataset.resources:
        file = data.raw / Path(name).stem
        content = gzip.compress(file.read_bytes())
        file.unlink()
        (data.raw / name).write_bytes(content)
        resources.append((name, hashlib.md5(content).hexdigest()))
    monkeypatch.setattr(data.dataset, "resources", resources)
    data.prepare_data()
    data.setup("fit")
    assert len(data.train_images) == 64


def test_original_mnist_is_read_completely(real_mnist):
    assert [len(part) for part in real_mnist.load(train=True)] == [60_000, 60_000]
    images, labels = real_mnist.load(train=False)
    assert images.shape == (10_000, 1, 28, 28)
    assert labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.mark.parametrize(("data", "folder"), [("fashion_mnist", "FashionMNIST"), ("kmnist", "KMNIST")])
def test_other_data_sets_in_mnists_format_have_their_own_folders(root, data, folder):
    (root / "MNIST").rename(root / folder)
    data = set_up_data(f"data={data}", f"data.root={root}")
    assert data.train_images.shape == (64, 1, 28, 28)
    assert data.dataset_name == data.judge_name == folder


def test_dataset_must_be_a_subclass_of_mnist():
    with pytest.raises(ValueError, match=r"data.dataset must be a subclass of torchvision.datasets.MNIST, got <class"):
        MNISTDataModule(dataset=dict, root="data", image_size=28, channels=1, pixels=PixelRange(-1), batch_size=1)
