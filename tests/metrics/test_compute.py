import pytest

from dcgan.metrics.checkerboard import Checkerboard
from dcgan.metrics.classes import LabelAgreement
from dcgan.metrics.compute import applicable_metrics, describe, measure, measure_baseline
from dcgan.metrics.distances import FrechetDistance
from dcgan.metrics.judge import MissingJudgeError
from tests.metrics.building import FakeRealStatistics, random_features
from tests.metrics.test_real_images import build_statistics


def test_baseline_depends_on_number_and_size_of_images():
    metrics, config = {"frechet": FrechetDistance()}, {"frechet": "of this test"}
    real, larger = build_statistics(), build_statistics("data.image_size=32")
    few, all_, again = (measure_baseline(metrics, config, n, real)["frechet"] for n in (8, 16, 16))
    assert all_ == again != few
    assert measure_baseline(metrics, config, 16, larger)["frechet"] != all_


def test_metrics_are_selected_by_judge_and_labels():
    metrics = {"frechet": FrechetDistance(), "labels": LabelAgreement(), "checkerboard": Checkerboard()}
    assert applicable_metrics(metrics, has_judge=True, has_labels=True) == metrics
    assert applicable_metrics(metrics, has_judge=True, has_labels=False).keys() == {"frechet", "checkerboard"}
    assert applicable_metrics(metrics, has_judge=False, has_labels=True).keys() == {"frechet", "checkerboard"}


def test_measure_reports_progress_and_returns_all_values():
    metrics, names = {"distance": FrechetDistance()}, []
    samples = random_features(20, 0)
    values = measure(metrics, samples, FakeRealStatistics(samples), names.append)
    assert values.keys() == describe(metrics, ["judge"]).keys() == {"frechet"}
    assert names == ["distance"]


def test_judge_is_used_if_there_is_one():
    with_judge, without = build_statistics(), build_statistics("data=digits")
    assert list(with_judge.spaces) == ["judge"]
    assert with_judge.judge is not None
    assert list(without.spaces) == ["random_conv"]
    assert without.judge is None
    with pytest.raises(MissingJudgeError, match="there is no judge for Digits yet"):
        build_statistics("data=digits", "features=judge")


def test_several_features_are_measured_under_their_names():
    real = build_statistics("features=[judge,random_conv]")
    values = measure({"frechet": FrechetDistance()}, real.extract_train_features(16), real)
    assert list(values) == ["frechet", "frechet_random_conv"]
    assert all(value > 0 for value in values.values())
    assert real.feature_facts["random_conv"]["version"] == 1
