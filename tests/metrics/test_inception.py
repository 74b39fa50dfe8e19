from types import SimpleNamespace

import pytest
import torch
from torchmetrics.image.fid import FrechetInceptionDistance

from dcgan.common.errors import UserError
from dcgan.metrics import inception
from dcgan.metrics.inception import InceptionDistance
from tests.metrics.building import random_features


def test_missing_and_damaged_weights_are_rejected(tmp_path):
    with pytest.raises(UserError, match=r"there is no file nowhere\.pth"):
        InceptionDistance("nowhere.pth")
    damaged = tmp_path / "weights.pth"
    damaged.write_bytes(b"no weights")
    with pytest.raises(UserError, match=r"cannot load Inception's weights .*evaluator\.inception\.weights"):
        InceptionDistance(str(damaged))


def test_statistics_of_test_images_are_cached(monkeypatch):
    """A small network replaces Inception, as the tests do not download its weights."""

    class QuadrantMeans(torch.nn.Module):
        num_features = 4
        n_images = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert x.dtype == torch.uint8
            assert x.shape[1] == 3
            QuadrantMeans.n_images += len(x)
            return x.float().unflatten(2, (2, 14)).unflatten(4, (2, 14)).mean((1, 3, 5)).flatten(1)

    monkeypatch.setattr(inception, "FrechetInceptionDistance", lambda **_: FrechetInceptionDistance(QuadrantMeans()))
    real = SimpleNamespace(test=random_features(150, 4), cache_key="of this test")
    metric = InceptionDistance(None)
    first = metric(random_features(250, 5), real)
    assert QuadrantMeans.n_images == 400
    assert metric(random_features(250, 5), real) == first
    assert QuadrantMeans.n_images == 650
