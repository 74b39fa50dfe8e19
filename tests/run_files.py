"""Read and compare the files of a run, and write pictures for one."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import lightning as L
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dcgan.gan import GAN
from dcgan.training.callbacks.checkpoints import CheckpointCallback

RUN = ["trainer=cpu", "hydra.run.dir=run", "log.every_n_steps=2", "log.activity_every_n_steps=4"]


def write_grey_pictures(folder: Path, n: int) -> None:
    """Write n <= 32 pictures of 8 x 8 pixels, 0.png, 1.png, ..., each of another grey."""
    folder.mkdir()
    for i in range(n):
        Image.new("L", (8, 8), 8 * i).save(folder / f"{i}.png")


def copy_run_at(*steps: int) -> Callable[[], None]:
    """Copy the run folder to RUN_at_STEP after the checkpoint of each of these steps, as a kill would leave it.

    Returns:
        A function that ends this.
    """
    save = CheckpointCallback.save

    def patched(self: CheckpointCallback, trainer: L.Trainer, gan: GAN) -> None:
        save(self, trainer, gan)
        if gan.step in steps and trainer.is_global_zero:
            run = self.path.parent.parent
            shutil.copytree(run, run.with_name(f"{run.name}_at_{gan.step}"))

    CheckpointCallback.save = patched

    def undo() -> None:
        CheckpointCallback.save = save

    return undo


def rows(run: str = "run") -> list[dict[str, str]]:
    """Return the rows of metrics.csv that have losses."""
    with Path(run, "metrics.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["train/loss_d"]]


def weights(run: str | Path = "run") -> dict[str, torch.Tensor]:
    return torch.load(Path(run) / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def different_tensors(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> list[str]:
    """Return the names of the tensors that are not bit-identical."""
    assert a.keys() == b.keys()
    return [name for name in a if not torch.equal(a[name], b[name])]


def events(run: str | Path = "run") -> EventAccumulator:
    accumulator = EventAccumulator(str(run), size_guidance={"tensors": 0, "scalars": 0, "images": 0})
    return accumulator.Reload()
