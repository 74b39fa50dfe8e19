import torch
from hydra.utils import instantiate

from dcgan.metrics.auto_features import AutoFeatures
from dcgan.metrics.judge import load_judge
from dcgan.metrics.random_conv import RandomConv
from tests.conftest import compose_config

CPU = torch.device("cpu")
IMAGES = torch.randint(0, 256, (5, 1, 28, 28), dtype=torch.uint8, generator=torch.manual_seed(0))


def test_judge_is_used_if_there_is_one():
    features = AutoFeatures(instantiate(compose_config().data), CPU)
    judge = load_judge("MNIST", CPU)
    assert (features.name, features.facts, features.description) == ("judge", judge.facts, judge.description)
    assert torch.equal(features(IMAGES), judge(IMAGES))


def test_random_network_is_used_otherwise():
    data = instantiate(compose_config("data=digits").data)
    features = AutoFeatures(data, CPU)
    assert features.name == "random_conv"
    assert torch.equal(features(IMAGES), RandomConv(data, CPU)(IMAGES))
