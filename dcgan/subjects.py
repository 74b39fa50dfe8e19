"""What can be evaluated: a checkpoint's generator, or anybody's images in a file."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from jaxtyping import Int64, UInt8
from omegaconf import DictConfig
from torch import Tensor

from dcgan.checks import UserError, first_line
from dcgan.data import ImageData, data_of
from dcgan.measuring import judged
from dcgan.metrics.probe import Probe
from dcgan.metrics.reference import Reference
from dcgan.run_folder import folder_of
from dcgan.trained import load_generator, read_checkpoint


@dataclass(frozen=True)
class Subject:
    """What is evaluated: a checkpoint's generator or somebody's images.

    kind, facts: "checkpoint" or "samples", and what the evaluation file says of it.
    data, choice: the real images it is compared with, and what the data group calls them.
    draw: n images, batch by batch; labels: of n images, what they should show, None: not known.
    available: how many there are, None: as many as one asks for.
    run_dir: where TensorBoard looks; step: its place on TensorBoard's axis; folder, prefix: where the
    files that are written go, and what their names begin with.
    check_probe: raises UserError where the checkpoint cannot be asked; probe: fits a classifier on what it has learned:
    its figures and their floor. None: no checkpoint.
    """

    kind: str
    facts: dict[str, Any]
    data: ImageData
    choice: str
    draw: Callable[[int], Iterable[UInt8[Tensor, "b c h w"]]]
    labels: Callable[[int], Int64[Tensor, " n"] | None]
    available: int | None
    run_dir: Path
    step: int
    folder: Path
    prefix: str
    check_probe: Callable[[Probe], None] | None = None
    probe: Callable[[Probe, Reference], tuple[dict[str, float], dict[str, float]]] | None = None

    def output(self, name: str) -> Path:
        return self.folder / f"{self.prefix}{name}"


def read_samples(path: Path, channels: int, size: int) -> UInt8[Tensor, "n c h w"]:
    """The images of an .npy file: uint8, or floats in [0, 1]; N x channels x size x size, grey ones without channels
    too, colours with the channels last, too, as `python -m dcgan.sample` writes them.

    UserError that says what is wrong with any other.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}: samples= takes an .npy file of images")
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path} cannot be read as an .npy file ({first_line(error)})") from error
    if not isinstance(array, np.ndarray):
        raise UserError(f"{path} holds several arrays: save the images alone, with numpy.save")
    if array.ndim == 3:
        array = array[:, None]
    elif channels > 1 and array.shape[1:] == (size, size, channels):
        array = np.moveaxis(array, 3, 1)
    if array.ndim != 4 or array.shape[1:] != (channels, size, size):
        other = f"N x {size} x {size}" if channels == 1 else f"N x {size} x {size} x {channels}"
        raise UserError(
            f"the images in {path} must be {other} or N x {channels} x {size} x {size}, got "
            f"{' x '.join(map(str, array.shape))}: give data.image_size=, or data= for another data set"
        )
    if len(array) == 0:
        raise UserError(f"there is no image in {path}: the array is empty")
    if np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all():
            raise UserError(f"there are NaN or infinite pixels in {path}")
        if array.min() < 0 or array.max() > 1:
            raise UserError(
                f"floats in {path} must be in [0, 1], got [{array.min():g}, {array.max():g}]: save them as uint8"
            )
        array = np.rint(array * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise UserError(f"the images in {path} must be uint8 or floats in [0, 1], got {array.dtype}")
    return torch.from_numpy(np.ascontiguousarray(array))


def of_checkpoint(cfg: DictConfig, overrides: list[str]) -> Subject:
    path = Path(cfg.checkpoint)
    checkpoint = read_checkpoint(path)
    generator = load_generator(path, cfg.device)

    return Subject(
        kind="checkpoint",
        facts={"file": path.name} | {name: generator.facts[name] for name in ("step", "weights", "seed", "choices")},
        data=data_of(path, checkpoint, cfg, overrides),
        choice=checkpoint["choices"]["data"],
        draw=lambda n: generator.draw(generator.z(n, cfg.seed), generator.labels(n, cfg.seed), cfg.batch_size),
        labels=lambda n: generator.labels(n, cfg.seed),
        available=None,
        run_dir=folder_of(path) or path.parent,
        step=checkpoint["step"],
        folder=path.parent,
        prefix=f"{path.stem}.",
        check_probe=lambda probe: probe.check(checkpoint),
        probe=lambda probe, real: probe(checkpoint, generator, real, cfg.seed),
    )


def of_samples(cfg: DictConfig, run_dir: Path, choice: str) -> Subject:
    path = Path(cfg.samples)
    data = judged(instantiate(cfg.data))
    images = read_samples(path, data.channels, data.image_size)
    return Subject(
        kind="samples",
        facts={"file": path.name, "images": len(images)},
        data=data,
        choice=choice,
        draw=lambda n: images[:n].split(cfg.batch_size),
        labels=lambda n: None,
        available=len(images),
        run_dir=run_dir,
        step=0,
        folder=run_dir,
        prefix="",
    )
