"""Metrics are computed on the device of the samples. Fake CUDA tensors show it without a GPU."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torchmetrics.image.fid import FrechetInceptionDistance

from dcgan.common.command import CONF
from dcgan.common.device import tf32
from dcgan.metrics import inception
from dcgan.metrics.judge import concatenate, load_judge
from tests.conftest import options
from tests.metrics.building import FakeRealStatistics, fake_cuda, random_features

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
CONFIGS = {
    name: config
    for option in options("evaluator")
    for name, config in OmegaConf.load(CONF / "evaluator" / f"{option}.yaml").items()
    if "_target_" in config
}


class QuadrantMeans(torch.nn.Module):
    """A replacement of Inception, whose weights are not downloaded in a test."""

    num_features = 4

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float().unflatten(2, (2, 14)).unflatten(4, (2, 14)).mean((1, 3, 5)).flatten(1)


def copy_state(value: object) -> object:
    """Copy a state of torchmetrics: fake tensors cannot be copied by `deepcopy`."""
    return value.clone() if isinstance(value, torch.Tensor) else deepcopy(value)


@pytest.fixture(params=CONFIGS)
def metric_name(request, monkeypatch) -> str:
    monkeypatch.setattr(inception, "FrechetInceptionDistance", lambda **_: FrechetInceptionDistance(QuadrantMeans()))
    return request.param


def build_inputs(device: torch.device) -> tuple:
    """Return random samples with labels, and random real images, on the device."""
    samples, test, train = random_features(1200, 1, 0.3), random_features(1100, 2), random_features(900, 3)
    samples = replace(samples, labels=torch.arange(len(samples)) % 10).to(device)
    return samples, FakeRealStatistics(test.to(device), train.images.to(device))


def test_metrics_of_all_evaluators_are_found():
    assert {"frechet", "kernel", "checkerboard", "memorization", "modes", "inception"} < CONFIGS.keys()


def test_metric_stays_on_fake_cuda_until_its_numbers_are_read(metric_name, monkeypatch):
    monkeypatch.setattr("torchmetrics.metric.deepcopy", copy_state)
    # a cache returns CPU tensors
    monkeypatch.setattr(
        inception,
        "load_or_compute",
        lambda name, key, compute: {name: torch.zeros(t.shape, dtype=t.dtype) for name, t in compute().items()},
    )
    with fake_cuda() as check:
        metric = instantiate(CONFIGS[metric_name])
        samples, real = build_inputs(CUDA)
        check.reads.clear()
        values = metric(samples, real)
    assert values.keys() == metric.specs.keys()
    assert len(check.reads) >= len(values)
    assert set(check.reads) == {"cuda"}


def test_judge_keeps_images_and_features_on_fake_cuda():
    judge = load_judge("MNIST", CPU)
    with fake_cuda() as check:
        judge.device = CUDA
        judge.network.to(CUDA)
        features = judge(torch.zeros(600, 1, 32, 32, dtype=torch.uint8))
    tensors = (features.images, features.judge_input, features.features, features.logits)
    assert {tensor.device.type for tensor in tensors} == {"cuda"}
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
        replace(
            whole,
            **{name: getattr(whole, name)[rows] for name in ("images", "judge_input", "features", "logits", "labels")},
        )
        for rows in (slice(0, 3), slice(3, 5))
    ]
    joined = concatenate(parts)
    for name in ("images", "judge_input", "features", "logits", "labels"):
        assert torch.equal(getattr(joined, name), getattr(whole, name))
    assert concatenate([replace(part, labels=None) for part in parts]).labels is None


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@needs_gpu
def test_values_on_a_gpu_equal_those_on_the_cpu(metric_name):
    metric = instantiate(CONFIGS[metric_name])
    expected = metric(*build_inputs(CPU))
    with tf32(allowed=True):
        assert metric(*build_inputs(CUDA)) == pytest.approx(expected, rel=1e-4, abs=1e-4, nan_ok=True)


@needs_gpu
def test_features_on_a_gpu_equal_those_on_the_cpu(real_mnist):
    images = real_mnist.load(train=False)[0][:1000]
    with tf32(allowed=True):
        expected, features = (load_judge("MNIST", device)(images) for device in (CPU, CUDA))
    for name in ("features", "logits"):
        torch.testing.assert_close(getattr(features, name).cpu(), getattr(expected, name), rtol=1e-4, atol=1e-4)
