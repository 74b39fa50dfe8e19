"""Start a new run from the weights of another one."""

from typing import Any

from omegaconf import DictConfig
from torch import Tensor, nn

from dcgan.checkpoints.io import read_checkpoint
from dcgan.checkpoints.networks import strip_prefix
from dcgan.common.errors import UserError
from dcgan.gan import GAN

AVERAGE = "ema.network."  # of the names of the average's weights in a checkpoint


def init_weights_from(gan: GAN, cfg: DictConfig) -> dict[str, Any]:
    """Load the weights of the checkpoint `cfg.init_from` into both networks and return its path and step.

    With `cfg.init_from_ema`, G gets the average of the checkpoint's weights. The average of the new run, if any, starts
    from G's weights. Optimizers, data order and step are those of a new run.

    Raises:
        UserError: The checkpoint is missing or damaged, its networks are others, or it has no average.
    """
    checkpoint = read_checkpoint(cfg.init_from)
    weights = checkpoint["state_dict"]
    source = AVERAGE if cfg.init_from_ema else "generator."
    if not strip_prefix(weights, source):
        raise UserError(f"{cfg.init_from} has no average of the weights: leave init_from_ema out")
    load(gan.generator, strip_prefix(weights, source), "model", cfg.init_from)
    load(gan.discriminator, strip_prefix(weights, "discriminator."), "discriminator", cfg.init_from)
    if gan.ema is not None:
        gan.ema.network.load_state_dict(gan.generator.state_dict())
    return {"checkpoint": str(cfg.init_from), "step": checkpoint["step"], "average": bool(cfg.init_from_ema)}


def load(network: nn.Module, weights: dict[str, Tensor], key: str, path: str) -> None:
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        reasons = [line.strip() for line in str(error).splitlines()[1:]]
        raise UserError(
            f"the weights of {path} do not fit this run's {key}: {'; '.join(reasons[:2])}; give the settings of {key} "
            "that the checkpoint was made with"
        ) from error
