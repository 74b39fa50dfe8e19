"""Metrics are computed on the device of the samples. Fake CUDA tensors show it without a GPU."""

from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch.utils._pytree import tree_leaves

from dcgan.common.command import CONF
from dcgan.common.device import tf32
from dcgan.metrics.features import ImageFeatures, concatenate
from dcgan.metrics.judge import Judge, load_judge
from dcgan.metrics.random_conv import RandomConv
from tests.conftest import options
from tests.metrics.building import FakeRealStatistics, fake_cuda, random_features

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
DATA = SimpleNamespace(image_size=32)  # what RandomConv reads of a data module
CONFIGS = {
    name: config
    for option in options("evaluator")
    for name, config in OmegaConf.load(CONF / "evaluator" / f"{option}.yaml").items()
    if "_target_" in config
}


def copy_state(value: object) -> object:
    """Copy a state of torchmetrics: fake tensors cannot be copied by `deepcopy`."""
    return value.clone() if isinstance(value, torch.Tensor) else deepcopy(value)


def build_inputs(device: torch.device) -> tuple:
    """Return random samples with labels, and random real images, on the device."""
    samples, test, train = random_features(1200, 1, 0.3), random_features(1100, 2), random_features(900, 3)
    samples = replace(samples, labels=torch.arange(len(samples)) % 10).to(device)
    return samples, FakeRealStatistics(test.to(device), train.images.to(device))


def test_metrics_of_all_evaluators_are_found():
    assert {"frechet", "kernel", "checkerboard", "memorization", "modes"} < CONFIGS.keys()


@pytest.mark.parametrize("name", CONFIGS)
def test_metric_stays_on_fake_cuda_until_its_numbers_are_read(name, monkeypatch):
    monkeypatch.setattr("torchmetrics.metric.deepcopy", copy_state)
    with fake_cuda() as check:
        metric = instantiate(CONFIGS[name])
        samples, real = build_inputs(CUDA)
        check.reads.clear()
        values = metric(samples, real)
    assert values.keys() == metric.specs.keys()
    assert len(check.reads) >= len(values)
    assert set(check.reads) == {"cuda"}


@pytest.mark.parametrize("build", [lambda: load_judge("MNIST", CPU), lambda: RandomConv(DATA, CPU)])
def test_features_stay_on_fake_cuda(build):
    extractor = build()
    with fake_cuda() as check:
        extractor.device = CUDA
        if isinstance(extractor, Judge):
            extractor.network.to(CUDA)
        else:
            extractor.network.kernels = [kernel.to(CUDA) for kernel in extractor.network.kernels]
            extractor.network.projection = extractor.network.projection.to(CUDA)
        features = extractor(torch.zeros(600, 1, 32, 32, dtype=torch.uint8))
    assert features.device.type == "cuda"
    assert check.reads == []


def test_fake_cuda_fails_for_a_transfer_and_for_tf32():
    with fake_cuda():
        x = torch.zeros(2, 2, device=CUDA)
        with pytest.raises(AssertionError, match="_to_copy"):
            x.cpu()
        with pytest.raises(AssertionError, match="mm"):
            x @ x


def test_parts_are_concatenated_with_their_labels():
    whole = replace(random_features(5, 0), labels=torch.arange(5))
    parts = [
        ImageFeatures(
            whole.images[rows], {"judge": whole.features["judge"][rows]}, whole.logits[rows], whole.labels[rows]
        )
        for rows in (slice(0, 3), slice(3, 5))
    ]
    joined = concatenate(parts)
    for a, b in zip(tree_leaves(vars(joined)), tree_leaves(vars(whole)), strict=True):
        assert torch.equal(a, b)
    assert concatenate([replace(part, labels=None) for part in parts]).labels is None


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@needs_gpu
@pytest.mark.parametrize("name", CONFIGS)
def test_values_on_a_gpu_equal_those_on_the_cpu(name):
    metric = instantiate(CONFIGS[name])
    expected = metric(*build_inputs(CPU))
    with tf32(allowed=True):
        assert metric(*build_inputs(CUDA)) == pytest.approx(expected, rel=1e-4, abs=1e-4, nan_ok=True)


@needs_gpu
@pytest.mark.parametrize("build", [lambda device: load_judge("MNIST", device), lambda device: RandomConv(DATA, device)])
def test_features_on_a_gpu_equal_those_on_the_cpu(real_mnist, build):
    images = real_mnist.load(train=False)[0][:1000]
    with tf32(allowed=True):
        expected, features = (build(device)(images) for device in (CPU, CUDA))
    torch.testing.assert_close(features.cpu(), expected, rtol=1e-4, atol=1e-4)
