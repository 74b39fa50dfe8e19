"""A trained generator, loaded from a checkpoint or an export without the training code."""

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

from dcgan.checkpoints.io import GENERATOR, check_content, name_file, read_checkpoint
from dcgan.checkpoints.networks import load_network, strip_prefix
from dcgan.checkpoints.safe_instantiate import safe_instantiate
from dcgan.common.arg_checks import check_int, check_number
from dcgan.common.device import resolve_device
from dcgan.common.errors import UserError, first_line
from dcgan.common.schema import read_json
from dcgan.common.seeding import Stream, derive_generator
from dcgan.data.pixel_range import PixelRange
from dcgan.models.generator import BaseGenerator
from dcgan.sampling.locate import CONFIG, locate_generator

LATENT_BLOCK = 64
MAX_RESAMPLINGS = 2000  # enough for a threshold of 0.01 and a normal prior
BATCH_SIZE = 200  # larger batches are not faster: experiments/sampling
OF_EXPORTS = ("dtype", "license")  # facts that an export can have
BATCH_MULTIPLE = 32  # batches are padded to a multiple of it, so that all batch sizes use the same arithmetic


def sample_blocks(n: int, seed: int, stream: Stream, sample: Callable[[int, torch.Generator], Tensor]) -> Tensor:
    """Return n random values on the CPU, sampled in blocks: value i depends only on (seed, i)."""
    cpu = torch.device("cpu")
    blocks = range(math.ceil(n / LATENT_BLOCK))
    return torch.cat([sample(LATENT_BLOCK, derive_generator(cpu, seed, stream, block)) for block in blocks])[:n]


