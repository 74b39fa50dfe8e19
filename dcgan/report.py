"""What a run says of itself for later: config, graph and hyperparameters in TensorBoard, and summary.json."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf
from torch.utils.tensorboard.summary import hparams

from dcgan import __version__
from dcgan.callbacks import Monitor, board
from dcgan.checkpointing import Checkpoints
from dcgan.files import plain, write_json
from dcgan.gan import GAN
from dcgan.loggers import log_graph
from dcgan.measuring import directions
from dcgan.networks import count_parameters
from dcgan.processes import gather
from dcgan.run_folder import FAILURE, SUMMARY
from dcgan.validation import Validation

# TensorBoard compares runs by their hyperparameters only where all have the same flat keys (pytorch#39250)
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
    """The chosen option of each group and the keys above, "-" where a choice has no such key."""
    tree = OmegaConf.create(config)
    flat: dict[str, Any] = {group: str(option) for group, option in sorted(choices.items())}
    for key in HYPERPARAMETERS:
        value = OmegaConf.select(tree, key, default="-")
        flat[key] = value if isinstance(value, int | float | str) else str(value)
    return flat


class Report(L.Callback):
    """TensorBoard's text, graph and HPARAMS, and summary.json: whoever finds that knows that the run is finished.

    config, choices: plain containers. `summary` is there after the training.
    """

    def __init__(
        self,
        run_dir: Path,
        monitor: Monitor,
        validation: Validation,
        checkpoints: Checkpoints,
        config: dict[str, Any],
        choices: dict[str, str],
    ) -> None:
        self.run_dir, self.config, self.choices = run_dir, config, choices
        self.monitor, self.validation, self.checkpoints = monitor, validation, checkpoints
        self.summary: dict[str, Any] = {}
        self.broken: dict[str, str] = {}  # files that were left out, and why

    @rank_zero_only
    def on_train_start(self, trainer: L.Trainer, gan: GAN) -> None:
        (self.run_dir / SUMMARY).unlink(missing_ok=True)  # a run that goes on is not finished
        text = OmegaConf.to_yaml(OmegaConf.create(self.config))
        board(trainer).add_text("config", f"```yaml\n{text}```")
        n = max(2, gan.discriminator.pack)
        inputs = (gan.fixed_z[:n],) if gan.fixed_label is None else (gan.fixed_z[:n], gan.fixed_label[:n])
        log_graph(board(trainer), gan.generator, gan.discriminator, inputs)

    def on_train_end(self, trainer: L.Trainer, gan: GAN) -> None:
        self.broken = {path: why for own in gather(trainer, trainer.datamodule.broken) for path, why in own.items()}
        self.conclude(trainer, gan)

    @rank_zero_only
    def conclude(self, trainer: L.Trainer, gan: GAN) -> None:
        self.summary = self.summarise(trainer, gan)
        (self.run_dir / FAILURE).unlink(missing_ok=True)  # of a job that has gone on since
        write_json(self.run_dir / SUMMARY, self.summary)
        # the metrics' names alone: TensorBoard takes their last values from the curves, which Lightning's own call
        # would write a second time
        for part in hparams(self.summary["hyperparameters"], self.validation.latest | self.monitor.latest):
            board(trainer)._get_file_writer().add_summary(part)

    def summarise(self, trainer: L.Trainer, gan: GAN) -> dict[str, Any]:
        """Final metrics (of the training: means over its last row's steps), what it took, versions and machine."""
        images = gan.step * trainer.datamodule.images_per_step * trainer.world_size
        device = trainer.strategy.root_device
        gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
        latest = self.validation.latest | self.monitor.latest
        return {
            "metrics": plain({name.partition("/")[2]: value for name, value in latest.items()}),
            "better": directions(self.validation.metrics) | {"images_per_second": "higher"},
            "judge": self.validation.judge_facts,
            "step": gan.step,
            "broken_files": self.broken,
            "rolled_back": self.checkpoints.rolled_back,
            "wall_seconds": self.monitor.seconds,
            "metrics_seconds": self.validation.seconds,
            "images_per_second": images / self.monitor.seconds if self.monitor.seconds else None,
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


def processor_name() -> str:
    """The CPU's model where Linux tells it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def commit() -> str | None:
    """The commit of the checkout that this package lies in, "-dirty" where it has changes; None outside of one."""
    checkout = Path(__file__).resolve().parent.parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(checkout), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != checkout:  # a wheel inside somebody else's repository
            return None
        return git("describe", "--always", "--dirty", "--abbrev=40")
    except (OSError, subprocess.SubprocessError):
        return None
