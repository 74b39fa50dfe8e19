"""Image sets of torchvision, from files in their formats and from generated pictures."""

import pickle
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from torchvision.datasets import CIFAR10, SVHN, FakeData

from dcgan.checkpoints.safe_instantiate import safe_instantiate
from dcgan.common.errors import UserError
from dcgan.data.datamodule import BaseDataModule
from dcgan.data.pixel_range import PixelRange
from dcgan.data.torchvision import MissingDataError, TorchvisionDataModule
from tests.conftest import compose_config
from tests.data.building import build_data, set_up_data


class Generated(FakeData):
    """Flat pictures, with the arguments of other sets."""

    classes = ["a", "b", "c"]
    built = 0

    def __init__(self, root, split="train"):
        Generated.built += 1
        super().__init__(size=40 if split == "train" else 10)

    def __getitem__(self, index):
        return Image.new("RGB", (30, 20), (index, 0, 100)), index % 3


def build_generated(tmp_path: Path, **arguments) -> TorchvisionDataModule:
    defaults = {"root": str(tmp_path), "cache_dir": str(tmp_path / "cache"), "image_size": 16, "channels": 3}
    data = TorchvisionDataModule(
        **defaults | {"dataset": Generated, "pixels": PixelRange(-1), "batch_size": 8, "classes": 3} | arguments
    )
    data.setup("fit")
    return data


def test_set_is_prepared_once_with_labels_and_names(tmp_path):
    Generated.built = 0
    data = build_generated(tmp_path, train={"split": "train"}, test={"split": "test"}, labelled=True)
    again = build_generated(tmp_path, train={"split": "train"}, test={"split": "test"}, labelled=True)
    assert Generated.built == 2
    assert again.fingerprint == data.fingerprint
    assert data.dataset_name == "Generated"
    assert data.judge_name.startswith("Generated-")
    images, labels = data.load(train=False)
    assert images.shape == (10, 3, 16, 16)
    assert labels.shape == (10,)
    images, names = data.examples([0, 1, 2])
    assert names == ["abc"[label] for label in data.train_labels[:3]]
    assert torch.equal(data.train_images[:, 0, 0, 0] % 3, data.train_labels)
    assert data.train_images[:, 0, 0, 0].sort().values.tolist() == list(range(40))


def test_fraction_of_a_set_without_a_test_split_is_held_out(tmp_path):
    data = build_generated(tmp_path, test_fraction=0.3)
    n = [len(data.load(train)[0]) for train in (True, False)]
    assert sum(n) == 40
    assert 5 <= n[1] <= 20


def test_color_pictures_become_grey(tmp_path):
    assert build_generated(tmp_path, channels=1).train_images.shape[1:] == (1, 16, 16)


def test_items_that_are_no_pictures_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(Generated, "__getitem__", lambda self, index: (np.zeros(3), 0))
    with pytest.raises(UserError, match=r"40 of 40 pictures in .* cannot be read .*it is a ndarray, not a picture"):
        build_generated(tmp_path, test_fraction=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataset": dict}, "data.dataset must be an image set of torchvision.datasets, got <class 'dict'>"),
        ({"files": "../*"}, "data.files must be a pattern of files below data.root, got '../\\*'"),
        ({"files": "/etc/*"}, "data.files must be a pattern of files below data.root, got '/etc/\\*'"),
        ({"train": {"root": "x"}}, "data.train.root must not be set"),
        ({"test": {"download": True}}, "data.test.download must not be set"),
        ({"train": {"split": "../x"}}, "data.train.split must be a number, a boolean or a string without slashes"),
        ({"train": {"split": ["x"]}}, "data.train.split must be a number, a boolean or a string without slashes"),
    ],
)
def test_argument_that_is_out_of_range_is_rejected(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        build_generated(tmp_path, **arguments)


def write_cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write CIFAR-10 with 10 pictures per file: all pixels of picture i of a file are i."""
    folder = root / CIFAR10.base_folder
    folder.mkdir(parents=True)
    data = np.repeat(np.arange(10, dtype=np.uint8)[:, None], 3072, axis=1)
    for name, _ in CIFAR10.train_list + CIFAR10.test_list:
        (folder / name).write_bytes(pickle.dumps({"data": data, "labels": list(range(10))}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)


def test_cifar10_is_read_from_its_files(tmp_path, monkeypatch):
    write_cifar10(tmp_path, monkeypatch)
    settings = ["data=cifar10", f"data.root={tmp_path}", f"data.cache_dir={tmp_path / 'cache'}"]
    data = set_up_data(*settings, "conditional=concat")
    assert data.train_images.shape == (50, 3, 32, 32)
    assert (data.train_images[:, 0, 0, 0] == data.train_labels).all()
    assert data.examples([0])[1] == ["abcdefghij"[data.train_labels[0]]]
    assert len(data.load(train=False)[0]) == 10
    monkeypatch.setattr(TorchvisionDataModule, "build_dataset", None)  # it is not needed again
    assert set_up_data(*settings).n_images == 50
    path = tmp_path / CIFAR10.base_folder / "data_batch_1"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(TypeError, match="NoneType"):  # a changed file is noticed
        set_up_data(*settings)


def test_svhn_is_read_from_its_files(tmp_path, monkeypatch):
    from scipy.io import savemat

    for split, n in (("train", 12), ("test", 4)):
        content = {"X": np.zeros((32, 32, 3, n), dtype=np.uint8), "y": np.full((n, 1), 10)}
        savemat(tmp_path / f"{split}_32x32.mat", content)
    monkeypatch.setattr("torchvision.datasets.svhn.check_integrity", lambda *_: True)
    data = set_up_data("data=svhn", f"data.root={tmp_path}", f"data.cache_dir={tmp_path / 'cache'}")
    assert data.n_images == 12
    assert data.train_labels.unique().tolist() == [0]
    assert not data.mirrored
    assert SVHN.__name__ == data.dataset_name


@pytest.mark.parametrize("name", ["cifar10", "svhn", "stl10", "celeba"])
def test_error_without_data_and_network_says_what_to_do(tmp_path, monkeypatch, name):
    def fail(*args, **kwargs):
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "create_connection", fail)
    data = build_data(f"data={name}", f"data.root={tmp_path / 'empty'}")
    with pytest.raises(MissingDataError, match=r"is not in .*empty \(cannot be downloaded: .*: copy its files there"):
        data.prepare_data()


@pytest.mark.parametrize("name", ["cifar10", "svhn", "stl10", "celeba"])
def test_checkpoint_may_hold_the_config(name):
    config = OmegaConf.to_container(compose_config(f"data={name}"), resolve=True)
    data = safe_instantiate({"data": config["data"]}, "data", BaseDataModule)
    assert data.dataset is instantiate(compose_config(f"data={name}").data).dataset
    assert data.mirrored == (name != "svhn")


def test_celeba_like_picture_is_center_cropped(tmp_path, monkeypatch):
    def getitem(self, index):
        picture = np.zeros((218, 178, 3), dtype=np.uint8)
        picture[20:198] = 200  # 178 x 178 pixels in the center
        return Image.fromarray(picture), None

    monkeypatch.setattr(Generated, "__getitem__", getitem)
    data = build_generated(tmp_path, image_size=64, classes=None)
    assert data.train_images[..., 2:-2, :].unique().tolist() == [200]  # the filter reaches beyond the edges
    assert data.train_labels is None
