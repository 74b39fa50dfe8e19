"""The loggers of a run: TensorBoard's event file and metrics.csv."""

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

from dcgan.common.atomic_files import atomic_path
from dcgan.common.errors import UserError, first_line
from dcgan.models.forward_modes import eval_mode


class CSVMetricsLogger(Logger):
    """Write metrics.csv: one row per step with metrics, one column per metric.

    Rows are appended. The file is only rewritten when a new metric appears.

    Args:
        path: The file.
        resumed_step: Later rows of an existing file are dropped; None: a new run, which starts a new file.

    Raises:
        UserError: The existing file is not a table of metrics.
    """

    def __init__(self, path: Path, resumed_step: int | None) -> None:
        super().__init__()
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self.columns = ["step"]
        self.n_saved = 0  # rows on disk
        if resumed_step and path.exists():
            try:
                lines = path.read_text().splitlines(keepends=True)
                # the last line is incomplete if the run was killed while it was written
                reader = csv.DictReader(line for line in lines if line.endswith("\n"))
                self.columns = list(reader.fieldnames or self.columns)
                self.rows = [row for row in reader if is_complete_row(row) and int(row["step"]) <= resumed_step]
            except (KeyError, ValueError, csv.Error) as error:
                raise UserError(
                    f"{path} is not a table of this run's metrics ({first_line(error)}): move it to another folder"
                ) from error

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: hyperparameters are in .hydra/config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if self.rows and int(self.rows[-1]["step"]) == step:
            self.rows[-1] |= metrics
            if self.n_saved == len(self.rows):  # the row on disk lacks these metrics
                self.n_saved = 0
        else:
            self.save()  # the previous step's row is complete
            self.rows.append({"step": step, **metrics})

    @rank_zero_only
    def save(self) -> None:
        unsaved = self.rows[self.n_saved :]
        new_columns = list(dict.fromkeys(name for row in unsaved for name in row if name not in self.columns))
        self.columns += new_columns
        if new_columns or not self.n_saved:
            with atomic_path(self.path) as temporary, temporary.open("w", newline="") as file:
                writer = csv.DictWriter(file, self.columns)
                writer.writeheader()
                writer.writerows(self.rows)
        else:
            # mode "a" would create a deleted file again, without its header
            with self.path.open("r+", newline="") as file:
                file.seek(0, os.SEEK_END)
                csv.DictWriter(file, self.columns).writerows(unsaved)
        self.n_saved = len(self.rows)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.save()


def is_complete_row(row: dict[str, str | None]) -> bool:
    """Return False for a row that a kill has truncated; its step could then be any number."""
    return None not in row.values() and str(row["step"]).isdecimal()


class TensorBoardWriter(TensorBoardLogger):
    """Lightning's TensorBoardLogger without hparams.yaml.

    On a full disk, Lightning's logger reports "you tried to log 1.0 which is currently not supported" instead.
    """

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        for name, value in metrics.items():
            self.experiment.add_scalar(name, value, step)

    @rank_zero_only
    def save(self) -> None:
        self.experiment.flush()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the event file. After a failed training, a second error must not hide the first one."""
        with nullcontext() if status == "success" else suppress(OSError):
            super().finalize(status)


def tensorboard_logger(run_dir: Path, resumed_step: int | None) -> TensorBoardLogger:
    """Return a logger of event files in the run folder itself, flushed every 10 seconds.

    Args:
        run_dir: The run folder.
        resumed_step: TensorBoard hides what an interrupted run has written after it; None: a new run, which hides all
            events of a run that was killed before its first checkpoint.
    """
    # resumed from step 0, a run logs its first images again
    purge: Any = resumed_step + 1 if resumed_step else 0
    return TensorBoardWriter(
        save_dir=run_dir, name="", version="", default_hp_metric=False, flush_secs=10, purge_step=purge
    )


class GeneratorAndDiscriminator(nn.Module):
    """Compute D(G(z)), or D(G(z, y), y) with a label y."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module) -> None:
        super().__init__()
        self.G, self.D = generator, discriminator

    def forward(self, z: Tensor, *label: Tensor) -> Tensor:
        return self.D(self.G(z, *label), *label)


@rank_zero_only
def log_graph(
    writer: SummaryWriter, generator: nn.Module, discriminator: nn.Module, inputs: tuple[Tensor, ...]
) -> None:
    """Log the graph of D(G(z)), traced in eval mode, which does not change running statistics.

    Args:
        writer: TensorBoard's writer.
        generator: G.
        discriminator: D.
        inputs: z, and the label of conditional networks.
    """
    networks = GeneratorAndDiscriminator(generator, discriminator)
    with eval_mode(generator, discriminator), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorBoard traces with functions that torch 2.15 deprecates
        # add_graph gives the root's mode to all submodules in the end, and itself would trace twice to compare
        networks.eval()
        writer.add_graph(torch.jit.trace(networks, inputs, strict=False, check_trace=False), inputs)
