import pytest

from dcgan.common.errors import UserError
from dcgan.metrics.checkerboard import Checkerboard
from dcgan.metrics.classes import LabelAgreement
from dcgan.metrics.compute import applicable_metrics, better_directions, measure, measure_baseline
from dcgan.metrics.distances import FrechetDistance
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
    assert applicable_metrics(metrics, has_judge=False, has_labels=True).keys() == {"checkerboard"}


def test_measure_reports_progress_and_returns_all_values():
    metrics, names = {"distance": FrechetDistance()}, []
    samples = random_features(20, 0)
    values = measure(metrics, samples, FakeRealStatistics(samples), names.append)
    assert values.keys() == better_directions(metrics).keys() == {"frechet"}
    assert names == ["distance"]


@pytest.mark.parametrize(
    ("override", "message"),
    [("data.channels=3", "judges see grey images"), ("data=image_folder", "it can have no judge")],
)
def test_data_without_judge_is_rejected(override, message):
    with pytest.raises(UserError, match=message):
        build_statistics(override)
