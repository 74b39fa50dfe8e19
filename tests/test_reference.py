import pytest
import torch
from hydra.utils import instantiate

from dcgan.checks import UserError
from dcgan.measuring import measure_floor, reference
from dcgan.metrics.distances import FrechetDistance
from dcgan.metrics.judge import load_judge
from dcgan.metrics.reference import Reference, flat
from tests.conftest import compose_config

CPU = torch.device("cpu")


def build(*overrides: str) -> Reference:
    return reference(instantiate(compose_config(*overrides).data), CPU)


def test_near_copies_are_looked_for_among_the_images_that_were_trained_on_alone():
    few, all_ = build("data.limit=10"), build()
    assert len(few.trained_on) == 10
    assert len(all_.trained_on) == 64
    assert torch.equal(few.trained_on, all_.trained_on[:10])
    assert (few.test_to_train[:, 0] >= all_.test_to_train[:, 0]).all()
    assert (few.test_to_train[:, 0] > all_.test_to_train[:, 0]).any()
    assert len(few.train(40)) == 40  # the floor is of the whole set


def test_real_images_of_the_checkerboard_are_picked_from_the_whole_test_set_in_the_networks_size():
    real = build("data.image_size=32")
    assert real.native(16).shape == (16, 1, 32, 32)
    assert torch.equal(real.native(5), real.native(16)[:5])
    stored = build()
    assert not torch.equal(stored.native(5), stored.test_images[:5])
    assert sorted(stored.native(16).flatten(1).sum(1).tolist()) == sorted(stored.test_images.flatten(1).sum(1).tolist())


def test_the_prior_is_that_of_the_training_labels():
    real = build()
    assert real.prior.sum().item() == pytest.approx(1)
    assert real.prior[3].item() == pytest.approx((real.train_labels == 3).double().mean().item())


def test_what_is_kept_of_the_test_images_is_what_the_judge_says_now():
    first, again = build(), build()
    judged = load_judge("MNIST", CPU)(first.test_images)
    for real in (first, again):
        assert torch.equal(real.test.features, judged.features)
        assert torch.equal(real.test.logits, judged.logits)
    assert torch.equal(first.radii(3), again.radii(3))
    assert torch.allclose(
        first.radii(3).double(),
        torch.cdist(judged.features.double(), judged.features.double()).sort().values[:, 3],
        atol=1e-3,
    )
    assert not torch.equal(first.radii(3), first.radii(4))
    again.test_images = again.test_images + 1
    assert Reference.key.func(again) != first.key  # other test images, nothing of the kept


def test_the_floor_belongs_to_its_number_of_images_and_to_its_size():
    metrics, config = {"frechet": FrechetDistance()}, {"frechet": "of this test"}
    real, larger = build(), build("data.image_size=32")
    floors = [measure_floor(metrics, config, n, real)["frechet"] for n in (8, 16, 16)]
    assert floors[1] == floors[2] != floors[0]
    assert measure_floor(metrics, config, 16, larger)["frechet"] != floors[1]


def test_without_a_judge_there_is_nothing_to_see():
    real = Reference(instantiate(compose_config().data), None)
    judged = real.look(real.native(4))
    assert judged.features.shape == (4, 0)
    assert len(judged) == 4
    assert real.judge_facts is None


def test_colours_and_pictures_of_ones_own_have_no_judge():
    with pytest.raises(UserError, match="judges see grey images"):
        build("data.channels=3")
    with pytest.raises(UserError, match="it can have no judge"):
        build("data=image_folder")


def test_pixels_become_vectors_between_0_and_1():
    assert flat(torch.tensor([[[[0, 255], [51, 102]]]], dtype=torch.uint8)).tolist() == [
        [0, 1, pytest.approx(0.2), pytest.approx(0.4)]
    ]
