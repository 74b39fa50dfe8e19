import math

import numpy as np
import pytest
import torch

from dcgan.metrics.classes import ClassBalance, ClassifierScore
from tests.metrics.building import FakeRealStatistics, random_features, with_logits


def test_classifier_score_matches_its_definition():
    samples = random_features(400, 3)
    p = samples.logits.double().softmax(1).numpy()
    expected = np.exp((p * (np.log(p) - np.log(p.mean(0)))).sum(1).mean())
    score = ClassifierScore(splits=1)(samples, FakeRealStatistics(samples))["classifier_score"]
    assert score == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("generated", "classes"), [(range(10), 10), ([3], 1), ([1, 7], 2)])
def test_class_balance_compares_classes_with_prior(generated, classes):
    labels = torch.tensor(list(generated) * (100 // len(generated)))
    samples = random_features(len(labels), 0)
    real, metric = FakeRealStatistics(samples), ClassBalance(confidence=0.9)
    values = metric(with_logits(samples, 9.0 * torch.eye(10)[labels]), real)
    assert values["classes"] == classes
    assert values["class_kl"] == pytest.approx(math.log(10 / classes), abs=1e-6)
    assert values["confident"] == 1
    assert metric(with_logits(samples, torch.eye(10)[labels]), real)["confident"] == 0


def test_rare_class_is_not_counted():
    labels = torch.tensor([0] * 995 + [1] * 5)
    samples = with_logits(random_features(1000, 0), torch.eye(10)[labels])
    assert ClassBalance(0.9)(samples, FakeRealStatistics(samples))["classes"] == 1
