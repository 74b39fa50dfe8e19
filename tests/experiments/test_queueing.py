import numpy as np
import pytest

from experiments.scaling import queueing


def test_rules_by_hand(monkeypatch):
    """Two GPUs, and jobs of 3, 1, 1 and 1.

    modulo: job 2 shares GPU 0 with job 0 from 1 to 3, then job 3 has GPU 1 and job 0 has GPU 0 until 4.
    """
    monkeypatch.setattr(queueing, "GPUS", 2)
    durations = np.array([3.0, 1, 1, 1])
    assert queueing.lease(durations) == pytest.approx(3)
    assert queueing.modulo(durations) == pytest.approx(4)
    assert queueing.fixed_queues(durations) == pytest.approx(4)
    assert queueing.lower_bound(durations) == pytest.approx(3)


@pytest.mark.parametrize("rule", [queueing.lease, queueing.modulo, queueing.fixed_queues, queueing.lower_bound])
def test_equal_jobs_need_the_same_time_under_each_rule(rule):
    assert rule(np.ones(queueing.JOBS)) == pytest.approx(queueing.JOBS / queueing.GPUS)


def test_sampled_durations_have_their_mean_and_spread():
    durations = queueing.log_normal(0.5)(np.random.default_rng(0))
    assert len(durations) == queueing.JOBS
    assert durations.mean() == pytest.approx(1, abs=0.06)
    assert np.log(durations).std() == pytest.approx(0.5, abs=0.05)