def sample_latents(
    model: BaseGenerator, n: int, seed: int, truncation: float | None = None
) -> Float[Tensor, "n latent_dim"]:
    """Return n latent vectors on the CPU; vector i depends only on (seed, i), and on `truncation`.

    Args:
        model: Its prior is sampled.
        n: Vectors, >= 1.
        seed: >= 0.
        truncation: Threshold > 0. Components above it in magnitude are sampled again (Brock et al. 2019, section 3.1).
            None: no truncation.

    Raises:
        ValueError: A number is out of range.
        UserError: Almost all values of the prior are above the threshold.
    """
    if truncation is not None:
        check_number("truncation", truncation, 0, math.inf, brackets="()")

    def sample(block: int, rng: torch.Generator) -> Tensor:
        z = model.sample_z(block, rng.device, rng)
        if truncation is None:
            return z
        for _ in range(MAX_RESAMPLINGS):
            is_above = z.abs() > truncation
            if not is_above.any():
                return z
            z = torch.where(is_above, model.sample_z(block, rng.device, rng), z)
        raise UserError(f"truncation={truncation:g} is below almost all values of the prior: raise it")

    return sample_blocks(n, seed, Stream.SAMPLES, sample)


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
            "weights" ("ema" or "generator"), "seed" and "choices" (the chosen option of each config group). May be
            None: "judge" (whose classes the images have), "images" (the number of training images), "dtype" (that the
            weights were rounded to) and "license".
    """

    network: BaseGenerator
    pixels: PixelRange
    device: torch.device
    facts: dict[str, Any]

    @property
    def classes(self) -> int:
        return self.network.classes

    def z(self, n: int, seed: int, truncation: float | None = None) -> Float[Tensor, "n latent_dim"]:
        """Return n latent vectors on the CPU; see `sample_latents`."""
        return sample_latents(self.network, n, seed, truncation)

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
        self,
        n: int,
        seed: int = 0,
        label: int | None = None,
        batch_size: int = BATCH_SIZE,
        truncation: float | None = None,
    ) -> UInt8[Tensor, "n c h w"]:
        """Generate n images on the CPU; the latent vector of image i depends only on (seed, i).

        Args:
            n: Images, >= 1.
            seed: Seed of the latent vectors and labels, >= 0.
            label: Class of all images; None: classes of a conditional model are sampled as in training.
            batch_size: Images per batch, >= 1.
            truncation: Components of z above this threshold are sampled again: a lower one gives more typical and less
                diverse images; None: no truncation.

        Raises:
            ValueError: A number is out of range.
            UserError: The model does not have the label.
        """
        check_int("n", n, 1)
        check_int("seed", seed, 0)
        return torch.cat(list(self.generate(self.z(n, seed, truncation), self.labels(n, seed, label), batch_size)))


def load_generator(path: str | Path, device: str = "auto") -> TrainedGenerator:
    """Load the generator of a checkpoint or an export. Nothing in the file can run code.

    Args:
        path: A checkpoint (with EMA weights, these are used); a .safetensors file next to its config.json, or a folder
            with both; the name of a pretrained model, such as "mnist"; or "hub:USER/NAME" or "hub:USER/NAME@REVISION".
        device: "cpu", "cuda", or "auto" for a GPU if there is one.

    Raises:
        UserError: The file is missing, damaged, or not a file of this project; or the hub cannot be reached.
    """
    path = locate_generator(path)
    if path.suffix == ".safetensors":
        weights, facts = read_export(path)
        with name_file(path):
            return assemble_generator(weights, facts, device)
    checkpoint = read_checkpoint(path)
    with name_file(path):
        return generator_of_checkpoint(checkpoint, device)


def generator_of_checkpoint(checkpoint: dict[str, Any], device: str) -> TrainedGenerator:
    """Return the generator of a checkpoint that was already read; see `load_generator`."""
    config, weights = checkpoint["config"], checkpoint["state_dict"]
    ema = any(name.startswith("ema.") for name in weights)
    facts = {
        "dataset": checkpoint["dataset"],
        "judge": checkpoint.get("judge"),
        "images": checkpoint["images"],
        "step": checkpoint["step"],
        "weights": "ema" if ema else "generator",
        **dict.fromkeys(OF_EXPORTS),
        "seed": config["seed"],
        "choices": checkpoint["choices"],
        "config": {"model": config["model"], "output": config["output"]},
    }
    return assemble_generator(strip_prefix(weights, "ema.network." if ema else "generator."), facts, device)


def assemble_generator(weights: dict[str, Tensor], facts: dict[str, Any], device: str) -> TrainedGenerator:
    network = build_generator(weights, facts)
    pixels = safe_instantiate(facts["config"], "output.pixels", PixelRange)
    resolved = resolve_device(device)
    return TrainedGenerator(network.to(resolved), pixels, resolved, facts)


def build_generator(weights: dict[str, Tensor], facts: dict[str, Any]) -> BaseGenerator:
    """Return the generator's network with these weights. UserError if they do not fit the config in `facts`."""

    def generate(network: BaseGenerator) -> None:
        label = torch.zeros(2, dtype=torch.int64) if network.classes else None
        images = network(network.sample_z(2, torch.device("meta")), label)
        if images.dim() != 4 or len(images) != 2 or images.shape[1] not in (1, 3):
            raise ValueError(f"it generates images of the shape {tuple(images.shape)}")

    return load_network(facts, "model", BaseGenerator, weights, generate)


def read_export(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read weights and facts of a .safetensors export. UserError if it is missing, damaged or not an export."""
    config = path.with_name(CONFIG)
    for file in (path, config):
        if not file.is_file():
            raise UserError(f"there is no file {file}: an export is a .safetensors file next to its {CONFIG}")
    optional = dict.fromkeys(("judge", "images", *OF_EXPORTS))  # files of earlier versions do not have them
    facts = optional | read_json(config, {"library": str})
    if facts["library"] != "dcgan":
        raise UserError(f"{config} does not belong to an export of dcgan: use another copy")
    check_content(config, facts, GENERATOR)
    try:
        return load_file(path), facts
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read ({first_line(error)}): use another copy") from error
