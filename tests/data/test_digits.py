"""scikit-learn's digits."""

from tests.data.building import set_up_data


def test_training_and_test_images_are_disjoint():
    data = set_up_data("data=digits")
    assert data.train_images.shape == (1437, 1, 28, 28)
    assert [len(part) for part in data.load(train=True)] == [1437, 1437]
    assert [len(part) for part in data.load(train=False)] == [360, 360]
    assert (data.train_images.min(), data.train_images.max()) == (0, 255)


def test_images_have_their_original_size_and_all_classes():
    images, labels = set_up_data("data=digits").load(train=False)
    assert images.shape == (360, 1, 8, 8)
    assert labels.unique().tolist() == list(range(10))
