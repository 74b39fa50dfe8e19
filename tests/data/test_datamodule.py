"""Batches of an in-memory data module, and its argument checks."""

import pytest
import torch

from dcgan.common.errors import UserError
from dcgan.data.datamodule import check_labels, class_frequencies, fits_in_memory
from tests.data.building import batches, build_data, set_up_data


def test_batches_are_training_images_in_the_networks_range():
    data = set_up_data()
    parts, labels = zip(*batches(data), strict=True)
    assert len(parts) == len(data.train_dataloader()) == 8
    assert set(labels) == {None}
    assert parts[0].shape == (8, 1, 28, 28)
    images = torch.cat(parts)
    assert images.min() == -1
    assert images.max() == 1
    corner = ((images[:, 0, 0, 0] + 1) * 127.5).round().sort().values
    assert corner.tolist() == list(range(64))  # each training image once; test images have 255 there


def test_sigmoid_output_gets_images_in_0_to_1():
    images = torch.cat([images for images, _ in batches(set_up_data("output=sigmoid"))])
    assert images.min() == 0
    assert images.max() == 1


def test_labels_are_those_of_the_images():
    data = set_up_data("conditional=concat")
    for images, labels in batches(data):
        index = ((images[:, 0, 0, 0] + 1) * 127.5).round().long()
        assert torch.equal(labels, data.train_labels[index])


def test_limit_keeps_the_first_images():
    data = set_up_data("data.limit=10")
    assert data.train_images[:, 0, 0, 0].tolist() == list(range(10))
    assert data.n_images == 10
    assert torch.equal(data.preview(20), data.train_images)


def test_images_are_resized_and_their_channel_repeated():
    images, _ = next(batches(set_up_data("data.image_size=32", "data.channels=3")))
    assert images.shape == (8, 3, 32, 32)
    assert torch.equal(images[:, 0], images[:, 2])


def test_batch_holds_the_images_of_all_d_updates_of_a_step():
    loader = set_up_data("discriminator_steps=3").train_dataloader()
    assert len(next(iter(loader))[0]) == 24
    assert len(loader) == 2


def test_fingerprint_depends_on_images_and_labels():
    data, other = set_up_data(), set_up_data("data.limit=63")
    assert data.fingerprint == set_up_data("seed=1").fingerprint != other.fingerprint
    other = set_up_data()
    other.train_labels = other.train_labels.flip(0)
    assert data.fingerprint != other.fingerprint


def test_batch_that_is_larger_than_the_data_set_is_rejected():
    with pytest.raises(UserError, match=r"one step needs 65 images .* but there are only 64: lower data.batch_size"):
        set_up_data("data.batch_size=65").train_dataloader()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.image_size=0", "data.image_size must be an integer >= 1, got 0"),
        ("data.channels=2", "data.channels must be 1 or 3, got 2"),
        ("data.batch_size=0", "data.batch_size must be an integer >= 1, got 0"),
        ("data.limit=0", "data.limit must be an integer >= 1, got 0"),
        ("data.classes=0", "data.classes must be an integer >= 1, got 0"),
        ("data.labelled=1", "data.labelled must be false, or true with data.classes, got 1"),
        ("data.mirrored=1", "data.mirrored must be true or false, got 1"),
        ("seed=-1", "seed must be an integer >= 0, got -1"),
    ],
)
def test_argument_that_is_out_of_range_is_rejected(override, message):
    with pytest.raises(Exception, match=message):
        build_data(override)


def test_labels_need_classes():
    with pytest.raises(Exception, match=r"data.labelled must be false, or true with data.classes, got True"):
        build_data("data.classes=null", "data.labelled=true")
    with pytest.raises(UserError, match="the images have no labels: choose conditional=none or another data="):
        check_labels(None, 10)
    check_labels(torch.tensor([0, 9]), 10)
    with pytest.raises(UserError, match=r"data.classes must be > 10, the highest label, got 10"):
        check_labels(torch.tensor([0, 10]), 10)


def test_graph_gets_indices_and_takes_the_images_itself():
    data = set_up_data("conditional=concat")
    data.delivers_indices = True
    index = next(iter(data.train_dataloader()))
    images, labels = data.on_after_batch_transfer(index, 0)
    assert torch.equal(data.pixels.decode(images), data.train_images[index])
    assert torch.equal(labels, data.train_labels[index])


def test_images_that_do_not_fit_on_the_gpu_stay_in_memory(monkeypatch):
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda _: (1000, 10_000))
    cuda = torch.device("cuda")
    assert fits_in_memory(torch.zeros(500, 1, 1, 1, dtype=torch.uint8), cuda)
    assert not fits_in_memory(torch.zeros(501, 1, 1, 1, dtype=torch.uint8), cuda)
    assert fits_in_memory(torch.zeros(501, 1, 1, 1, dtype=torch.uint8), torch.device("cpu"))
    data = set_up_data("conditional=concat")
    data.delivers_indices = True
    monkeypatch.setattr("dcgan.data.datamodule.fits_in_memory", lambda *_: False)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    images, labels = next(iter(data.train_dataloader()))
    assert (images.shape, images.dtype) == ((8, 1, 28, 28), torch.uint8)
    assert torch.equal(labels, data.train_labels[images[:, 0, 0, 0].long()])


def test_class_frequencies_include_classes_without_images():
    assert class_frequencies(torch.tensor([0, 2, 2, 2]), 4).tolist() == [0.25, 0, 0.75, 0]


def test_images_without_label_are_rejected():
    with pytest.raises(UserError, match="some images have no label"):
        check_labels(torch.tensor([0, -1]), 2)
