"""What a run has left, read back."""

import shutil
from collections.abc import Callable
from pathlib import Path

import lightning as L
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dcgan.checkpointing import Checkpoints
from dcgan.gan import GAN

RUN = ["trainer=cpu", "hydra.run.dir=run", "log.every_n_steps=2", "log.activity_every_n_steps=4"]


def keep_states(*steps: int) -> Callable[[], None]:
    """The run folder is copied to RUN_at_STEP when the checkpoint of such a step is written, as a kill would leave it.
    Returned is what undoes that."""
    save = Checkpoints.save

    def spied(self: Checkpoints, trainer: L.Trainer, gan: GAN) -> None:
        save(self, trainer, gan)
        if gan.step in steps and trainer.is_global_zero:
            run = self.path.parent.parent
            shutil.copytree(run, run.with_name(f"{run.name}_at_{gan.step}"))

    Checkpoints.save = spied

    def undo() -> None:
        Checkpoints.save = save

    return undo


def weights(run: str | Path = "run") -> dict[str, torch.Tensor]:
    return torch.load(Path(run) / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def differing(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> list[str]:
    assert a.keys() == b.keys()
    return [name for name in a if not torch.equal(a[name], b[name])]


def events(run: str | Path = "run") -> EventAccumulator:
    accumulator = EventAccumulator(str(run), size_guidance={"tensors": 0, "scalars": 0, "images": 0})
    return accumulator.Reload()
