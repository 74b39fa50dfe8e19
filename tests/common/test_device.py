"""The device of a command."""

import pytest
import torch

from dcgan.common.device import resolve_device


@pytest.mark.parametrize(("available", "expected"), [(False, "cpu"), (True, "cuda")])
def test_auto_is_a_gpu_if_there_is_one(monkeypatch, available, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert resolve_device("auto").type == expected
    assert resolve_device("cpu").type == "cpu"


def test_unknown_and_missing_devices_are_rejected(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device must be auto, cpu or cuda, got 'gpu'"):
        resolve_device("gpu")
    with pytest.raises(ValueError, match="device=cuda, but this machine has no GPU"):
        resolve_device("cuda")
