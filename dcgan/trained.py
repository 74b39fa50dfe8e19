"""A checkpoint read back: its content, and the generator in it ready to draw. No training code is needed for that."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from hydra.utils import instantiate
from jaxtyping import Float, UInt8
from omegaconf import OmegaConf
from torch import Tensor, nn

from dcgan.checks import UserError, first_line
from dcgan.networks import LatentModel
from dcgan.pixels import PixelRange
from dcgan.seeding import Stream, derive_generator

FORMAT = 1
LATENT_BLOCK = 64


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The checkpoint's dict; its tensors stay on disk until they are used. Nothing in the file can run code.

    UserError where the file is missing, unreadable, or not a checkpoint of this format.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}: give the path of a run's checkpoints/last.ckpt")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises a dozen kinds for a damaged or malicious file
        raise UserError(f"{path} cannot be read as a checkpoint ({type(error).__name__}): use another copy") from error
    if not isinstance(checkpoint, dict) or checkpoint.get("format") != FORMAT:
        raise UserError(f"{path} is not a checkpoint of this version of dcgan (format {FORMAT})")
    return checkpoint


def build(checkpoint: dict[str, Any], key: str) -> nn.Module:
    """The untrained network of the config's `key`; its weights come from torch's global generator."""
    try:
        built: nn.Module = instantiate(OmegaConf.create(checkpoint["config"])[key])
    except Exception as error:
        raise UserError(f"the checkpoint's {key} cannot be built by this version ({first_line(error)})") from error
    return built.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def trained(checkpoint: dict[str, Any], key: str, prefix: str) -> nn.Module:
    """The network of the config's `key` with the weights that the checkpoint has below `prefix`, in eval mode."""
    built = build(checkpoint, key)
    weights = {name: tensor for name, tensor in checkpoint["state_dict"].items() if name.startswith(prefix)}
    try:
        built.load_state_dict({name.removeprefix(prefix): tensor for name, tensor in weights.items()})
    except RuntimeError as error:
        raise UserError(f"the checkpoint's {key} has other weights than its config says: use another copy") from error
    return built


def latents(model: LatentModel, n: int, seed: int) -> Float[Tensor, "n latent_dim"]:
    """n latent vectors on the CPU; that of image i depends on (seed, i) alone."""
    cpu = torch.device("cpu")
    blocks = [
        model.draw_z(LATENT_BLOCK, cpu, derive_generator(cpu, seed, Stream.SAMPLES, block))
        for block in range(math.ceil(n / LATENT_BLOCK))
    ]
    return torch.cat(blocks)[:n]


class TrainedGenerator:
    """A generator in eval mode and the map of its range to pixels: no image depends on the others of its batch."""

    def __init__(self, network: LatentModel, pixels: PixelRange, device: torch.device) -> None:
        self.network, self.pixels, self.device = network.to(device), pixels, device

    def batches(self, n: int, seed: int, batch_size: int) -> Iterator[UInt8[Tensor, "b c h w"]]:
        """n images on the CPU, drawn batch by batch."""
        for z in latents(self.network, n, seed).split(batch_size):
            with torch.no_grad():
                yield self.pixels.decode(self.network(z.to(self.device))).cpu()


def load_generator(checkpoint: dict[str, Any], device: torch.device) -> TrainedGenerator:
    """The generator of what `read_checkpoint` returned: the average of the weights where the run had one."""
    prefix = "ema.network." if has_ema(checkpoint) else "generator."
    pixels = instantiate(OmegaConf.create(checkpoint["config"]).output.pixels)
    return TrainedGenerator(cast(LatentModel, trained(checkpoint, "model", prefix)), pixels, device)


def has_ema(checkpoint: dict[str, Any]) -> bool:
    return any(name.startswith("ema.") for name in checkpoint["state_dict"])
