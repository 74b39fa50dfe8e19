import csv
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dcgan.common.errors import NonFiniteError
from dcgan.losses.adversarial import NonSaturating
from dcgan.training.callbacks.metrics_logger import MetricsLogger, StepMetrics, gradient_norm, raise_if_nonfinite


@pytest.fixture
def gan():
    """A GAN after its first update, with gradients of norm 5 and 1."""
    networks = []
    for gradient in ([3.0, 4.0], [0.0, 1.0]):
        network = nn.Linear(2, 1, bias=False)
        network.weight.grad = torch.tensor([gradient])
        networks.append(network)
    return SimpleNamespace(
        step=0, loss=NonSaturating(), schedulers=None, discriminator=networks[0], generator=networks[1]
    )


@pytest.fixture
def trainer():
    """A Trainer with the attributes that the callback uses; `rows` are the metrics that it logs."""
    rows = []
    return SimpleNamespace(
        rows=rows,
        loggers=[SimpleNamespace(log_metrics=lambda metrics, step: rows.append((step, metrics)))],
        strategy=SimpleNamespace(reduce=lambda value, reduce_op: value),
        datamodule=SimpleNamespace(images_per_step=8),
        world_size=1,
        max_steps=-1,
        is_last_batch=False,
        callback_metrics={},
    )


def run_step(metrics_logger, trainer, gan, loss_d):
    batch = torch.zeros(1)
    outputs = {"metrics": torch.tensor([[loss_d, 1.0, 0.5, 0.0]])}
    metrics_logger.on_train_batch_start(trainer, gan, batch, gan.step)
    gan.step += 1
    metrics_logger.on_train_batch_end(trainer, gan, outputs, batch, gan.step - 1)


def test_row_has_means_since_the_last_row_and_the_last_gradient_norms(gan, trainer):
    metrics_logger = MetricsLogger(2)
    for loss_d in (1.0, 2.0, 3.0, 5.0):
        run_step(metrics_logger, trainer, gan, loss_d)
    assert [step for step, _ in trainer.rows] == [2, 4]
    assert [row["train/loss_d"] for _, row in trainer.rows] == [1.5, 4]
    row = trainer.rows[-1][1]
    assert (row["train/d_real"], row["train/d_fake"]) == (0.5, 0)
    assert (row["train/gradient_norm_d"], row["train/gradient_norm_g"]) == (5, 1)
    assert row == metrics_logger.latest
    assert trainer.callback_metrics["train/loss_d"] == torch.tensor(4.0)


def test_resumed_row_includes_the_steps_before_the_resume(gan, trainer):
    before, resumed = MetricsLogger(2), MetricsLogger(2)
    run_step(before, trainer, gan, 1.0)
    before.read_from_device(trainer, gan)  # as when a checkpoint is saved
    resumed.load_state_dict(before.state_dict())
    run_step(resumed, trainer, gan, 2.0)
    assert trainer.rows[0][1]["train/loss_d"] == 1.5


def test_excluded_time_is_not_training_time(gan, trainer, monkeypatch):
    times = iter([100.0, 110.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    metrics_logger = MetricsLogger(2)
    run_step(metrics_logger, trainer, gan, 1.0)
    metrics_logger.exclude_seconds(6)
    run_step(metrics_logger, trainer, gan, 1.0)
    assert metrics_logger.seconds == 4
    assert trainer.rows[0][1]["train/images_per_second"] == 2 * 8 / 4


def test_gradient_that_is_not_finite_stops_the_run(gan, trainer):
    gan.generator.weight.grad.fill_(math.inf)
    with pytest.raises(NonFiniteError, match="at step 1 the generator's gradient was inf"):
        run_step(MetricsLogger(1), trainer, gan, 1.0)


def test_gradient_norm_ignores_parameters_without_a_gradient():
    network = nn.Linear(2, 1)
    network.weight.grad = torch.tensor([[3.0, 4.0]])
    assert gradient_norm(network).item() == 5


def test_first_bad_step_and_its_cause_are_named():
    good, bad = StepMetrics(1, 1, 0.5, 0.5), StepMetrics(math.nan, 1, 0.5, 0.5)
    raise_if_nonfinite(100, [good] * 4)
    with pytest.raises(NonFiniteError, match=r"at step 103 loss_d was nan and loss_g 1 \(the loss itself\)"):
        raise_if_nonfinite(100, [good, good, bad, bad])
    with pytest.raises(NonFiniteError, match=r"check the data"):
        raise_if_nonfinite(0, [StepMetrics(math.nan, 1, math.nan, 0.5)])
    with pytest.raises(NonFiniteError, match=r"after the generator's gradient of step 7"):
        raise_if_nonfinite(7, [StepMetrics(math.nan, 1, 0.5, math.nan)])


def test_last_step_of_a_run_is_logged(plain_run):
    with (plain_run.parents[1] / "metrics.csv").open(newline="") as file:
        assert [row["step"] for row in csv.DictReader(file) if row["train/loss_d"]] == ["4"]
