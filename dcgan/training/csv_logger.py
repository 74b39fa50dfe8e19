"""The file metrics.csv of a run."""

import csv
import os
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from dcgan.common.atomic_files import atomic_path
from dcgan.common.errors import UserError, first_line
from dcgan.training.loggers import MediaLogger


class CSVMetricsLogger(Logger, MediaLogger):
    """Write metrics.csv: one row per step with metrics, one column per metric.

    Rows are appended. The file is only rewritten when a new metric appears. A resumed run drops later rows.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, Any]] = []
        self.columns = ["step"]
        self.n_saved = 0  # rows on disk

    def start(self, run_dir: Path, resumed_step: int | None) -> None:
        """Read the rows of the run that is resumed. UserError if the file is not a table of metrics."""
        self.path = run_dir / "metrics.csv"
        if resumed_step and self.path.exists():
            try:
                lines = self.path.read_text().splitlines(keepends=True)
                # the last line is incomplete if the run was killed while it was written
                reader = csv.DictReader(line for line in lines if line.endswith("\n"))
                self.columns = list(reader.fieldnames or self.columns)
                self.rows = [row for row in reader if is_complete_row(row) and int(row["step"]) <= resumed_step]
            except (KeyError, ValueError, csv.Error) as error:
                raise UserError(
                    f"{self.path} is not a table of this run's metrics ({first_line(error)}): move it to another folder"
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
