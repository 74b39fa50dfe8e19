"""Walks through the latent space: interpolation between vectors, and traversal of single directions."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dcgan.common.arg_checks import check_ints, check_number
from dcgan.common.errors import UserError
from dcgan.common.image_grid import image_grid
from dcgan.common.npy_files import read_npy
from dcgan.models.generator import BaseGenerator
from dcgan.sampling.base import Animation, ImageSheet, SampleSource, SamplingMode, choose

DEFAULT_ROWS, DEFAULT_STEPS = 8, 10
DEFAULT_FRAMES = 40
Z = Float[Tensor, "n latent_dim"]


def slerp(a: Z, b: Z, t: float) -> Z:
    """Interpolate from a (t = 0) to b (t = 1) on the sphere (White 2016, "Sampling generative networks").

    The length changes linearly. Vectors of a normal prior have about the same length; linear interpolation would
    pass through shorter ones.
    """
    length_a, length_b = (x.norm(dim=1, keepdim=True).clamp_min(1e-12) for x in (a, b))
    angle = ((a / length_a) * (b / length_b)).sum(dim=1, keepdim=True).clamp(-1, 1).acos()
    # parallel and opposite vectors: the formula divides by zero, so their directions are interpolated linearly
    parallel = angle.sin() < 1e-6
    sine = angle.sin().masked_fill(parallel, 1)
    weight_a = torch.where(parallel, 1 - t, ((1 - t) * angle).sin() / sine)
    weight_b = torch.where(parallel, t, (t * angle).sin() / sine)
    direction = weight_a * a / length_a + weight_b * b / length_b
    return direction * torch.lerp(length_a, length_b, t)


PATHS: dict[str, Callable[[Z, Z, float], Z]] = {"spherical": slerp, "linear": torch.lerp}


def default_steps(n: int) -> int:
    """Return the largest divisor of n from 2 to 10, which fills all rows; n itself if there is none."""
    return next((steps for steps in range(min(n, DEFAULT_STEPS), 1, -1) if n % steps == 0), n)


class Walk(SamplingMode):
    """Several walks. A sheet has one row of steps per walk; an animation shows them side by side, there and back.

    Args:
        n: Images of a sheet, a multiple of nrow, or frames of an animation; None: 8 rows, or 40 frames.
        seed: Seed of the latent vectors, >= 0.
        nrow: Steps per row of a sheet, or walks of an animation; None: up to 10 steps, or 8 walks.
        label: Class of all images; None: a conditional model samples a class per walk.
    """

    def positions(self, source: SampleSource, walks: int | None) -> Callable[[float], Z]:
        """Return a function from t in [0, 1] to the position of each walk. walks=None: the default number of walks."""
        raise NotImplementedError

    def labels(self, source: SampleSource, walks: int) -> Int64[Tensor, " walks"] | None:
        return source.generator.labels(walks, self.seed, self.label)

    def image_sheet(self, source: SampleSource) -> ImageSheet:
        steps = self.nrow or (DEFAULT_STEPS if self.n is None else default_steps(self.n))
        if self.n is not None and self.n % steps:
            raise UserError(f"n must be a multiple of nrow={steps}, got {self.n}")
        position = self.positions(source, None if self.n is None else self.n // steps)
        z = torch.stack([position(t) for t in torch.linspace(0, 1, steps).tolist()], dim=1)
        labels = self.labels(source, len(z))
        if labels is not None:
            labels = labels.repeat_interleave(steps)
        return ImageSheet(source.generate(z.flatten(0, 1), labels), steps, labels=labels)

    def animation(self, source: SampleSource) -> Animation:
        frames = self.n or DEFAULT_FRAMES
        position = self.positions(source, self.nrow)
        z = torch.stack([position(1 - abs(1 - 2 * i / frames)) for i in range(frames)])
        walks = z.shape[1]
        labels = self.labels(source, walks)
        images = source.generate(z.flatten(0, 1), None if labels is None else labels.repeat(frames))
        return Animation([image_grid(frame, walks) for frame in images.split(walks)])


@dataclass(kw_only=True)
class Interpolate(Walk):
    """Walks from one latent vector to another (DCGAN paper, section 6.1).

    Args:
        path: "spherical" or "linear".
        z: An .npy file of latent vectors: one walk from the first to the second, one from the third to the fourth, ...;
            None: random vectors.
    """

    path: str
    z: str | None

    def __post_init__(self) -> None:
        super().__post_init__()
        choose("path", PATHS, self.path)

    def positions(self, source: SampleSource, walks: int | None) -> Callable[[float], Z]:
        if self.z is None:
            ends = source.z(2 * (walks or DEFAULT_ROWS), self.seed)
        else:
            ends = load_latents(Path(self.z), source.generator.network.latent_dim)
            walks = walks or len(ends) // 2
            if 2 * walks > len(ends):
                raise UserError(f"{walks} walks need {2 * walks} vectors, but {self.z} has {len(ends)}")
            ends = ends[: 2 * walks]
        return lambda t: PATHS[self.path](ends[::2], ends[1::2], t)


def load_latents(path: Path, latent_dim: int) -> Z:
    """Load an even number of latent vectors from an .npy file. UserError if it holds anything else."""
    array = read_npy(path)
    if array.shape[1:] != (latent_dim,) or len(array) % 2 or not len(array) or array.dtype.kind not in "fiu":
        raise UserError(
            f"z must be an even number of vectors of {latent_dim} numbers, but the array in {path} has shape "
            f"{array.shape} and type {array.dtype}"
        )
    z = torch.from_numpy(array.astype(np.float64)).float()
    if not z.isfinite().all():
        raise UserError(f"{path} has NaN or infinite numbers")
    return z


@dataclass(kw_only=True)
class Traverse(Walk):
    """Walks that each move the same latent vector along another direction, with the same label.

    Args:
        along: "principal", the directions to which the first layer responds most, strongest first (Shen and Zhou 2021,
            "Closed-form factorization of latent semantics"), or "coordinate", the axes of z.
        directions: Indices of the directions, >= 0; None: the first ones.
        extent: A walk's coordinate along its direction goes from -extent to +extent, in standard deviations of a normal
            prior, > 0.
    """

    along: str
    directions: list[int] | None
    extent: float

    def __post_init__(self) -> None:
        super().__post_init__()
        choose("along", DIRECTIONS, self.along)
        if self.directions is not None:
            check_ints("directions", self.directions, 0)
            if not self.directions:
                raise ValueError("directions must be null or a list of at least one index, got []")
        check_number("extent", self.extent, 0, float("inf"), brackets="()")

    def positions(self, source: SampleSource, walks: int | None) -> Callable[[float], Z]:
        indices = list(range(walks or DEFAULT_ROWS)) if self.directions is None else self.directions
        if walks not in (None, len(indices)):
            raise UserError(f"{walks} walks need {walks} directions, got {len(indices)}: leave out n and nrow")
        axes = direction_vectors(source.generator.network, self.along, indices)
        z = source.z(1, self.seed)
        rest = z - (z @ axes.T).T * axes
        return lambda t: rest + (2 * t - 1) * self.extent * axes

    def labels(self, source: SampleSource, walks: int) -> Int64[Tensor, " walks"] | None:
        label = super().labels(source, 1)
        return None if label is None else label.expand(walks)


def principal_directions(model: BaseGenerator) -> Float[Tensor, "latent_dim latent_dim"]:
    """Return orthonormal directions of z, sorted by the response ||W z|| of the first layer, strongest first."""
    weight: Tensor = next(p for p in model.parameters() if p.dim() > 1)
    if weight.dim() == 4:  # a transposed convolution: (latent_dim, channels, height, width)
        weight = weight.flatten(1).T
    weight = weight[:, : model.latent_dim].cpu()  # further inputs are the label
    return torch.linalg.eigh(weight.T @ weight).eigenvectors.T.flip(0)


DIRECTIONS = {"principal": principal_directions, "coordinate": lambda model: torch.eye(model.latent_dim)}


def direction_vectors(model: BaseGenerator, along: str, indices: list[int]) -> Z:
    """Return the unit vectors of z with these indices. UserError if z has fewer dimensions."""
    directions = choose("along", DIRECTIONS, along)
    if max(indices) >= model.latent_dim:
        raise UserError(f"directions must be from 0 to {model.latent_dim - 1}, got {max(indices)}")
    return directions(model)[indices]
