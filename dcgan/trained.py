"""A trained generator read back from a checkpoint or an export, ready to draw. No training code is needed for that."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from dcgan import cli
from dcgan.checks import UserError, check_int, first_line
from dcgan.networks import LatentModel
from dcgan.pixels import PixelRange
from dcgan.prior import Prior
from dcgan.seal import check_seal
from dcgan.seeding import Stream, derive_generator
from dcgan.trusted import rebuild, refuse_unplain

FORMAT = 5  # 4 had no fingerprint of the data
LATENT_BLOCK = 64
BATCH = 200  # larger ones draw no faster (experiments/sampling)
WHOLE = 32  # batches of a multiple of it draw an image with the same arithmetic; a single image has another one
# of an export: beside a .safetensors file, or in a folder for a model hub
CONFIG = "config.json"
HUB_WEIGHTS = "model.safetensors"
FACTS = {"config": dict, "choices": dict, "dataset": str, "step": int}  # that checkpoints and exports must have


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The checkpoint's dict; its tensors stay on disk until they are used. Nothing in the file can run code.

    UserError where the file is missing, damaged, or no checkpoint of a format that this version knows.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}: give the path of a run's checkpoints/last.ckpt")
    check_seal(path)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises a dozen kinds for a malicious file
        raise UserError(f"{path} cannot be read as a checkpoint ({type(error).__name__}): use another copy") from error
    if not isinstance(checkpoint, dict):
        raise UserError(f"{path} is no checkpoint of dcgan (it holds a {type(checkpoint).__name__})")
    check_format(path, checkpoint)
    require(checkpoint, path, {**FACTS, "state_dict": dict})
    if not all(isinstance(name, str) and isinstance(x, Tensor) for name, x in checkpoint["state_dict"].items()):
        raise UserError(f"{path} is damaged (its state_dict holds more than tensors): use another copy")
    if checkpoint["step"] < 0 or not all(isinstance(group, str) for group in checkpoint["choices"]):
        raise UserError(f"{path} is damaged (its step or its choices are none): use another copy")
    for name in ("config", "choices"):
        try:
            refuse_unplain(checkpoint[name])
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
    return checkpoint


def check_format(path: Path, content: dict[str, Any]) -> None:
    """Raise UserError unless the content of the file says that it is of a format that this version draws from."""
    number = content.get("format")
    if not isinstance(number, int):
        raise UserError(f"{path} is not of dcgan (it names no format): use a file that dcgan has written")
    if number > FORMAT:
        raise UserError(f"{path} is of a newer version of dcgan (format {number}, this one knows {FORMAT}): update it")
    if number < FORMAT:
        raise UserError(
            f"{path} is of an older version of dcgan (format {number}, this one knows {FORMAT}): "
            "train anew, or use the version that wrote it"
        )


def build(checkpoint: dict[str, Any], key: str) -> nn.Module:
    """The untrained network of the config's `key`; its weights come from torch's global generator."""
    built: nn.Module = rebuild(checkpoint["config"], key)
    return built.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def load_weights(network: nn.Module, weights: dict[str, Tensor], what: str) -> None:
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"the checkpoint's {what} has other weights than its config says: use another copy") from error


def trained(checkpoint: dict[str, Any], key: str, prefix: str) -> nn.Module:
    """The network of the config's `key` with the weights that the checkpoint has below `prefix`, in eval mode."""
    built = build(checkpoint, key)
    load_weights(built, below(checkpoint["state_dict"], prefix), key)
    return built


def below(state_dict: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state_dict.items() if name.startswith(prefix)}


def in_blocks(n: int, seed: int, stream: Stream, draw: Callable[[int, torch.Generator], Tensor]) -> Tensor:
    """What `draw` gives for n images, on the CPU and in blocks: what image i gets depends on (seed, i) alone."""
    cpu = torch.device("cpu")
    blocks = range(math.ceil(n / LATENT_BLOCK))
    return torch.cat([draw(LATENT_BLOCK, derive_generator(cpu, seed, stream, block)) for block in blocks])[:n]


def latents(model: LatentModel, n: int, seed: int) -> Float[Tensor, "n latent_dim"]:
    """n latent vectors on the CPU; that of image i depends on (seed, i) alone."""
    return in_blocks(n, seed, Stream.SAMPLES, lambda block, rng: model.draw_z(block, rng.device, rng))


def labels(model: LatentModel, n: int, seed: int) -> Int64[Tensor, " n"] | None:
    """n labels on the CPU, as frequent as among the training images; that of image i depends on (seed, i) alone.
    None for an unconditional model."""
    if not model.classes:
        return None
    prior = model.label_prior.cpu()
    return in_blocks(n, seed, Stream.LABELS, lambda block, rng: prior.multinomial(block, True, generator=rng))


def in_batches(
    z: Float[Tensor, "n latent_dim"], label: Int64[Tensor, " n"] | None, size: int
) -> Iterator[tuple[Float[Tensor, "b latent_dim"], Int64[Tensor, " b"] | None]]:
    for first in range(0, len(z), size):
        part = slice(first, first + size)
        yield z[part], None if label is None else label[part]


