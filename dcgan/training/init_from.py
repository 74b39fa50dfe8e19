"""Start a new run from the weights of another one."""

from typing import Any

from torch import Tensor, nn

from dcgan.checkpoints.io import read_checkpoint
from dcgan.checkpoints.networks import strip_prefix
from dcgan.common.errors import UserError
from dcgan.gan import GAN

AVERAGE = "ema.network."  # of the names of the average's weights in a checkpoint


def init_weights_from(gan: GAN, path: str, average: bool) -> dict[str, Any]:
    """Load the weights of a checkpoint into both networks and return its path and step.

    The average of the new run, if any, starts from G's weights. Optimizers, data order and step are those of a new run.

    Args:
        gan: The new run's networks.
        path: The checkpoint.
        average: Give G the average of the checkpoint's weights.

    Raises:
        UserError: The checkpoint is missing or damaged, its networks are others, or it has no average.
    """
    checkpoint = read_checkpoint(path)
    weights = checkpoint["state_dict"]
    source = AVERAGE if average else "generator."
    if not strip_prefix(weights, source):
        raise UserError(f"{path} has no average of the weights: leave init_from_ema out")
    load(gan.generator, strip_prefix(weights, source), "model", path)
    load(gan.discriminator, strip_prefix(weights, "discriminator."), "discriminator", path)
    if gan.ema is not None:
        gan.ema.network.load_state_dict(gan.generator.state_dict())
    return {"checkpoint": path, "step": checkpoint["step"], "average": average}


def load(network: nn.Module, weights: dict[str, Tensor], key: str, path: str) -> None:
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        reasons = [line.strip() for line in str(error).splitlines()[1:]]
        raise UserError(
            f"the weights of {path} do not fit this run's {key}: {'; '.join(reasons[:2])}; give the settings of {key} "
            "that the checkpoint was made with"
        ) from error
