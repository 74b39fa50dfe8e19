"""Report a run of a search to its study, and stop the run early if the study's pruner says so."""

from typing import Any, NoReturn

import lightning as L
from optuna.pruners import BasePruner
from optuna.trial import TrialState
from torch import Tensor

from dcgan.common.atomic_files import write_text
from dcgan.common.errors import PrunedRun, SweepError
from dcgan.gan import GAN
from dcgan.metrics.base import MetricSpec
from dcgan.runs.objective import metric_name, minimized
from dcgan.runs.run_dir import PRUNED
from dcgan.runs.search.study import REASON, open_study, trial_of
from dcgan.training.callbacks.checkpoints import CheckpointCallback
from dcgan.training.callbacks.evaluation import EvaluationCallback
from dcgan.training.callbacks.metrics_logger import MetricsLogger, StepMetrics
from dcgan.training.callbacks.shared import is_last_step
from dcgan.training.context import find_callback, run_context

LOWER = MetricSpec("", "lower")


class TrialReport(L.Callback):
    """Report a metric of a search's trial at each step at which it is measured, and prune the run.

    A pruned run ends with its state in last.ckpt, and with pruned.txt instead of summary.json. The study minimizes:
    metrics of which higher is better are negated. The sweeper adds this callback to each of its jobs.

    Args:
        journal: The file of the study.
        number: Of the trial, >= 0.
        pruner: An Optuna pruner, which counts in training steps; None: the run is never pruned.
        metric: A name in metrics.csv, with or without "test/" or "train/"; None: the objective of the run.
    """

    def __init__(self, journal: str, number: int, pruner: BasePruner | None = None, metric: str | None = None) -> None:
        if pruner is not None and not isinstance(pruner, BasePruner):
            raise ValueError(f"hydra.sweeper.pruner must be an Optuna pruner or null, got {pruner!r}")
        self.journal, self.number, self.pruner, self.metric = journal, number, pruner, metric

    def setup(self, trainer: L.Trainer, gan: GAN, stage: str) -> None:
        self.checkpoints = find_callback(trainer, CheckpointCallback)
        self.evaluation = find_callback(trainer, EvaluationCallback)
        self.metrics_logger = find_callback(trainer, MetricsLogger)

    def on_train_start(self, trainer: L.Trainer, gan: GAN) -> None:
        """Raise SweepError if the objective, or the metric to prune by, will not be measured, or for several ranks."""
        if trainer.world_size > 1:
            raise SweepError("a search cannot run jobs of several processes: use trainer=gpu or trainer=cpu")
        measured = self.measured()
        objective = str(run_context(trainer).cfg.objective)
        for setting, name in (("objective", objective), ("hydra.sweeper.prune_by", self.metric or objective)):
            self.name = metric_name(name.rpartition("/")[2], self.evaluation.feature_facts, measured)
            if self.name not in measured:
                raise SweepError(
                    f"{setting}={name} is never reported by this run: choose another evaluator, or one of "
                    f"{', '.join(measured)}"
                )
        self.better = measured[self.name].better
        self.last_row: dict[str, float] | None = None  # the last reported one
        self.study = open_study(self.journal, self.pruner)
        self.trial = trial_of(self.study, self.number)

    def measured(self) -> dict[str, MetricSpec]:
        """Return the metrics that the run reports."""
        return (
            self.evaluation.specs()
            | dict.fromkeys(StepMetrics._fields, LOWER)
            | {"images_per_second": MetricSpec("", "higher")}
        )

    def on_train_batch_end(self, trainer: L.Trainer, gan: GAN, outputs: Any, batch: Tensor, batch_idx: int) -> None:
        is_new = self.evaluation.evaluated_step == gan.step
        rows = (("test", self.evaluation.latest if is_new else {}), ("train", self.metrics_logger.latest))
        for prefix, row in rows:
            if (value := row.get(f"{prefix}/{self.name}")) is not None and row is not self.last_row:
                self.last_row = row
                self.report(trainer, gan, minimized(value, self.better))

    def is_due(self, step: int) -> bool:
        return False  # the callbacks that measure are due

    def report(self, trainer: L.Trainer, gan: GAN, value: float) -> None:
        reported = self.study.get_trials(deepcopy=False)[self.number].intermediate_values
        if gan.step not in reported:  # by an earlier attempt that was killed after this step
            self.trial.report(value, gan.step)
        if self.pruner is not None and not is_last_step(trainer) and self.trial.should_prune():
            self.prune(trainer, gan, value)

    def prune(self, trainer: L.Trainer, gan: GAN, value: float) -> NoReturn:
        if self.checkpoints.saved_step != gan.step:
            self.checkpoints.save(trainer, gan)
        reason = f"pruned at step {gan.step} ({self.name} {value:.4g})"
        self.trial.set_user_attr(REASON, reason)
        self.study.tell(self.trial, state=TrialState.PRUNED)
        write_text(run_context(trainer).run_dir / PRUNED, f"was {reason}")
        raise PrunedRun(reason)
