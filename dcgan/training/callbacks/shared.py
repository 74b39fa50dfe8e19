"""Shared by several callbacks: saved attributes, and the end of a run."""

from typing import Any, ClassVar

import lightning as L


class AttributeStateCallback(L.Callback):
    """A callback that saves the attributes named in `saved` in each checkpoint, and restores them on resume."""

    saved: ClassVar[tuple[str, ...]]

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.saved}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name in self.saved:
            setattr(self, name, state_dict[name])


def is_last_step(trainer: L.Trainer) -> bool:
    """Return True if the batch that has just ended is the run's last one."""
    return 0 < trainer.max_steps <= trainer.global_step or (
        trainer.is_last_batch and trainer.current_epoch + 1 == trainer.max_epochs
    )
