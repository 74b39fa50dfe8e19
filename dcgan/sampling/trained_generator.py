"""A trained generator, loaded from a checkpoint or an export without the training code."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from dcgan.checkpoints.io import REQUIRED, check_format, check_types, read_checkpoint
from dcgan.checkpoints.networks import build_network, load_weights, strip_prefix
from dcgan.checkpoints.safe_instantiate import safe_instantiate
from dcgan.common.arg_checks import check_int
from dcgan.common.device import resolve_device
from dcgan.common.errors import UserError, first_line
from dcgan.common.seeding import Stream, derive_generator
from dcgan.data.pixel_range import PixelRange
from dcgan.models.generator import BaseGenerator
from dcgan.models.prior import Prior

LATENT_BLOCK = 64
BATCH_SIZE = 200  # larger batches are not faster: experiments/sampling
BATCH_MULTIPLE = 32  # batches are padded to a multiple of it, so that all batch sizes use the same arithmetic
# files of an export
CONFIG = "config.json"
HUB_WEIGHTS = "model.safetensors"


def sample_blocks(n: int, seed: int, stream: Stream, sample: Callable[[int, torch.Generator], Tensor]) -> Tensor:
    """Return n random values on the CPU, sampled in blocks: value i depends only on (seed, i)."""
    cpu = torch.device("cpu")
    blocks = range(math.ceil(n / LATENT_BLOCK))
    return torch.cat([sample(LATENT_BLOCK, derive_generator(cpu, seed, stream, block)) for block in blocks])[:n]


def sample_latents(model: BaseGenerator, n: int, seed: int) -> Float[Tensor, "n latent_dim"]:
    """Return n latent vectors on the CPU; vector i depends only on (seed, i)."""
    return sample_blocks(n, seed, Stream.SAMPLES, lambda block, rng: model.sample_z(block, rng.device, rng))


def sample_labels(model: BaseGenerator, n: int, seed: int) -> Int64[Tensor, " n"] | None:
    """Return n labels on the CPU, sampled with the training images' class frequencies; None if unconditional.

    Label i depends only on (seed, i).
    """
    if not model.classes:
        return None
    prior = model.label_prior.cpu()
    return sample_blocks(n, seed, Stream.LABELS, lambda block, rng: prior.multinomial(block, True, generator=rng))


def split_batches(
    z: Float[Tensor, "n latent_dim"], label: Int64[Tensor, " n"] | None, size: int
) -> Iterator[tuple[Float[Tensor, "b latent_dim"], Int64[Tensor, " b"] | None]]:
    for start in range(0, len(z), size):
        batch = slice(start, start + size)
        yield z[batch], None if label is None else label[batch]


@dataclass(frozen=True, eq=False)
class TrainedGenerator:
    """A generator in eval mode: no image depends on the others of its batch.

    Args:
        network: The generator's network.
        pixels: Maps its range to pixels.
        device: Where the network is.
        facts: Metadata, which an export stores: "config" (of "model" and "output"), "dataset" (its name), "step",
            "weights" ("ema" or "generator"), "seed" and "choices" (the chosen option of each config group).
    """

    network: BaseGenerator
    pixels: PixelRange
    device: torch.device
    facts: dict[str, Any]

    @property
    def classes(self) -> int:
        return self.network.classes

    def z(self, n: int, seed: int) -> Float[Tensor, "n latent_dim"]:
        return sample_latents(self.network, n, seed)

    def labels(self, n: int, seed: int, label: int | None = None) -> Int64[Tensor, " n"] | None:
        """Return `label` n times, or random labels for None; None for an unconditional model.

        Raises:
            UserError: The model does not have the label.
        """
        if label is None:
            return sample_labels(self.network, n, seed)
        if not self.classes:
            raise UserError(f"label={label}, but the model is unconditional: train one with conditional=concat")
        if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < self.classes:
            raise UserError(f"label must be one of 0 to {self.classes - 1}, got {label!r}")
        return torch.full((n,), label)

    def generate(
        self, z: Float[Tensor, "n latent_dim"], label: Int64[Tensor, " n"] | None = None, batch_size: int = BATCH_SIZE
    ) -> Iterator[UInt8[Tensor, "b c h w"]]:
        """Generate the images of z, batch by batch, on the CPU."""
        check_int("batch_size", batch_size, 1)
        for batch, batch_label in split_batches(z, label, batch_size):
            padding = (0, -len(batch) % BATCH_MULTIPLE)
            padded = nn.functional.pad(batch, (0, 0, *padding)).to(self.device)
            if batch_label is not None:
                batch_label = nn.functional.pad(batch_label, padding).to(self.device)
            with torch.no_grad():
                yield self.pixels.decode(self.network(padded, batch_label))[: len(batch)].cpu()

    def sample(
        self, n: int, seed: int = 0, label: int | None = None, batch_size: int = BATCH_SIZE
    ) -> UInt8[Tensor, "n c h w"]:
        """Generate n images on the CPU; the latent vector of image i depends only on (seed, i).

        Args:
            n: Images, >= 1.
            seed: Seed of the latent vectors and labels, >= 0.
            label: Class of all images; None: classes of a conditional model are sampled as in training.
            batch_size: Images per batch, >= 1.

        Raises:
            ValueError: A number is out of range.
            UserError: The model does not have the label.
        """
        check_int("n", n, 1)
        check_int("seed", seed, 0)
        return torch.cat(list(self.generate(self.z(n, seed), self.labels(n, seed, label), batch_size)))


def load_generator(path: str | Path, device: str = "auto") -> TrainedGenerator:
    """Load the generator of a checkpoint or an export. Nothing in the file can run code.

    Args:
        path: A checkpoint (with EMA weights, these are used), a .safetensors file next to its config.json, or a folder
            with both.
        device: "cpu", "cuda", or "auto" for a GPU if there is one.

    Raises:
        UserError: The file is missing, damaged, or not a file of this project.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / HUB_WEIGHTS).is_file():
            raise UserError(f"there is no {HUB_WEIGHTS} in {path}: give a run's checkpoints/last.ckpt, or an export")
        path /= HUB_WEIGHTS
    if path.suffix == ".safetensors":
        return assemble_generator(*read_export(path), device)
    return generator_of_checkpoint(read_checkpoint(path), device)


