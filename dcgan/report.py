"""What a run says of itself for later: config, graph and hyperparameters in TensorBoard, and summary.json."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import OmegaConf

from dcgan import __version__
from dcgan.callbacks import Monitor
from dcgan.files import write_json
from dcgan.gan import GAN
from dcgan.loggers import log_graph

SUMMARY = "summary.json"
# TensorBoard compares runs by their hyperparameters only where all have the same flat keys (pytorch#39250)
HYPERPARAMETERS = (
    "model.base_channels",
    "model.hidden_width",
    "model.latent_dim",
    "discriminator.base_channels",
    "discriminator.hidden_width",
    "discriminator.dropout",
    "discriminator.spectral_norm",
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


def begin(tensorboard: TensorBoardLogger, gan: GAN, config: dict[str, Any]) -> None:
    """The resolved config as text, and the graph of both networks."""
    tensorboard.experiment.add_text("config", f"```yaml\n{OmegaConf.to_yaml(OmegaConf.create(config))}```")
    log_graph(tensorboard, gan.generator, gan.discriminator, gan.fixed_z[:2])


def summarise(
    trainer: L.Trainer, gan: GAN, monitor: Monitor, config: dict[str, Any], choices: dict[str, str]
) -> dict[str, Any]:
    """Final metrics (means over the last rows' steps), what it took, and with which versions on which machine."""
    data: Any = trainer.datamodule
    images = monitor.steps * data.images_per_step * trainer.world_size
    device = trainer.strategy.root_device
    return {
        "metrics": {name.removeprefix("train/"): value for name, value in monitor.latest.items()},
        "step": gan.step,
        "wall_seconds": monitor.seconds,
        "images_per_second": images / monitor.seconds if monitor.seconds else None,
        "parameters": {
            "generator": sum(p.numel() for p in gan.generator.parameters()),
            "discriminator": sum(p.numel() for p in gan.discriminator.parameters()),
        },
        "hyperparameters": hyperparameters(config, choices),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or device.type,
        "processes": trainer.world_size,
        "threads": torch.get_num_threads(),
        "precision": str(trainer.precision),
        "versions": {"dcgan": __version__, "python": platform.python_version()}
        | {name: version(name) for name in ("torch", "torchvision", "lightning", "hydra-core", "tensorboard")},
        "commit": commit(),
    }


def end(tensorboard: TensorBoardLogger, run_dir: Path, summary: dict[str, Any]) -> None:
    """HPARAMS with the final metrics, and summary.json: whoever finds it knows that the run is finished."""
    final = {f"final/{name}": value for name, value in summary["metrics"].items()}
    tensorboard.log_hyperparams(summary["hyperparameters"], final, step=summary["step"])
    tensorboard.experiment.flush()
    write_json(run_dir / SUMMARY, summary)


def commit() -> str | None:
    """The commit of the checkout that this package lies in, "-dirty" where it has changes; None outside of one."""
    try:
        command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
