"""The device of a command, and its float32 precision."""

import pytest
import torch

from dcgan.common.device import float64_device, resolve_device, tf32


@pytest.mark.parametrize(("available", "expected"), [(False, "cpu"), (True, "cuda")])
def test_auto_is_a_gpu_if_there_is_one(monkeypatch, available, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert resolve_device("auto").type == expected
    assert resolve_device("cpu").type == "cpu"


def test_unknown_and_missing_devices_are_rejected(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device must be auto, cpu, cuda or mps, got 'gpu'"):
        resolve_device("gpu")
    with pytest.raises(ValueError, match="device=cuda, but this machine has no GPU"):
        resolve_device("cuda")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device=mps, but this machine has no Apple GPU"):
        resolve_device("mps")


def test_apple_gpu_is_used_on_request_and_metrics_are_computed_on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("auto").type == "cpu"
    assert resolve_device("mps").type == "mps"
    assert [float64_device(torch.device(name)).type for name in ("mps", "cuda", "cpu")] == ["cpu", "cuda", "cpu"]


def test_no_tf32_is_restored_also_after_an_error():
    def settings() -> tuple[str, bool, bool]:
        matmul = torch.backends.cuda.matmul.allow_tf32
        return torch.get_float32_matmul_precision(), matmul, torch.backends.cudnn.allow_tf32

    @tf32(allowed=False)
    def fail() -> None:
        assert settings() == ("highest", False, False)
        raise KeyError

    with tf32(allowed=True):
        before = settings()
        with pytest.raises(KeyError):
            fail()
        assert settings() == before == ("high", True, True)
