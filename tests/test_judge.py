import pytest
import torch

from dcgan.cache import cache_dir
from dcgan.checks import UserError
from dcgan.metrics import classifier, judge
from dcgan.metrics.judge import SHIPPED, MissingJudgeError, judge_path, load_judge

CPU = torch.device("cpu")


def test_the_shipped_judge_is_small_pinned_and_right_on_at_least_99_4_percent_of_the_test_images(real_mnist):
    assert judge_path("MNIST").stat().st_size < 1.5e6
    shipped = load_judge("MNIST", CPU)
    images, labels = real_mnist.load(train=False)
    right = (shipped(images).logits.argmax(dim=1) == labels).double().mean().item()
    assert right >= 0.994
    assert shipped.facts == {
        "data": "MNIST",
        "version": 1,
        "classes": 10,
        "accuracy": pytest.approx(right, abs=2e-4),
        "sha256": SHIPPED["MNIST"],
    }


def test_another_file_in_the_shipped_judges_place_is_refused(monkeypatch, tmp_path):
    changed = bytearray(judge_path("MNIST").read_bytes())
    changed[-1] ^= 1
    (tmp_path / "judge_MNIST.safetensors").write_bytes(changed)
    monkeypatch.setattr(judge, "PACKAGE", tmp_path)
    with pytest.raises(UserError, match="is not the judge that belongs to this version"):
        load_judge("MNIST", CPU)


def test_images_are_judged_one_by_one_and_in_the_judges_size():
    shipped = load_judge("MNIST", CPU)
    images = torch.randint(0, 256, (7, 1, 28, 28), dtype=torch.uint8)
    together, alone = shipped(images), shipped(images[3:4])
    assert torch.allclose(together.features[3:4], alone.features, atol=1e-4)
    assert torch.allclose(together.logits, shipped.network.logits(together.features), atol=1e-4)
    assert torch.equal(together.seen, images)
    assert (together.features >= 0).all()
    larger = images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert shipped(larger).seen.shape == (7, 1, 28, 28)
    assert torch.equal(shipped(larger).images, larger)


def test_augmented_digits_are_other_ones_of_the_same_ink():
    torch.manual_seed(0)
    x = torch.zeros(64, 1, 28, 28)
    x[:, :, 8:20, 8:20] = 1
    changed = classifier.augment(x)
    assert not torch.equal(changed, x)
    assert changed.shape == x.shape
    assert changed.sum().item() == pytest.approx(x.sum().item(), rel=0.1)


def test_a_judge_of_other_data_is_trained_by_the_command_and_found_again(command):
    with pytest.raises(MissingJudgeError, match="there is no judge for Digits"):
        load_judge("Digits", CPU)
    outcome = command(classifier, "data=digits", "steps=150", "batch_size=64")
    assert outcome.code == 0, outcome.err
    trained = load_judge("Digits", CPU)
    assert trained.facts["data"] == "Digits"
    assert trained.facts["accuracy"] > 0.7
    assert f"{trained.facts['accuracy']:.2%} of 360 test images" in outcome.out
    path = cache_dir() / "judge_Digits.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    try:
        with pytest.raises(UserError, match="delete it and train the judge anew"):
            load_judge("Digits", CPU)
    finally:
        path.unlink()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["data=mnist"], "ships with the package"),
        (["data=image_folder"], "ImageFolder has no classes"),
        (["data=digits", "out=judge.pt"], "out must end in .safetensors"),
        (["data=digits", "steps=0"], "steps must be an integer >= 1"),
        (["data=digits", "lr=2"], "lr must be a number in"),
        (["data=digits", "device=tpu"], "device must be auto, cpu or cuda"),
    ],
)
def test_what_cannot_be_a_judge_is_said_in_a_sentence(command, arguments, sentence):
    outcome = command(classifier, *arguments)
    assert outcome.code == 1
    assert sentence in outcome.err
    assert "Traceback" not in outcome.err


def test_help_of_the_classifier(command):
    assert "Train the judge of a data set" in command(classifier, "--help").out
