"""Evaluation targets: the generator of a checkpoint, or the images of a file."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from omegaconf import DictConfig
from torch import Tensor

from dcgan.checkpoints.io import name_file, read_checkpoint
from dcgan.checkpoints.safe_instantiate import reject_saved_keys, safe_instantiate, use_local_data_keys
from dcgan.common.errors import UserError
from dcgan.common.instantiate import build
from dcgan.common.npy_files import read_npy
from dcgan.data.datamodule import BaseDataModule
from dcgan.metrics.real_images import random_indices
from dcgan.runs.run_dir import run_dir_of
from dcgan.sampling.locate import locate_checkpoint
from dcgan.sampling.trained_generator import TrainedGenerator, generator_of_checkpoint


@dataclass(frozen=True)
class EvaluationTarget:
    """Images to evaluate: those of a checkpoint's generator, or those of a file.

    Args:
        facts: The keys "checkpoint" and "samples" of the evaluation file, one of them None.
        data, data_choice: The real images to compare with, and their option of the config group `data`.
        labels: Returns the labels of the first n images; None if unknown.
        generate: Yields the first n images in batches.
        run_dir, step: The folder of TensorBoard's event file, and the step of its events.
        output_prefix: The path of each output file begins with it.
        available: Number of images; None: unlimited.
        networks: The checkpoint and its generator, for a probe; None for a file.
    """

    facts: dict[str, Any]
    data: BaseDataModule
    data_choice: str
    labels: Callable[[int], Int64[Tensor, " n"] | None]
    generate: Callable[[int], Iterable[UInt8[Tensor, "b c h w"]]]
    run_dir: Path
    step: int
    output_prefix: str
    available: int | None = None
    networks: tuple[dict[str, Any], TrainedGenerator] | None = None

    def output_path(self, name: str) -> Path:
        return Path(self.output_prefix + name)


def checkpoint_target(cfg: DictConfig, overrides: list[str]) -> EvaluationTarget:
    path = locate_checkpoint(
        cfg.checkpoint,
        f"write samples with python -m dcgan.sample checkpoint={cfg.checkpoint} n=10000 out=samples.npy, then give "
        "samples=samples.npy",
    )
    reject_saved_keys(overrides)
    checkpoint = read_checkpoint(path)
    with name_file(path):
        generator = generator_of_checkpoint(checkpoint, cfg.device)
    data = load_datamodule(path, checkpoint, cfg, overrides)
    facts = {"file": path.name} | {name: generator.facts[name] for name in ("step", "weights", "seed", "choices")}
    return EvaluationTarget(
        facts={"checkpoint": facts, "samples": None},
        data=data,
        data_choice=checkpoint["choices"]["data"],
        labels=lambda n: generator.labels(n, cfg.seed),
        generate=lambda n: generator.generate(generator.z(n, cfg.seed), generator.labels(n, cfg.seed), cfg.batch_size),
        run_dir=run_dir_of(path) or path.parent,
        step=checkpoint["step"],
        output_prefix=f"{path.with_suffix('')}.",
        networks=(checkpoint, generator),
    )


def samples_target(cfg: DictConfig, run_dir: Path, data_choice: str) -> EvaluationTarget:
    path = Path(cfg.samples)
    data = build(cfg, "data", BaseDataModule)
    images = read_samples(path, data.channels, data.image_size)
    return EvaluationTarget(
        facts={"checkpoint": None, "samples": {"file": path.name, "images": len(images)}},
        data=data,
        data_choice=data_choice,
        labels=lambda n: None,
        generate=lambda n: images[random_indices(len(images), n)].split(cfg.batch_size),  # they may be sorted by class
        run_dir=run_dir,
        step=0,
        output_prefix=f"{run_dir}/",
        available=len(images),
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
    with name_file(path):
        return safe_instantiate({"data": use_local_data_keys(config["data"], cfg)}, "data", BaseDataModule)


def read_samples(path: Path, channels: int, size: int) -> UInt8[Tensor, "n c h w"]:
    """Read the images of an .npy file: uint8, or floats in [0, 1].

    The shape is N x channels x size x size, or N x size x size for one channel, or N x size x size x channels, as
    `python -m dcgan.sample` writes color images.

    Raises:
        UserError: The file holds anything else.
    """
    array = read_npy(path)
    if array.ndim == 3:
        array = array[:, None]
    elif channels > 1 and array.shape[1:] == (size, size, channels):
        array = np.moveaxis(array, 3, 1)
    if array.shape[1:] != (channels, size, size):
        other = f"N x {size} x {size}" if channels == 1 else f"N x {size} x {size} x {channels}"
        is_oblong = array.ndim == 4 and len(set(array.shape[1:])) == 3
        advice = (
            "crop or resize them to squares" if is_oblong else "give data.image_size=, or data= for another data set"
        )
        raise UserError(
            f"the images in {path} must be {other} or N x {channels} x {size} x {size}, got "
            f"{' x '.join(map(str, array.shape))}: {advice}"
        )
    if len(array) == 0:
        raise UserError(f"there is no image in {path}: the array is empty")
    if np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all():
            raise UserError(f"there are NaN or infinite pixels in {path}")
        low, high = array.min(), array.max()
        if low < 0 or high > 1:
            raise UserError(f"floats in {path} must be in [0, 1], got [{low:g}, {high:g}]: save them as uint8")
        array = np.rint(array * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise UserError(f"the images in {path} must be uint8 or floats in [0, 1], got {array.dtype}")
    return torch.from_numpy(np.ascontiguousarray(array))