@dataclass(frozen=True, eq=False)
class TrainedGenerator:
    """A generator in eval mode, so that no image depends on the others of its batch.

    pixels: the map of its range to pixels. facts: what an export says of it: "config" (its parts "model" and
    "output"), "dataset" (its name, by which the judge is known), "step", "weights" ("ema" or "generator"), "seed" and
    "choices" (the chosen option of each config group).
    """

    network: LatentModel
    pixels: PixelRange
    device: torch.device
    facts: dict[str, Any]

    @property
    def classes(self) -> int:
        return self.network.classes

    def z(self, n: int, seed: int) -> Float[Tensor, "n latent_dim"]:
        return latents(self.network, n, seed)

    def labels(self, n: int, seed: int, label: int | None = None) -> Int64[Tensor, " n"] | None:
        """`label` n times, or labels as frequent as in training; None for an unconditional model.

        UserError for a label that the model does not have.
        """
        if label is None:
            return labels(self.network, n, seed)
        if not self.classes:
            raise UserError(f"label={label}, but this model knows no labels: train one with conditional=concat")
        if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < self.classes:
            raise UserError(f"label must be one of 0 to {self.classes - 1}, got {label!r}")
        return torch.full((n,), label)

    def draw(
        self, z: Float[Tensor, "n latent_dim"], label: Int64[Tensor, " n"] | None = None, batch_size: int = BATCH
    ) -> Iterator[UInt8[Tensor, "b c h w"]]:
        """The images of z on the CPU, batch by batch."""
        check_int("batch_size", batch_size, 1)
        for part, told in in_batches(z, label, batch_size):
            fill = (0, -len(part) % WHOLE)
            whole = nn.functional.pad(part, (0, 0, *fill)).to(self.device)
            told = None if told is None else nn.functional.pad(told, fill).to(self.device)
            with torch.no_grad():
                yield self.pixels.decode(self.network(whole, told))[: len(part)].cpu()

    def sample(
        self, n: int, seed: int = 0, label: int | None = None, batch_size: int = BATCH
    ) -> UInt8[Tensor, "n c h w"]:
        """n images; the latent vector of image i depends on (seed, i) alone.

        label: for all of them; None: as frequent as in training, where the model is conditional.
        ValueError for counts below 1 and a negative seed; UserError for a label that the model does not have.
        """
        check_int("n", n, 1)
        check_int("seed", seed, 0)
        return torch.cat(list(self.draw(self.z(n, seed), self.labels(n, seed, label), batch_size)))


def load_generator(path: str | Path, device: str = "auto") -> TrainedGenerator:
    """The generator of a checkpoint (the average of the weights where the run had one) or of an export: a
    .safetensors file with its config.json, or the folder of both.

    device: "cpu", "cuda", or "auto" for a GPU where there is one; images come back on the CPU.
    UserError where the file is missing, damaged, or not one of this project's; nothing in it can run code.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / HUB_WEIGHTS).is_file():
            raise UserError(f"there is no {HUB_WEIGHTS} in {path}: give a run's checkpoints/last.ckpt, or an export")
        path /= HUB_WEIGHTS
    if path.suffix == ".safetensors":
        weights, facts = read_export(path)
    else:
        weights, facts = generator_of(read_checkpoint(path))
    network, pixels = network_of(weights, facts), rebuild(facts["config"], "output.pixels")
    place = cli.device(device)
    return TrainedGenerator(network.to(place), pixels, place, facts)


def network_of(weights: dict[str, Tensor], facts: dict[str, Any]) -> LatentModel:
    """The generator's network with these weights. UserError where the facts' config describes another one."""
    network = build(facts, "model")
    if not isinstance(network, LatentModel) or not isinstance(network.prior, Prior):
        raise UserError("the checkpoint's config describes no generator: use another copy")
    load_weights(network, weights, "model")
    return network


def require(content: dict[str, Any], path: Path, kinds: dict[str, type]) -> None:
    """Raise UserError unless the content of the file has these keys, of these types."""
    for name, kind in kinds.items():
        if not isinstance(content.get(name), kind):
            raise UserError(f"{path} is damaged (it has no {name}): use another copy")


def generator_of(checkpoint: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights that draw, and the facts of a `TrainedGenerator`: nothing of the machine it was trained on."""
    config, ema = checkpoint["config"], any(name.startswith("ema.") for name in checkpoint["state_dict"])
    facts = {
        "dataset": checkpoint["dataset"],
        "step": checkpoint["step"],
        "weights": "ema" if ema else "generator",
        "seed": config["seed"],
        "choices": checkpoint["choices"],
        "config": {"model": config["model"], "output": config["output"]},
    }
    return below(checkpoint["state_dict"], "ema.network." if ema else "generator."), facts


def read_export(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and facts of what `python -m dcgan.export out=*.safetensors` wrote. UserError where it is not that."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config = path.with_name(CONFIG)
    for file in (path, config):
        if not file.is_file():
            raise UserError(f"there is no file {file}: an export is a .safetensors file with its {CONFIG} beside it")
    try:
        facts = json.loads(config.read_text())
        weights = load_file(path)
    except (ValueError, OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read with its {CONFIG} ({first_line(error)}): use another copy") from error
    if not isinstance(facts, dict) or facts.get("library") != "dcgan":
        raise UserError(f"{config} is not that of an export of dcgan: use another copy")
    check_format(config, facts)
    require(facts, config, FACTS)
    return weights, facts
