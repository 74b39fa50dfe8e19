import pytest
import torch

from dcgan.common.cache import cache_dir
from dcgan.common.errors import UserError
from dcgan.metrics import train_judge
from dcgan.metrics.judge import MissingJudgeError, load_judge

CPU = torch.device("cpu")


def test_augmentation_changes_images_but_not_their_mean():
    torch.manual_seed(0)
    x = torch.zeros(64, 1, 28, 28)
    x[:, :, 8:20, 8:20] = 1
    augmented = train_judge.augment(x)
    assert not torch.equal(augmented, x)
    assert augmented.shape == x.shape
    assert augmented.sum().item() == pytest.approx(x.sum().item(), rel=0.1)


def test_trained_judge_is_saved_in_cache_and_verified(command):
    with pytest.raises(MissingJudgeError, match="there is no judge for Digits"):
        load_judge("Digits", CPU)
    outcome = command(train_judge, "data=digits", "steps=150", "batch_size=64")
    assert outcome.code == 0, outcome.err
    trained = load_judge("Digits", CPU)
    assert trained.facts["data"] == "Digits"
    assert trained.facts["accuracy"] > 0.7
    assert f"{trained.facts['accuracy']:.2%} of 360 test images" in outcome.out
    path = cache_dir() / "judge_Digits.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    try:
        with pytest.raises(UserError, match="delete it and train the judge again"):
            load_judge("Digits", CPU)
    finally:
        path.unlink()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data=mnist"], "ships with the package"),
        (["data=image_folder"], "has no classes: set data.classes"),
        (["data=digits", "out=judge.pt"], "out must end in .safetensors"),
        (["data=digits", "steps=0"], "steps must be an integer >= 1"),
        (["data=digits", "lr=2"], "lr must be a number in"),
        (["data=digits", "device=tpu"], "device must be auto, cpu, cuda or mps"),
    ],
)
def test_invalid_arguments_are_rejected(command, arguments, message):
    outcome = command(train_judge, *arguments)
    assert outcome.code == 1
    assert message in outcome.err
    assert "Traceback" not in outcome.err


def test_help_describes_command(command):
    assert "Train the judge of a data set" in command(train_judge, "--help").out
