"""Lightning's plugin for checkpoint files. In a module of its own, as generating samples must not import Lightning."""

import copy
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from dcgan.common.atomic_files import atomic_path, write_errors

ALTERNATIVE = "another hydra.run.dir; an earlier checkpoint there, if any, is valid"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write checkpoints atomically; load the one that was already read and verified.

    Lightning's own write crosses file systems without fsync: a kill in between leaves a truncated file (#21253).

    Args:
        checkpoint: The content of the checkpoint that the run resumes from.
    """

    def __init__(self, checkpoint: dict[str, Any] | None) -> None:
        super().__init__()
        self.checkpoint = checkpoint

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        with write_errors(path, ALTERNATIVE), atomic_path(path) as temporary:
            torch.save(checkpoint, temporary)

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        # a copy: the optimizers would continue to work in the memory-mapped file
        return copy.deepcopy(self.checkpoint or {})
