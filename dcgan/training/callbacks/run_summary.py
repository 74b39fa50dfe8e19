"""The record of a finished run: summary.json, and the loggers' config, graph and hyperparameters."""

import platform
from importlib.metadata import version
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf

from dcgan import __version__
from dcgan.common.atomic_files import nonfinite_to_none, write_json
from dcgan.common.distributed import all_gather
from dcgan.common.provenance import commit, processor_name
from dcgan.gan import GAN
from dcgan.models.layers import count_parameters
from dcgan.runs.config_diff import flatten, learning_rates
from dcgan.runs.run_dir import FAILURE, PRUNED, SUMMARY
from dcgan.training.callbacks.evaluation import EvaluationCallback
from dcgan.training.callbacks.metrics_logger import MetricsLogger
from dcgan.training.callbacks.shared import AttributeStateCallback, uses_tf32
from dcgan.training.context import find_callback, run_context
from dcgan.training.cuda_graph import CUDAGraphGAN
from dcgan.training.loggers import log_charts, log_columns, log_graph, log_hyperparameters, log_text

NOT_HYPERPARAMETERS = ("sweep", "trainer")  # names of folders, and the machine
TRAINING_CHARTS = {"losses": ["train/loss_d", "train/loss_g"], "D(x) and D(G(z))": ["train/d_real", "train/d_fake"]}


def hyperparameters(config: dict[str, Any], choices: dict[str, str]) -> dict[str, bool | int | float | str]:
    """Return the chosen option of each group and the values of the config, by dotted key."""
    flat: dict[str, Any] = {group: str(option) for group, option in sorted(choices.items())}
    values = {key: value for key, value in flatten(config).items() if key.partition(".")[0] not in NOT_HYPERPARAMETERS}
    return flat | {key: value if isinstance(value, bool | int | float) else str(value) for key, value in values.items()}


class RunSummary(AttributeStateCallback):
    """Log config, graph and hyperparameters, and write summary.json, which only finished runs have.

    `summary` is its content, empty before the end of the training.
    """

    saved = {"learning_rates": {str: float}, "learning_rate_changes": [str]}

    def __init__(self) -> None:
        self.summary: dict[str, Any] = {}
        self.broken_files: dict[str, str] = {}  # left-out files and reasons
        self.learning_rates: dict[str, float] = {}  # of the config, by network
        self.learning_rate_changes: list[str] = []  # made when the run was resumed

    def setup(self, trainer: L.Trainer, gan: GAN, stage: str) -> None:
        self.evaluation = find_callback(trainer, EvaluationCallback)
        self.metrics_logger = find_callback(trainer, MetricsLogger)

    def on_train_start(self, trainer: L.Trainer, gan: GAN) -> None:
        context = run_context(trainer)
        self.record_learning_rates(context.config, gan.step)
        if trainer.is_global_zero:
            (context.run_dir / SUMMARY).unlink(missing_ok=True)  # a resumed run is not finished
        text = OmegaConf.to_yaml(OmegaConf.create(context.config))
        log_text(trainer, "config", f"```yaml\n{text}```", gan.step)
        values = hyperparameters(context.config, context.choices)
        log_hyperparameters(trainer, values)
        metrics = {name: [f"test/{name}"] for name, spec in self.evaluation.specs().items() if spec.better}
        log_charts(trainer, {"training": TRAINING_CHARTS, "test metrics": metrics})
        if swept := {key: values[key] for key in context.config["sweep"]["keys"] if key in values}:
            log_columns(trainer, swept, [name for chart in (metrics | TRAINING_CHARTS).values() for name in chart])
        log_graph(trainer, gan)

    def record_learning_rates(self, config: dict[str, Any], step: int) -> None:
        rates = learning_rates(config)
        for name, before in self.learning_rates.items():
            if rates[name] != before:
                self.learning_rate_changes.append(f"step {step}: {name} {before:g} -> {rates[name]:g}")
        self.learning_rates = rates

    def on_train_end(self, trainer: L.Trainer, gan: GAN) -> None:
        for broken in all_gather(trainer, trainer.datamodule.broken_files):
            self.broken_files |= broken
        self.write(trainer, gan)

    @rank_zero_only
    def write(self, trainer: L.Trainer, gan: GAN) -> None:
        run_dir = run_context(trainer).run_dir
        self.summary = self.build_summary(trainer, gan)
        for name in (FAILURE, PRUNED):  # of an earlier attempt
            (run_dir / name).unlink(missing_ok=True)
        write_json(run_dir / SUMMARY, self.summary)

    def build_summary(self, trainer: L.Trainer, gan: GAN) -> dict[str, Any]:
        """Return the final metrics (of the training: means over the last row's steps), costs, versions and machine."""
        images = gan.step * trainer.datamodule.images_per_step * trainer.world_size
        device = trainer.strategy.root_device
        gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
        evaluation, metrics_logger, context = self.evaluation, self.metrics_logger, run_context(trainer)
        latest = evaluation.latest | metrics_logger.latest
        return {
            "metrics": nonfinite_to_none({name.partition("/")[2]: value for name, value in latest.items()}),
            "better": {name: spec.better for name, spec in evaluation.specs().items()}
            | {"images_per_second": "higher"},
            "features": evaluation.feature_facts,
            "judge": evaluation.judge_facts,
            "step": gan.step,
            "best_step": evaluation.best_step if evaluation.best_step >= 0 else None,  # of best.ckpt
            "init_from": context.init_from,
            "learning_rate_changes": self.learning_rate_changes,
            "broken_files": self.broken_files,
            "wall_seconds": metrics_logger.seconds,
            "metrics_seconds": evaluation.seconds,
            "images_per_second": images / metrics_logger.seconds if metrics_logger.seconds else None,
            "parameters": {
                "generator": count_parameters(gan.generator),
                "discriminator": count_parameters(gan.discriminator),
            },
            "hyperparameters": hyperparameters(context.config, context.choices),
            "choices": context.choices,
            "config": context.config,
            "device": gpu or processor_name(),
            "processes": trainer.world_size,
            "threads": torch.get_num_threads(),
            "precision": str(trainer.precision),
            "tf32": uses_tf32(trainer),
            "cuda_graph": isinstance(gan, CUDAGraphGAN),
            "versions": {"dcgan": __version__, "python": platform.python_version()}
            | {name: version(name) for name in ("torch", "torchvision", "lightning", "hydra-core", "tensorboard")},
            "commit": commit(),
        }
