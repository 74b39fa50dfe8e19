"""Loggers of experiment trackers. Each is an extra of this package. A resumed run continues the tracker's run."""

import json
import os
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from lightning.pytorch.loggers import MLFlowLogger, WandbLogger
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from dcgan.common.atomic_files import write_json
from dcgan.common.errors import UserError
from dcgan.training.loggers import Image, MediaLogger


def saved_id(run_dir: Path, tracker: str) -> str | None:
    """Return the tracker's ID of the run in this folder, None if the tracker has not logged it yet."""
    path = id_file(run_dir, tracker)
    return json.loads(path.read_text())["id"] if path.exists() else None


@rank_zero_only
def save_id(run_dir: Path, tracker: str, identity: str | None) -> None:
    write_json(id_file(run_dir, tracker), {"id": identity})


def id_file(run_dir: Path, tracker: str) -> Path:
    return run_dir / ".hydra" / f"{tracker}_id.json"


def to_array(image: Image) -> Any:
    """Return an image as a NumPy array (height, width, channels)."""
    return image.permute(1, 2, 0).squeeze(-1).cpu().numpy()


class Wandb(WandbLogger, MediaLogger):
    """Weights & Biases (https://wandb.ai), with images, histograms and texts.

    Args:
        project: The project's name.
        offline: Write files that `wandb sync` uploads later. They are in the run folder.

    Raises:
        UserError: wandb is not installed.
    """

    def __init__(self, project: str = "dcgan", offline: bool = False) -> None:
        self.project, self.is_offline = project, offline

    def start(self, run_dir: Path, resumed_step: int | None) -> None:
        identity = saved_id(run_dir, "wandb") if resumed_step is not None else None
        try:
            super().__init__(
                name=run_dir.name,
                save_dir=run_dir,
                project=self.project,
                offline=self.is_offline,
                id=identity or uuid4().hex[:8],
                resume="allow",
            )
        except ModuleNotFoundError as error:
            raise UserError("logger=wandb needs wandb, which is not installed: pip install 'dcgan[wandb]'") from error
        save_id(run_dir, "wandb", self._id)

    def add_image(self, name: str, image: Image, step: int) -> None:
        import wandb

        self.log_media(name, wandb.Image(to_array(image)), step)

    def add_histogram(self, name: str, values: Tensor, step: int) -> None:
        import wandb

        self.log_media(name, wandb.Histogram(values.tolist()), step)

    def add_text(self, name: str, text: str, step: int) -> None:
        import wandb

        self.log_media(name, wandb.Html(f"<pre>{text}</pre>"), step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is still in memory, and end the run, so that the next job of a sweep gets its own."""
        if self._experiment is not None:
            self._experiment.finish(exit_code=0 if status == "success" else 1)

    def log_media(self, name: str, value: Any, step: int) -> None:
        self.experiment.log({name: value, "trainer/global_step": step})


class MLflow(MLFlowLogger, MediaLogger):
    """MLflow (https://mlflow.org), with images and texts.

    Args:
        experiment_name: The experiment's name.
        tracking_uri: The server, such as http://localhost:5000, or file:FOLDER; None: $MLFLOW_TRACKING_URI, or the
            folder mlruns/ in the run folder.

    Raises:
        UserError: mlflow is not installed.
    """

    def __init__(self, experiment_name: str = "dcgan", tracking_uri: str | None = None) -> None:
        self.experiment_title, self.uri = experiment_name, tracking_uri

    def start(self, run_dir: Path, resumed_step: int | None) -> None:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # mlflow-skinny has no database
        try:
            super().__init__(
                experiment_name=self.experiment_title,
                run_name=run_dir.name,
                tracking_uri=self.uri,
                save_dir=str(run_dir / "mlruns"),
                run_id=saved_id(run_dir, "mlflow") if resumed_step is not None else None,
            )
        except ModuleNotFoundError as error:
            raise UserError(
                "logger=mlflow needs mlflow, which is not installed: pip install 'dcgan[mlflow]'"
            ) from error
        self.is_resumed = resumed_step is not None
        save_id(run_dir, "mlflow", self.run_id)

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Log them once: MLflow rejects values that a resumed run has changed."""
        if not self.is_resumed:
            super().log_hyperparams(params)

    def add_image(self, name: str, image: Image, step: int) -> None:
        self.experiment.log_image(self.run_id, to_array(image), key=name, step=step)

    def add_text(self, name: str, text: str, step: int) -> None:
        self.experiment.log_text(self.run_id, text, f"{name}/step_{step}.txt")


class Trackio(Logger, MediaLogger):
    """Trackio (https://github.com/gradio-app/trackio): a local dashboard, `trackio show`.

    Args:
        project: The project's name.

    Raises:
        UserError: trackio is not installed.
    """

    def __init__(self, project: str = "dcgan") -> None:
        super().__init__()
        self.project = project

    def start(self, run_dir: Path, resumed_step: int | None) -> None:
        try:
            import trackio
        except ModuleNotFoundError as error:
            raise UserError(
                "logger=trackio needs trackio, which is not installed: pip install 'dcgan[trackio]'"
            ) from error
        self.init = partial(
            trackio.init,
            self.project,
            name=run_dir.name,
            resume="never" if resumed_step is None else "allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    @cached_property
    def run(self) -> Any:
        """The run, which only rank 0 opens."""
        return self.init()

    @property
    def name(self) -> str:
        return self.project

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.run.log(metrics, step=step)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self.run.config.update(params)

    def add_image(self, name: str, image: Image, step: int) -> None:
        import trackio

        self.run.log({name: trackio.Image(to_array(image))}, step=step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.run.finish()
