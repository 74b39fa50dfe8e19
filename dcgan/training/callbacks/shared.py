"""Shared by several callbacks: saved attributes, and the end of a run."""

from typing import Any, ClassVar

import lightning as L
import torch

from dcgan.common.schema import Schema, check_schema


class AttributeStateCallback(L.Callback):
    """A callback that saves the attributes in `saved`, with their schemas, in each checkpoint, and restores them."""

    saved: ClassVar[dict[str, Schema]]

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.saved}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        check_schema(state_dict, self.saved)
        for name in self.saved:
            setattr(self, name, state_dict[name])


def step_callbacks(trainer: L.Trainer) -> list[L.Callback]:
    """Return the callbacks that Lightning calls at each of its batches."""
    hooks = ("on_train_batch_start", "on_train_batch_end")
    return [
        callback
        for callback in trainer.callbacks
        if any(getattr(type(callback), hook) is not getattr(L.Callback, hook) for hook in hooks)
    ]


def is_any_due(callbacks: list[L.Callback], step: int) -> bool:
    """Return True if one of the callbacks must be called after this step.

    A callback that is not needed after each step says so in `is_due(step)`. It may be called after others, too. Between
    the steps that are due, a CUDA graph replays many steps in one of Lightning's batches.
    """
    return any(not hasattr(callback, "is_due") or callback.is_due(step) for callback in callbacks)


def uses_tf32(trainer: L.Trainer) -> bool:
    """Return True if products of float32 matrices are computed with 10 bits of their mantissas (TensorFloat-32)."""
    on_gpu = trainer.strategy.root_device.type == "cuda"
    return on_gpu and trainer.precision == "32-true" and torch.get_float32_matmul_precision() == "high"


def is_last_step(trainer: L.Trainer) -> bool:
    """Return True if the batch that has just ended is the run's last one."""
    return 0 < trainer.max_steps <= trainer.global_step or (
        trainer.is_last_batch and trainer.current_epoch + 1 == trainer.max_epochs
    )
