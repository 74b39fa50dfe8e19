"""Evaluation targets: the generator of a checkpoint, or the images of a file."""

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

from dcgan.checkpoints.io import read_checkpoint
from dcgan.checkpoints.safe_instantiate import safe_instantiate, use_local_data_keys
from dcgan.common.errors import UserError, first_line
from dcgan.data.datamodule import BaseDataModule
from dcgan.evaluation.probes import Probe
from dcgan.metrics.compute import require_judge_data
from dcgan.metrics.real_images import RealStatistics
from dcgan.runs.run_dir import run_dir_of
from dcgan.sampling.trained_generator import generator_of_checkpoint


@dataclass(frozen=True)
class EvaluationTarget:
    """A checkpoint's generator or user-supplied images.

    Args:
        kind, facts: A key of the evaluation file, "checkpoint" or "samples", and its value.
        data, data_choice: The real images to compare with, and their option of the config group `data`.
        generate: Yields n images in batches.
        labels: Returns the labels that n images were generated for; None if unknown.
        available: Number of images; None: unlimited.
        run_dir, step: The folder of TensorBoard's event file, and the step of its events.
        output_dir, prefix: The folder of the output files, and what their names begin with.
        check_probe: Raises UserError if the probe cannot be applied; None if there is no checkpoint.
        run_probe: Returns the probe's values and their baseline; None if there is no checkpoint.
    """

    kind: str
    facts: dict[str, Any]
    data: BaseDataModule
    data_choice: str
    generate: Callable[[int], Iterable[UInt8[Tensor, "b c h w"]]]
    labels: Callable[[int], Int64[Tensor, " n"] | None]
    available: int | None
    run_dir: Path
    step: int
    output_dir: Path
    prefix: str
    check_probe: Callable[[Probe], None] | None = None
    run_probe: Callable[[Probe, RealStatistics], tuple[dict[str, float], dict[str, float]]] | None = None

    def output_path(self, name: str) -> Path:
        return self.output_dir / f"{self.prefix}{name}"


def read_samples(path: Path, channels: int, size: int) -> UInt8[Tensor, "n c h w"]:
    """Read the images of an .npy file.

    They are uint8, or floats in [0, 1]. Their shape is N x channels x size x size, or N x size x size if channels is 1,
    or N x size x size x channels, as `python -m dcgan.sample` writes color images.

    Raises:
        UserError: The file holds anything else.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}: samples= takes an .npy file of images")
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path} cannot be read as an .npy file ({first_line(error)})") from error
    if not isinstance(array, np.ndarray):
        raise UserError(f"{path} holds several arrays: save only the images, with numpy.save")
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


def checkpoint_target(cfg: DictConfig, overrides: list[str]) -> EvaluationTarget:
    path = Path(cfg.checkpoint)
    checkpoint = read_checkpoint(path)
    generator = generator_of_checkpoint(checkpoint, cfg.device)
    return EvaluationTarget(
        kind="checkpoint",
        facts={"file": path.name} | {name: generator.facts[name] for name in ("step", "weights", "seed", "choices")},
        data=load_datamodule(path, checkpoint, cfg, overrides),
        data_choice=checkpoint["choices"]["data"],
        generate=lambda n: generator.generate(generator.z(n, cfg.seed), generator.labels(n, cfg.seed), cfg.batch_size),
        labels=lambda n: generator.labels(n, cfg.seed),
        available=None,
        run_dir=run_dir_of(path) or path.parent,
        step=checkpoint["step"],
        output_dir=path.parent,
        prefix=f"{path.stem}.",
        check_probe=lambda probe: probe.check(checkpoint),
        run_probe=lambda probe, real: probe(checkpoint, generator, real, cfg.seed),
    )


def samples_target(cfg: DictConfig, run_dir: Path, data_choice: str) -> EvaluationTarget:
    path = Path(cfg.samples)
    data = require_judge_data(instantiate(cfg.data))
    images = read_samples(path, data.channels, data.image_size)
    return EvaluationTarget(
        kind="samples",
        facts={"file": path.name, "images": len(images)},
        data=data,
        data_choice=data_choice,
        generate=lambda n: images[:n].split(cfg.batch_size),
        labels=lambda n: None,
        available=len(images),
        run_dir=run_dir,
        step=0,
        output_dir=run_dir,
        prefix="",
    )


def load_datamodule(path: Path, checkpoint: dict[str, Any], cfg: DictConfig, overrides: list[str]) -> BaseDataModule:
    """Return the data module that a checkpoint was trained with; only the location of its data comes from `cfg`.

    Raises:
        UserError: An override names other data.
    """
    choice, config = checkpoint["choices"]["data"], checkpoint["config"]
    for override in overrides:
        key, _, value = override.partition("=")
        if key == "data" and value != choice:
            raise UserError(f"{path} was trained on data={choice}, not on {value}: omit data=")
        if key.startswith("data.") and key != "data.root":
            raise UserError(f"{key} is set by the checkpoint: omit it")
    return safe_instantiate({"data": use_local_data_keys(config["data"], cfg)}, "data")
