"""The record of a finished run: summary.json and TensorBoard's text, graph and hyperparameters."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf
from torch.utils.tensorboard.summary import hparams

from dcgan import __version__
from dcgan.common.atomic_files import nonfinite_to_none, write_json
from dcgan.common.distributed import all_gather
from dcgan.common.provenance import commit, processor_name
from dcgan.gan import GAN
from dcgan.metrics.compute import better_directions
from dcgan.models.layers import count_parameters
from dcgan.runs.run_dir import FAILURE, SUMMARY
from dcgan.training.callbacks.evaluation import EvaluationCallback
from dcgan.training.callbacks.metrics_logger import MetricsLogger
from dcgan.training.callbacks.shared import summary_writer
from dcgan.training.loggers import log_graph

# the same flat keys in all runs: TensorBoard compares hyperparameters of no others (pytorch#39250)
HYPERPARAMETERS = (
    "model.base_channels",
    "model.hidden_width",
    "model.latent_dim",
    "discriminator.base_channels",
    "discriminator.hidden_width",
    "discriminator.dropout",
    "discriminator.spectral_norm",
    "discriminator.pack",
    "activation.negative_slope",
    "discriminator_activation.negative_slope",
    "loss.label_smoothing",
    "penalty.weight",
    "discriminator_steps",
    "optimizer.generator.lr",
    "optimizer.generator.betas",
    "optimizer.discriminator.lr",
    "optimizer.discriminator.betas",
    "ema.decay",
    "data.batch_size",
    "data.image_size",
    "data.channels",
    "data.limit",
    "max_epochs",
    "max_steps",
    "seed",
)


def hyperparameters(config: dict[str, Any], choices: dict[str, str]) -> dict[str, Any]:
    """Return the chosen option of each group and the values of `HYPERPARAMETERS`, "-" if the config lacks the key."""
    tree = OmegaConf.create(config)
    flat: dict[str, Any] = {group: str(option) for group, option in sorted(choices.items())}
    for key in HYPERPARAMETERS:
        value = OmegaConf.select(tree, key, default="-")
        flat[key] = value if isinstance(value, int | float | str) else str(value)
    return flat


class RunSummary(L.Callback):
    """Write config, graph and hyperparameters to TensorBoard, and summary.json, which only finished runs have.

    `summary` is its content, empty before the end of the training.

    Args:
        run_dir: The run folder.
        metrics_logger: Provides the training metrics.
        evaluation: Provides the test metrics.
        config: The resolved config as plain containers.
        choices: The chosen option of each config group.
    """

    def __init__(
        self,
        run_dir: Path,
        metrics_logger: MetricsLogger,
        evaluation: EvaluationCallback,
        config: dict[str, Any],
        choices: dict[str, str],
    ) -> None:
        self.run_dir, self.config, self.choices = run_dir, config, choices
        self.metrics_logger, self.evaluation = metrics_logger, evaluation
        self.summary: dict[str, Any] = {}
        self.broken_files: dict[str, str] = {}  # left-out files and reasons

    @rank_zero_only
    def on_train_start(self, trainer: L.Trainer, gan: GAN) -> None:
        (self.run_dir / SUMMARY).unlink(missing_ok=True)  # a resumed run is not finished
        text = OmegaConf.to_yaml(OmegaConf.create(self.config))
        summary_writer(trainer).add_text("config", f"```yaml\n{text}```")
        n = max(2, gan.discriminator.pack)
        inputs = (gan.fixed_z[:n],) if gan.fixed_label is None else (gan.fixed_z[:n], gan.fixed_label[:n])
        log_graph(summary_writer(trainer), gan.generator, gan.discriminator, inputs)

    def on_train_end(self, trainer: L.Trainer, gan: GAN) -> None:
        for broken in all_gather(trainer, trainer.datamodule.broken_files):
            self.broken_files |= broken
        self.write(trainer, gan)

    @rank_zero_only
    def write(self, trainer: L.Trainer, gan: GAN) -> None:
        self.summary = self.build_summary(trainer, gan)
        (self.run_dir / FAILURE).unlink(missing_ok=True)  # of an earlier attempt
        write_json(self.run_dir / SUMMARY, self.summary)
        # only the names of the metrics: TensorBoard reads their last values from the curves, and Lightning's
        # log_hyperparams would write these twice
        for part in hparams(self.summary["hyperparameters"], self.evaluation.latest | self.metrics_logger.latest):
            summary_writer(trainer)._get_file_writer().add_summary(part)

    def build_summary(self, trainer: L.Trainer, gan: GAN) -> dict[str, Any]:
        """Return the final metrics (of the training: means over the last row's steps), costs, versions and machine."""
        images = gan.step * trainer.datamodule.images_per_step * trainer.world_size
        device = trainer.strategy.root_device
        gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
        latest = self.evaluation.latest | self.metrics_logger.latest
        return {
            "metrics": nonfinite_to_none({name.partition("/")[2]: value for name, value in latest.items()}),
            "better": better_directions(self.evaluation.metrics) | {"images_per_second": "higher"},
            "judge": self.evaluation.judge_facts,
            "step": gan.step,
            "broken_files": self.broken_files,
            "wall_seconds": self.metrics_logger.seconds,
            "metrics_seconds": self.evaluation.seconds,
            "images_per_second": images / self.metrics_logger.seconds if self.metrics_logger.seconds else None,
            "parameters": {
                "generator": count_parameters(gan.generator),
                "discriminator": count_parameters(gan.discriminator),
            },
            "hyperparameters": hyperparameters(self.config, self.choices),
            "choices": self.choices,
            "config": self.config,
            "device": gpu or processor_name(),
            "processes": trainer.world_size,
            "threads": torch.get_num_threads(),
            "precision": str(trainer.precision),
            "versions": {"dcgan": __version__, "python": platform.python_version()}
            | {name: version(name) for name in ("torch", "torchvision", "lightning", "hydra-core", "tensorboard")},
            "commit": commit(),
        }