def generator_of_checkpoint(checkpoint: dict[str, Any], device: str) -> TrainedGenerator:
    """Return the generator of a checkpoint that was already read; see `load_generator`."""
    config, weights = checkpoint["config"], checkpoint["state_dict"]
    ema = any(name.startswith("ema.") for name in weights)
    facts = {
        "dataset": checkpoint["dataset"],
        "judge": checkpoint.get("judge"),
        "step": checkpoint["step"],
        "weights": "ema" if ema else "generator",
        "seed": config["seed"],
        "choices": checkpoint["choices"],
        "config": {"model": config["model"], "output": config["output"]},
    }
    return assemble_generator(strip_prefix(weights, "ema.network." if ema else "generator."), facts, device)


def assemble_generator(weights: dict[str, Tensor], facts: dict[str, Any], device: str) -> TrainedGenerator:
    network, pixels = build_generator(weights, facts), safe_instantiate(facts["config"], "output.pixels")
    resolved = resolve_device(device)
    return TrainedGenerator(network.to(resolved), pixels, resolved, facts)


def build_generator(weights: dict[str, Tensor], facts: dict[str, Any]) -> BaseGenerator:
    """Return the generator's network with these weights. UserError if they do not fit the config in `facts`."""
    network = build_network(facts, "model")
    if not isinstance(network, BaseGenerator) or not isinstance(network.prior, Prior):
        raise UserError("the checkpoint's config does not describe a generator: use another copy")
    load_weights(network, weights, "model")
    return network


def read_export(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read weights and facts of a .safetensors export. UserError if it is missing, damaged or not an export."""
    config = path.with_name(CONFIG)
    for file in (path, config):
        if not file.is_file():
            raise UserError(f"there is no file {file}: an export is a .safetensors file next to its {CONFIG}")
    try:
        facts = json.loads(config.read_text())
        weights = load_file(path)
    except (ValueError, OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read with its {CONFIG} ({first_line(error)}): use another copy") from error
    if not isinstance(facts, dict) or facts.get("library") != "dcgan":
        raise UserError(f"{config} does not belong to an export of dcgan: use another copy")
    check_format(config, facts)
    check_types(config, facts, REQUIRED)
    return weights, facts
