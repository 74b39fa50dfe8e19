"""What a run writes down: TensorBoard's event file and metrics.csv."""

import csv
import os
import warnings
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from dcgan.checks import UserError, first_line
from dcgan.files import atomic_path
from dcgan.passes import evaluating


class CSVMetrics(Logger):
    """metrics.csv: a row for each step that logged something. Rows are appended, also by a resumed run; the file is
    written anew only when a metric appears for the first time.

    resumed_step: rows after it are an interrupted run's and go; None: a new run, which starts a new file.
    """

    def __init__(self, path: Path, resumed_step: int | None) -> None:
        super().__init__()
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self.columns = ["step"]
        self.written = 0  # rows on disk
        if resumed_step and path.exists():
            try:
                lines = path.read_text().splitlines(keepends=True)
                reader = csv.DictReader(
                    line for line in lines if line.endswith("\n")
                )  # a kill may have cut the last one
                self.columns = list(reader.fieldnames or self.columns)
                self.rows = [row for row in reader if is_whole(row) and int(row["step"]) <= resumed_step]
            except (KeyError, ValueError, csv.Error) as error:
                raise UserError(
                    f"{path} is not this run's table any more ({first_line(error)}): move it away"
                ) from error

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Hyperparameters are in .hydra/config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if self.rows and int(self.rows[-1]["step"]) == step:
            self.rows[-1] |= metrics
            if self.written == len(self.rows):  # that row is on disk without them
                self.written = 0
        else:
            self.save()  # the last step's row is complete
            self.rows.append({"step": step, **metrics})

    @rank_zero_only
    def save(self) -> None:
        new = list(dict.fromkeys(name for row in self.rows[self.written :] for name in row if name not in self.columns))
        self.columns += new
        if new or not self.written:
            with atomic_path(self.path) as temporary, temporary.open("w", newline="") as file:
                writer = csv.DictWriter(file, self.columns)
                writer.writeheader()
                writer.writerows(self.rows)
        else:
            with self.path.open("r+", newline="") as file:  # not "a", which would start a lost file without a header
                file.seek(0, os.SEEK_END)
                csv.DictWriter(file, self.columns).writerows(self.rows[self.written :])
        self.written = len(self.rows)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.save()


def is_whole(row: dict[str, str | None]) -> bool:
    """Whether a kill has not cut the row short; its step could then be any number."""
    return None not in row.values() and str(row["step"]).isdecimal()


class EventFile(TensorBoardLogger):
    """Lightning's logger without the hparams.yaml that it would write beside the event file, and without its word for a
    full disk, "you tried to log 1.0 which is currently not supported"."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        for name, value in metrics.items():
            self.experiment.add_scalar(name, value, step)

    @rank_zero_only
    def save(self) -> None:
        self.experiment.flush()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Where the training has failed, no second error takes the place of the first one."""
        with nullcontext() if status == "success" else suppress(OSError):
            super().finalize(status)


def tensorboard(run_dir: Path, resumed_step: int | None) -> TensorBoardLogger:
    """Event files straight in the run folder, flushed every 10 seconds. Hidden is what an interrupted run wrote there
    after `resumed_step`; None: a new run, before which one may have been killed too early to leave a checkpoint."""
    # from step 0 a run starts like a new one, its pictures included
    purge: Any = resumed_step + 1 if resumed_step else 0
    return EventFile(save_dir=run_dir, name="", version="", default_hp_metric=False, flush_secs=10, purge_step=purge)


class Both(nn.Module):
    """D(G(z)), or with a label D(G(z, y), y)."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module) -> None:
        super().__init__()
        self.G, self.D = generator, discriminator

    def forward(self, z: Tensor, *label: Tensor) -> Tensor:
        return self.D(self.G(z, *label), *label)


@rank_zero_only
def log_graph(
    writer: SummaryWriter, generator: nn.Module, discriminator: nn.Module, inputs: tuple[Tensor, ...]
) -> None:
    """The graph of D(G(z)), traced in eval mode so that no running statistics move. inputs: z, and a label if any."""
    both = Both(generator, discriminator)
    with evaluating(generator, discriminator), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorBoard still traces with what torch 2.15 calls deprecated
        both.eval()  # add_graph would put the whole back into the mode that it finds, and trace it twice to compare
        writer.add_graph(torch.jit.trace(both, inputs, strict=False, check_trace=False), inputs)
