"""What a run writes down: TensorBoard's event file and metrics.csv."""

import csv
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only
from torch import nn

from dcgan.files import atomic_path


class CSVMetrics(Logger):
    """metrics.csv: a row for each step that logged something. It is appended to, also by a resumed run, and written
    anew only when a metric appears for the first time."""

    def __init__(self, path: Path, resumed_step: int) -> None:
        super().__init__()
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self.columns = ["step"]
        if path.exists():
            with path.open(newline="") as file:
                reader = csv.DictReader(file)
                self.rows = [row for row in reader if int(row["step"]) <= resumed_step]
                self.columns = list(reader.fieldnames or self.columns)
            self._rewrite()

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
        row = {"step": step, **metrics}
        new = [name for name in row if name not in self.columns]
        if self.rows and int(self.rows[-1]["step"]) == step:
            self.rows[-1] |= row
            self.columns += new
            self._rewrite()
        elif new or not self.rows:
            self.rows.append(row)
            self.columns += new
            self._rewrite()
        else:
            self.rows.append(row)
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, self.columns).writerow(row)

    @rank_zero_only
    def _rewrite(self) -> None:
        with atomic_path(self.path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(self.rows)


def tensorboard(run_dir: Path, resumed_step: int) -> TensorBoardLogger:
    """Event files straight in the run folder. A resumed run hides what an interrupted one wrote after that step."""
    purge: Any = {"purge_step": resumed_step + 1} if resumed_step else {}
    return TensorBoardLogger(save_dir=run_dir, name="", version="", default_hp_metric=False, flush_secs=10, **purge)


@rank_zero_only
def log_graph(logger: TensorBoardLogger, generator: nn.Module, discriminator: nn.Module, z: torch.Tensor) -> None:
    """The graph of D(G(z)), traced in eval mode so that no running statistics move."""
    training = generator.training
    both = nn.Sequential()
    both.add_module("G", generator)
    both.add_module("D", discriminator)
    both.eval()
    try:
        with warnings.catch_warnings():  # TensorBoard still traces with what torch 2.15 calls deprecated
            warnings.simplefilter("ignore")
            logger.experiment.add_graph(both, z, use_strict_trace=False)
    finally:
        both.train(training)
