import pytest
import torch

from dcgan.common.errors import UserError
from dcgan.metrics import judge
from dcgan.metrics.judge import SHIPPED_SHA256, MissingJudgeError, judge_path, load_judge

CPU = torch.device("cpu")


def test_shipped_judge_is_pinned_and_has_its_accuracy(real_mnist):
    assert judge_path("MNIST").stat().st_size < 1.5e6
    shipped = load_judge("MNIST", CPU)
    images, labels = real_mnist.load(train=False)
    accuracy = (shipped(images).logits.argmax(dim=1) == labels).double().mean().item()
    assert accuracy >= 0.994
    assert shipped.facts == {
        "data": "MNIST",
        "version": 1,
        "classes": 10,
        "accuracy": pytest.approx(accuracy, abs=2e-4),
        "sha256": SHIPPED_SHA256["MNIST"],
    }


def test_changed_shipped_judge_is_rejected(monkeypatch, tmp_path):
    changed = bytearray(judge_path("MNIST").read_bytes())
    changed[-1] ^= 1
    (tmp_path / "judge_MNIST.safetensors").write_bytes(changed)
    monkeypatch.setattr(judge, "PACKAGE_DIR", tmp_path)
    with pytest.raises(UserError, match="is not the judge of this version"):
        load_judge("MNIST", CPU)


def test_missing_judge_is_reported():
    with pytest.raises(MissingJudgeError, match="there is no judge for Nothing yet"):
        load_judge("Nothing", CPU)


def test_features_do_not_depend_on_batch():
    shipped = load_judge("MNIST", CPU)
    images = torch.randint(0, 256, (7, 1, 28, 28), dtype=torch.uint8)
    together, alone = shipped(images), shipped(images[3:4])
    assert torch.allclose(together.features[3:4], alone.features, atol=1e-4)
    assert torch.allclose(together.logits, shipped.network.logits(together.features), atol=1e-4)
    assert torch.equal(together.judge_input, images)
    assert (together.features >= 0).all()


def test_images_are_resized_for_judge():
    images = torch.randint(0, 256, (7, 1, 56, 56), dtype=torch.uint8)
    features = load_judge("MNIST", CPU)(images)
    assert features.judge_input.shape == (7, 1, 28, 28)
    assert torch.equal(features.images, images)
