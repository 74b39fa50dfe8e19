import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from dcgan.common.errors import UserError
from dcgan.metrics import pretrained
from dcgan.metrics.pretrained import DINOv2Features, InceptionFeatures, PretrainedFeatures

CPU = torch.device("cpu")


class MeanColor(nn.Module):
    """A stand-in of torch-fidelity's networks: the mean of each channel."""

    INPUT_IMAGE_SIZE = 30

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        assert x.dtype == torch.uint8
        assert x.shape[1:] == (3, 30, 30)
        return (x.float().mean((2, 3)),)


def test_images_are_resized_and_grey_ones_repeated():
    extractor = PretrainedFeatures(MeanColor(), CPU)
    color = torch.full((120, 3, 64, 64), 40, dtype=torch.uint8)
    color[:, 1] = 200
    assert extractor(color).tolist() == [[40, 200, 40]] * 120
    assert extractor(torch.full((2, 1, 28, 28), 7, dtype=torch.uint8)).tolist() == [[7] * 3] * 2


def test_large_images_are_resized_without_aliasing():
    """Stripes of one pixel average to grey. Without antialiasing, every second column would be black or white."""
    stripes = torch.zeros(1, 1, 60, 60, dtype=torch.uint8)
    stripes[..., ::2] = 255
    resized = PretrainedFeatures(MeanColor(), CPU).resize(stripes)[..., 3:-3, 3:-3].int()
    assert resized.sub(128).abs().max() < 30


def test_inception_reads_a_file_of_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "load", lambda path, weights_only: random_weights)
    monkeypatch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
    random_weights: dict = {}
    (tmp_path / "weights.pth").write_bytes(b"")
    extractor = InceptionFeatures(SimpleNamespace(), CPU, str(tmp_path / "weights.pth"))
    features = extractor(torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8))
    assert features.shape == (2, 2048)
    assert extractor.name == "inception"
    assert len(extractor.facts["weights"]) == 64


def test_missing_and_damaged_weights_are_rejected(tmp_path):
    with pytest.raises(UserError, match=r"there is no file nowhere\.pth"):
        InceptionFeatures(SimpleNamespace(), CPU, "nowhere.pth")
    damaged = tmp_path / "weights.pth"
    damaged.write_bytes(b"no weights")
    with pytest.raises(UserError, match=r"cannot load .* features=inception .*features\.inception\.weights=FILE"):
        InceptionFeatures(SimpleNamespace(), CPU, str(damaged))


def test_dinov2_without_network_is_reported(monkeypatch):
    def no_network(*_):
        raise OSError("Name or service not known")

    monkeypatch.setattr(torch.hub, "load", no_network)
    with pytest.raises(UserError, match=r"features=dinov2 \(Name or service not known\): .*set TORCH_HOME"):
        DINOv2Features(SimpleNamespace(), CPU)


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    with pytest.raises(UserError, match=r"pip install dcgan\[fidelity\]"):
        InceptionFeatures(SimpleNamespace(), CPU)


def test_digest_depends_on_the_weights():
    torch.manual_seed(0)
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    assert pretrained.weights_digest(first) != pretrained.weights_digest(second)
