import json
import math
from pathlib import Path

import pytest
import torch

from dcgan.data.pixel_range import PixelRange
from dcgan.evaluation.probes import LinearProbe, NearestNeighborProbe, pooled_features
from dcgan.models.layers import hidden_activations
from tests.building import build_networks
from tests.conftest import TINY


def test_linear_probe_writes_accuracy_and_baseline(trained_run, dcgan_evaluate):
    trained_run("max_steps=2")
    outcome = dcgan_evaluate("checkpoint=run/checkpoints/last.ckpt", "probe=true", "evaluator=light")
    assert outcome.code == 0, outcome.err
    content = json.loads(Path("run/checkpoints/last.evaluation.json").read_text())
    assert 0 <= content["metrics"]["probe_accuracy"] <= 1
    assert 0 <= content["floor"]["probe_accuracy"] <= 1


def test_pooled_features_join_all_convolutional_blocks():
    discriminator = build_networks(*TINY)[1].eval()
    shapes = []
    for layer in hidden_activations(discriminator).values():
        layer.register_forward_hook(lambda module, inputs, output: shapes.append(output.shape[1:]))
    images = torch.randint(0, 256, (5, 1, 28, 28), dtype=torch.uint8)
    features = pooled_features(discriminator, images, PixelRange(-1))
    assert features.shape == (5, sum(16 * shape[0] for shape in shapes if len(shape) == 3))
    assert math.isfinite(features.sum().item())


@pytest.mark.parametrize("build", [lambda: LinearProbe(0), lambda: NearestNeighborProbe(0)])
def test_invalid_settings_are_rejected(build):
    with pytest.raises(ValueError, match=r"probe\.\w+ must be an integer >= 1"):
        build()
