import pytest
import torch

from dcgan.common.cache import save_tensors
from dcgan.common.errors import UserError
from dcgan.data.pixel_range import resize_images
from dcgan.metrics import judge
from dcgan.metrics.judge import SHIPPED_SHA256, Classifier, Judge, MissingJudgeError, judge_path, load_judge

CPU = torch.device("cpu")


def test_shipped_judge_is_pinned_and_has_its_accuracy(real_mnist):
    assert judge_path("MNIST").stat().st_size < 1.5e6
    shipped = load_judge("MNIST", CPU)
    images, labels = real_mnist.load(train=False)
    accuracy = (shipped.classify(images).argmax(dim=1) == labels).double().mean().item()
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
    assert torch.allclose(together[3:4], alone, atol=1e-4)
    assert torch.allclose(shipped.classify(images), shipped.network.logits(together), atol=1e-4)
    assert (together >= 0).all()


def test_images_are_converted_for_judge():
    shipped = load_judge("MNIST", CPU)
    images = torch.randint(0, 256, (7, 1, 56, 56), dtype=torch.uint8)
    assert torch.equal(shipped(images), shipped(resize_images(images, 28, 1)))
    assert torch.allclose(shipped(images.expand(-1, 3, -1, -1)), shipped(images), atol=1e-3)


def test_judge_of_color_images_has_its_own_size():
    torch.manual_seed(0)
    network = Classifier(classes=4, channels=3, size=40, width=8)
    facts = {"data": "colors", "version": 1, "accuracy": 0.5, "classes": 4, "channels": 3, "size": 40, "width": 8}
    judge = Judge(network.state_dict(), facts, CPU)
    images = torch.randint(0, 256, (5, 3, 40, 40), dtype=torch.uint8)
    assert torch.allclose(judge.classify(images), network.eval()(images / 255), atol=1e-4)
    assert judge(images[:, :, :32, :32]).shape == (5, 128)
    assert judge.description == "judge of colors, version 1, test accuracy 50.00%"


@pytest.mark.parametrize(
    ("facts", "tensors"),
    [
        ({"classes": None}, {}),
        ({"classes": 10**9}, {}),
        ({"width": -1}, {}),
        ({"size": 64}, {}),
        ({"accuracy": "high"}, {}),
        ({}, {"logits.bias": torch.zeros(3)}),
        ({}, {"more": torch.zeros(3)}),
        ({}, {"logits.bias": torch.full((4,), torch.nan)}),
    ],
)
def test_judge_with_other_content_is_rejected(tmp_path, monkeypatch, facts, tensors):
    """Its checksum is valid."""
    monkeypatch.setenv("DCGAN_CACHE_DIR", str(tmp_path))
    valid = {"data": "colors", "version": 1, "accuracy": 0.5, "classes": 4, "channels": 1, "size": 28, "width": 32}
    weights = Classifier(classes=4).state_dict()
    save_tensors(judge_path("colors"), weights, valid)
    assert load_judge("colors", CPU).classify(torch.zeros(2, 1, 28, 28, dtype=torch.uint8)).shape == (2, 4)
    save_tensors(judge_path("colors"), weights | tensors, valid | facts)
    with pytest.raises(UserError, match=r"cannot be used .*delete it and train the judge again"):
        load_judge("colors", CPU)
