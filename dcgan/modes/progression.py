"""How digits emerge: the pictures of one run's fixed noise, over its steps."""

import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dcgan.checks import UserError, check_ints, first_line
from dcgan.grids import image_grid
from dcgan.modes.mode import Film, Mode, Picture, Source, Still
from dcgan.trained import load_generator, read_checkpoint


class Progression(Mode):
    """The grids that a run's fixed noise drew, under the step they were drawn at: a strip, or a film.

    steps: of the strip, as far as the run has them; where it has none of these, and in a film, all that there are.
    grids: "samples", the run's samples/step_*.png, or "checkpoints", drawn anew from every checkpoint beside the given
    one. n: so many of them, evenly spread; None: all.
    """

    def __init__(self, n: int | None, seed: int, steps: list[int], grids: str) -> None:
        super().__init__(n, seed)
        check_ints("steps", steps, 0)
        if grids not in GRIDS:
            raise ValueError(f"grids must be one of {', '.join(GRIDS)}, got {grids!r}")
        self.steps, self.grids = steps, GRIDS[grids]

    def still(self, source: Source) -> Still:
        found = self.grids(source)
        found = {step: picture for step, picture in found.items() if step in self.steps} or found
        chosen = self.spread(found)
        return Still(torch.stack(list(chosen.values())), len(chosen), [f"step {step:,}" for step in chosen])

    def film(self, source: Source) -> Film:
        chosen = self.spread(self.grids(source))
        return Film(list(chosen.values()), [f"step {step:,}" for step in chosen])

    def spread(self, found: dict[int, Picture]) -> dict[int, Picture]:
        steps = sorted(found)
        n = min(self.n or len(steps), len(steps))
        kept = [steps[round(i * (len(steps) - 1) / max(1, n - 1))] for i in range(n)]
        return {step: found[step] for step in kept}


def from_samples(source: Source) -> dict[int, Picture]:
    """The pictures that the run has written, as small as they can be without loss."""
    folder = source.run_dir / "samples"
    found = {}
    for path in folder.glob("step_*.png"):
        if (match := re.fullmatch(r"step_(\d+)\.png", path.name)) is not None:
            found[int(match[1])] = read_picture(path)
    if not found:
        raise UserError(f"there are no samples/step_*.png in {source.run_dir}: give the checkpoint in its run's folder")
    if len({pixels.shape for pixels in found.values()}) > 1:
        raise UserError(f"the pictures in {folder} are not all of one size: remove those of another run")
    factor = min(enlarged_by(pixels) for pixels in found.values())
    return {step: torch.from_numpy(p[::factor, ::factor].copy()).permute(2, 0, 1) for step, p in found.items()}


def from_checkpoints(source: Source) -> dict[int, Picture]:
    """The fixed noise, drawn by every checkpoint beside the given one."""
    if not source.path.exists():
        raise UserError(f"there is no checkpoint {source.path}: give one in its run's folder")
    found = {}
    for path in sorted((source.path if source.path.is_dir() else source.path.parent).glob("*.ckpt")):
        checkpoint = read_checkpoint(path)
        generator = load_generator(path, source.device)
        z, label = checkpoint["state_dict"]["fixed_z"], checkpoint["state_dict"].get("fixed_label")
        images = torch.cat(list(generator.draw(z, label, source.batch_size)))
        found[checkpoint["step"]] = image_grid(images, generator.classes or None)
    if not found:
        raise UserError(f"there is no checkpoint in {source.path}: give one in its run's folder")
    return found


GRIDS = {"samples": from_samples, "checkpoints": from_checkpoints}


def read_picture(path: Path) -> np.ndarray:
    """(height, width, 3)"""
    try:
        with Image.open(path, formats=("PNG",)) as file:
            return np.array(file.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({first_line(error)}): remove it") from error


def enlarged_by(pixels: np.ndarray) -> int:
    """The largest factor that a picture may have been enlarged by."""
    for factor in range(min(pixels.shape[:2]), 1, -1):
        if pixels.shape[0] % factor == pixels.shape[1] % factor == 0:
            small = pixels[::factor, ::factor]
            if np.array_equal(small.repeat(factor, axis=0).repeat(factor, axis=1), pixels):
                return factor
    return 1
