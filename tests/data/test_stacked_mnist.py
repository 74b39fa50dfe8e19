"""Stacked MNIST: the images, the judge of each channel, and the metric of modes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dcgan.metrics import train_judge
from dcgan.metrics.classes import Modes
from dcgan.metrics.compute import load_real_statistics
from dcgan.metrics.features import ImageFeatures
from dcgan.metrics.judge import load_judge
from tests.conftest import TINY, compose_config
from tests.data.building import build_data, set_up_data

CPU = torch.device("cpu")
SMALL = ["data=stacked_mnist", "data.stacks=48", "data.test_stacks=24"]


def build(*overrides: str):
    return set_up_data(*SMALL, *overrides)


def test_stack_has_three_digits_and_their_classes_as_one_number():
    images, labels = build().load(train=True)
    assert images.shape == (48, 3, 28, 28)
    mnist, classes = set_up_data().load(train=True)
    assert len(images.unique(dim=0)) == 48
    for image, label in zip(images, labels.tolist(), strict=True):
        index = image[:, 0, 0].tolist()  # training image i has i in its corner
        assert torch.equal(image, mnist[index, 0])
        assert [int(digit) for digit in f"{label:03d}"] == classes[index].tolist()


def test_test_stacks_consist_of_test_images_and_no_stack_depends_on_the_seed():
    a, b = build("seed=0"), build("seed=1")
    for train in (True, False):
        assert all(torch.equal(x, y) for x, y in zip(a.load(train), b.load(train), strict=True))
    assert set(a.load(train=False)[0][:, :, 0, 0].unique().tolist()) == {255}  # as all test images have
    assert len(a.load(train=False)[0]) == 24


def test_experiment_follows_the_protocol(real_mnist):
    config = compose_config("experiment=stacked_mnist", f"data.root={real_mnist.root}")
    data = build_data("experiment=stacked_mnist", f"data.root={real_mnist.root}")
    labels = data.load(train=True)[1]
    assert len(labels) == 128_000
    assert labels.bincount(minlength=1000).min() > 0
    assert len(data.load(train=False)[1]) == 26_000
    assert (config.data.batch_size, config.max_epochs) == (64, 50)


def test_other_number_of_channels_than_three_is_rejected():
    with pytest.raises(Exception, match=r"data.channels must be 3, one for each digit of a stack, got 1"):
        build("data.channels=1")


def test_judge_classifies_each_channel_and_combines_the_classes():
    judge, by_channel = load_judge("MNIST", CPU), load_judge("MNIST", CPU, by_channel=True)
    images = build().load(train=True)[0][:5]
    stack, channels = by_channel(images), [judge(images[:, [i]]) for i in range(3)]
    torch.testing.assert_close(stack, torch.cat(channels, dim=1))
    channels, stack = [judge.logits(channel) for channel in channels], by_channel.logits(stack)
    p = [channel.softmax(dim=1) for channel in channels]
    expected = torch.einsum("na,nb,nc->nabc", *p).flatten(1)  # the channels are independent
    torch.testing.assert_close(stack.softmax(dim=1), expected)
    a, b, c = (channel.argmax(dim=1) for channel in channels)
    assert stack.argmax(dim=1).tolist() == (100 * a + 10 * b + c).tolist()


def test_judge_classifies_stacks_of_the_original_mnist(real_mnist):
    data = build_data("data=stacked_mnist", "data.test_stacks=2000", f"data.root={real_mnist.root}")
    images, labels = data.load(train=False)
    accuracy = (
        (load_judge("MNIST", CPU, by_channel=True).classify(images).argmax(dim=1) == labels).double().mean().item()
    )
    assert accuracy > 0.97  # about the third power of its accuracy on one digit


def test_mode_counts_with_a_single_sample():
    real = load_real_statistics(build(), {}, CPU)
    logits = torch.full((6, 1000), -9.0)
    for i, mode in enumerate((7, 7, 7, 123, 999, 123)):
        logits[i, mode] = 9.0
    images = torch.zeros(6, 3, 28, 28, dtype=torch.uint8)
    assert Modes()(ImageFeatures(images, {}, logits), real) == {"modes": 3}


def test_run_and_its_evaluation_count_modes(dcgan_train, dcgan_evaluate):
    run = [*TINY, *SMALL, "evaluator=modes", "trainer=cpu", "max_steps=2", "discriminator.pack=2", "hydra.run.dir=run"]
    assert dcgan_train(*run).code == 0
    final = json.loads(Path("run/summary.json").read_text())["metrics"]
    assert 1 <= final["modes"] <= 24
    assert final["class_kl"] is None  # infinite: most of the classes have no training image here
    assert dcgan_evaluate("checkpoint=run/checkpoints/last.ckpt", "evaluator=full").code == 0
    evaluation = json.loads(Path("run/checkpoints/last.evaluation.json").read_text())
    assert evaluation["n"] == 24
    assert evaluation["metrics"]["frechet"] > 0
    for figure in ("evaluation", "closest_pairs"):
        assert Path(f"run/checkpoints/last.{figure}.png").exists()


def test_samples_file_is_evaluated_with_channels_first_or_last_and_a_grey_one_is_rejected(dcgan_evaluate, tmp_path):
    stacks = build().load(train=False)[0]
    np.save(tmp_path / "first.npy", stacks.numpy())
    np.save(tmp_path / "last.npy", stacks.permute(0, 2, 3, 1).numpy())
    np.save(tmp_path / "grey.npy", stacks[:, 0].numpy())
    metrics = []
    for name in ("first", "last"):
        assert dcgan_evaluate(f"samples={name}.npy", *SMALL, "evaluator=modes", f"hydra.run.dir={name}").code == 0
        metrics.append(json.loads(Path(name, "evaluation.json").read_text())["metrics"])
        # evaluator=modes does not search for them, which takes minutes
        assert not Path(name, "closest_pairs.png").exists()
    assert metrics[0] == metrics[1]
    assert metrics[0]["frechet"] < 1e-3  # they are the test images
    rejected = dcgan_evaluate("samples=grey.npy", *SMALL, "evaluator=modes")
    assert rejected.code == 1
    assert "must be N x 28 x 28 x 3 or N x 3 x 28 x 28, got 24 x 1 x 28 x 28" in rejected.err


def test_class_name_of_a_stack_has_three_digits():
    data = build()
    labels = data.load(train=True)[1].tolist()
    assert data.examples([3, 5])[1] == [f"{labels[3]:03d}", f"{labels[5]:03d}"]


def test_stacks_need_no_separate_judge(command):
    outcome = command(train_judge, *SMALL)
    assert outcome.code == 1
    assert "StackedMNIST uses the judge of MNIST" in outcome.err
