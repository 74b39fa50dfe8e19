"""The images of one run's fixed noise over its steps."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dcgan.checkpoints.io import name_file, read_checkpoint
from dcgan.common.arg_checks import check_ints
from dcgan.common.errors import UserError, first_line
from dcgan.common.image_grid import enlarge, image_grid
from dcgan.runs.run_dir import run_dir_of
from dcgan.sampling.base import Animation, ImageSheet, Picture, SampleSource, SamplingMode, choose
from dcgan.sampling.trained_generator import generator_of_checkpoint


@dataclass(kw_only=True)
class Progression(SamplingMode):
    """The images of a run's fixed noise, as one grid per step with the step as its caption.

    Args:
        n: Number of grids, evenly spaced; None: all.
        seed: Not used.
        steps: Steps to show in a sheet, >= 0. Those without a grid are left out; if none has one, all grids are shown.
            An animation always shows all grids.
        grids: "samples" reads the run's samples/step_*.png. "checkpoints" generates the grids with all checkpoints in
            the folder of the given one.
    """

    steps: list[int]
    grids: str

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ints("steps", self.steps, 0)
        choose("grids", GRIDS, self.grids)

    def image_sheet(self, source: SampleSource) -> ImageSheet:
        grids = GRIDS[self.grids](source)
        pictures, captions = self.select({step: grids[step] for step in self.steps if step in grids} or grids)
        return ImageSheet(torch.stack(pictures), len(pictures), captions)

    def animation(self, source: SampleSource) -> Animation:
        return Animation(*self.select(GRIDS[self.grids](source)))

    def select(self, grids: dict[int, Picture]) -> tuple[list[Picture], list[str]]:
        """Return n evenly spaced grids, by increasing step, and their captions."""
        steps = sorted(grids)
        n = min(self.n or len(steps), len(steps))
        steps = [steps[round(i * (len(steps) - 1) / max(1, n - 1))] for i in range(n)]
        return [grids[step] for step in steps], [f"step {step:,}" for step in steps]


def read_sample_grids(source: SampleSource) -> dict[int, Picture]:
    """Return the grids that training has saved, by step, reduced to their original size."""
    run_dir = source.path if source.path.is_dir() else run_dir_of(source.path) or source.path.parent
    matches = ((path, re.fullmatch(r"step_(\d+)\.png", path.name)) for path in run_dir.glob("samples/step_*.png"))
    grids = {int(match[1]): read_png(path) for path, match in matches if match is not None}
    if not grids:
        raise UserError(f"{run_dir} has no samples/step_*.png: give a checkpoint in its run folder")
    if len({grid.shape for grid in grids.values()}) > 1:
        raise UserError(f"the pictures in {run_dir / 'samples'} differ in size: remove those of another run")
    factor = min(enlargement_factor(grid) for grid in grids.values())
    return {step: grid[:, ::factor, ::factor] for step, grid in grids.items()}


def generate_checkpoint_grids(source: SampleSource) -> dict[int, Picture]:
    """Generate a grid of the fixed noise with each checkpoint in the folder of the given one. Return them by step."""
    folder = source.path if source.path.is_dir() else source.path.parent
    grids = {}
    for path in sorted(folder.glob("*.ckpt")) if source.path.exists() else []:
        checkpoint = read_checkpoint(path)
        with name_file(path):
            generator = generator_of_checkpoint(checkpoint, source.device)
        z, label = checkpoint["state_dict"]["fixed_z"], checkpoint["state_dict"].get("fixed_label")
        images = torch.cat(list(generator.generate(z, label, source.batch_size)))
        grids[checkpoint["step"]] = image_grid(images, generator.classes or None)
    if not grids:
        raise UserError(f"no checkpoint found at {source.path}: give one in its run folder")
    return grids


GRIDS = {"samples": read_sample_grids, "checkpoints": generate_checkpoint_grids}


def read_png(path: Path) -> Picture:
    """Read a PNG file. UserError if it is damaged."""
    try:
        with Image.open(path, formats=("PNG",)) as file:
            return torch.from_numpy(np.array(file.convert("RGB"))).permute(2, 0, 1)
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({first_line(error)}): remove it") from error


def enlargement_factor(picture: Picture) -> int:
    """Return the largest integer by which `enlarge` can have enlarged the picture."""
    _, height, width = picture.shape
    factors = (factor for factor in range(min(height, width), 0, -1) if height % factor == width % factor == 0)
    return next(f for f in factors if torch.equal(enlarge(picture[:, ::f, ::f], f), picture))
