"""The value that a sweep's optimizer minimizes."""

import json
import math
from pathlib import Path

import pytest
from hydra.experimental.callback import Callback

from dcgan.runs.objective import objective_value
from tests.conftest import TINY

JOBS = [*TINY, "trainer=cpu", "samples.steps=[0]", "max_steps=2", "hydra.sweep.dir=sweep"]
RECORD = "+hydra.callbacks.record._target_=tests.behaviour.test_objective.RecordReturnValues"


class RecordReturnValues(Callback):
    """Writes what Hydra's sweepers get from each job."""

    def on_job_end(self, config, job_return, **kwargs):
        with Path("values.json").open("a") as file:
            file.write(f"{json.dumps(job_return.return_value)}\n")


def test_each_job_returns_its_metric_and_a_failed_one_infinity(dcgan_train):
    outcome = dcgan_train("-m", *JOBS, RECORD, "seed=0,1", "ema.decay=0,2")
    assert outcome.code == 1  # of the failed jobs
    values = [json.loads(line) for line in Path("values.json").read_text().splitlines()]
    summaries = {path.parent.name: json.loads(path.read_text()) for path in Path("sweep").glob("*/summary.json")}
    metrics = [summaries[f"seed={seed},ema.decay=0"]["metrics"]["frechet"] for seed in (0, 1)]
    assert values == [metrics[0], math.inf, metrics[1], math.inf]


def test_finished_jobs_return_their_metric_again(dcgan_train):
    for _ in range(2):
        dcgan_train("-m", *JOBS, RECORD, "seed=0,1", "evaluator=none", "objective=loss_g", "skip_finished=true")
    values = Path("values.json").read_text().splitlines()
    assert values[:2] == values[2:]
    assert 0 < float(values[0]) < 10


@pytest.mark.parametrize(
    ("name", "value"), [("frechet", 2.0), ("coverage", -0.5), ("cb2", 3.0), ("kid", math.inf), ("typo", math.inf)]
)
def test_lower_is_better(name, value):
    metrics = {"frechet": 2.0, "coverage": 0.5, "cb2": -3.0, "kid": None}
    better = {"frechet": "lower", "coverage": "higher", "cb2": "zero", "kid": "lower"}
    assert objective_value({"metrics": metrics, "better": better}, name) == value


def test_objective_in_several_features_is_that_of_the_first():
    metrics = {"frechet": 1.0, "frechet_random_conv": 2.0, "cb2": -3.0}
    summary = {"metrics": metrics, "better": {"cb2": "zero"}, "features": {"random_conv": {}, "judge": {}}}
    assert objective_value(summary, "frechet") == 2.0
    assert objective_value(summary, "frechet_random_conv") == 2.0
    assert objective_value(summary, "cb2") == 3.0


@pytest.mark.parametrize("objective", ["fretchet", "frechet_randomconv"])
def test_unknown_objective_is_rejected_before_the_training(dcgan_train, objective):
    outcome = dcgan_train(*TINY, "trainer=cpu", "max_steps=2", f"objective={objective}", "hydra.run.dir=run")
    assert outcome.code == 1
    assert "objective must be one of" in outcome.err
    assert "frechet" in outcome.err
    assert not Path("run/checkpoints").exists()
