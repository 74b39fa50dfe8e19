"""Shared by several callbacks: logging, and the progress of a run."""

from typing import Any, ClassVar, cast

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter

from dcgan.gan import GAN


class AttributeStateCallback(L.Callback):
    """A callback that saves the attributes named in `saved` in each checkpoint, and restores them on resume."""

    saved: ClassVar[tuple[str, ...]]

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.saved}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name in self.saved:
            setattr(self, name, state_dict[name])


def log_metrics(trainer: L.Trainer, metrics: dict[str, float], step: int) -> None:
    """Log to every logger. self.log would cost more than Lightning's loop: experiments/hot_path."""
    for logger in trainer.loggers:
        logger.log_metrics(metrics, step)


def summary_writer(trainer: L.Trainer) -> SummaryWriter:
    """Return TensorBoard's writer, which does nothing on ranks other than 0."""
    return cast(TensorBoardLogger, trainer.logger).experiment  # the first logger: dcgan.training.run


def total_steps(trainer: L.Trainer, gan: GAN) -> int:
    """Return the number of steps of the complete run."""
    if trainer.max_steps > 0:
        return trainer.max_steps // gan.optimizer_steps_per_step
    return (trainer.max_epochs or 0) * int(trainer.num_training_batches)


def is_last_step(trainer: L.Trainer) -> bool:
    """Return True if the batch that has just ended is the run's last one."""
    return 0 < trainer.max_steps <= trainer.global_step or (
        trainer.is_last_batch and trainer.current_epoch + 1 == trainer.max_epochs
    )
