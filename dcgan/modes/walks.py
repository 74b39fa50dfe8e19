"""Walks through the latent space: what lies between two images, and what one direction changes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dcgan.checks import UserError, check_int, check_ints, check_number, first_line
from dcgan.grids import image_grid
from dcgan.modes.mode import Film, Mode, Source, Still
from dcgan.networks import LatentModel

ROWS, STEPS = 8, 10
FRAMES = 40

Z = Float[Tensor, "n latent_dim"]


def slerp(a: Z, b: Z, t: float) -> Z:
    """From a (t = 0) to b (t = 1) along the great circle, the length changing evenly (White 2016, "Sampling generative
    networks"): a normal prior's vectors are all of about the same length, which a straight line cuts short."""
    length_a, length_b = (x.norm(dim=1, keepdim=True).clamp_min(1e-12) for x in (a, b))
    cosine = ((a / length_a) * (b / length_b)).sum(dim=1, keepdim=True).clamp(-1, 1)
    angle = cosine.acos()
    # where a and b point the same way, the circle is the line; between opposites there is no one shortest way
    near = angle.sin() < 1e-6
    sine = angle.sin().masked_fill(near, 1)
    weight_a = torch.where(near, torch.full_like(angle, 1 - t), ((1 - t) * angle).sin() / sine)
    weight_b = torch.where(near, torch.full_like(angle, t), (t * angle).sin() / sine)
    direction = weight_a * a / length_a + weight_b * b / length_b
    return direction * torch.lerp(length_a, length_b, t)


def straight(a: Z, b: Z, t: float) -> Z:
    return torch.lerp(a, b, t)


PATHS: dict[str, Callable[[Z, Z, float], Z]] = {"spherical": slerp, "linear": straight}


def steps_of(n: int) -> int:
    """The largest divisor of n up to 10, so that all rows are whole; n itself where it has none."""
    return next((steps for steps in range(min(n, STEPS), 1, -1) if n % steps == 0), n)


class Walk(Mode):
    """Walks side by side. A still shows each as a row of steps; in a film they go on together, there and back.

    n: images of a still, a multiple of nrow; frames of a film. nrow: steps of a row; walks in a film.
    label: of a conditional model, a class; None: each walk has one, as frequent as in training.
    """

    def __init__(self, n: int | None, seed: int, nrow: int | None, label: int | None) -> None:
        super().__init__(n, seed)
        check_int("nrow", nrow, 1, optional=True)
        self.nrow, self.label = nrow, label

    def walks(self, source: Source, rows: int | None) -> Callable[[float], Z]:
        """Where the walks (so many, if that is asked for) are at t from 0 to 1."""
        raise NotImplementedError

    def labels(self, source: Source, rows: int) -> Int64[Tensor, " rows"] | None:
        return source.generator.labels(rows, self.seed, self.label)

    def still(self, source: Source) -> Still:
        n = self.n
        steps = self.nrow or (STEPS if n is None else steps_of(n))
        if n is not None and n % steps:
            raise UserError(f"n={n} images do not make whole rows of nrow={steps}: choose a multiple of it")
        at = self.walks(source, None if n is None else n // steps)
        z = torch.stack([at(t) for t in torch.linspace(0, 1, steps).tolist()], dim=1)
        labels = self.labels(source, len(z))
        told = None if labels is None else labels.repeat_interleave(steps)
        return Still(source.draw(z.flatten(0, 1), told), steps, labels=told)

    def film(self, source: Source) -> Film:
        frames = self.n or FRAMES
        at = self.walks(source, self.nrow)
        z = torch.stack([at(1 - abs(1 - 2 * i / frames)) for i in range(frames)])
        walks = z.shape[1]
        labels = self.labels(source, walks)
        images = source.draw(z.flatten(0, 1), None if labels is None else labels.repeat(frames))
        return Film([image_grid(frame, walks) for frame in images.split(walks)])


class Interpolate(Walk):
    """Each row from one latent vector to another (DCGAN paper, section 6.1).

    path: "spherical" or "linear". z: an .npy file of vectors to walk between, the first to the second, the third to
    the fourth, ...; None: random ones. Other arguments as `Walk`'s.
    """

    def __init__(self, n: int | None, seed: int, nrow: int | None, label: int | None, path: str, z: str | None) -> None:
        super().__init__(n, seed, nrow, label)
        if path not in PATHS:
            raise ValueError(f"path must be one of {', '.join(PATHS)}, got {path!r}")
        self.path, self.z = PATHS[path], z

    def walks(self, source: Source, rows: int | None) -> Callable[[float], Z]:
        if self.z is not None:
            ends = read_latents(Path(self.z), source.generator.network.latent_dim)
            if rows is not None and 2 * rows > len(ends):
                raise UserError(f"{rows} walks need {2 * rows} vectors, but there are {len(ends)} in {self.z}")
            ends = ends[: 2 * rows] if rows is not None else ends
        else:
            ends = source.generator.z(2 * (rows or ROWS), self.seed)
        return lambda t: self.path(ends[::2], ends[1::2], t)


def read_latents(path: Path, latent_dim: int) -> Z:
    """The latent vectors of an .npy file. UserError where it is not an even number of finite ones of that length."""
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path} cannot be read as an .npy file ({first_line(error)}): z= takes vectors") from error
    shape: tuple[int, ...] = getattr(array, "shape", ())  # an .npz has none
    if len(shape) != 2 or shape[1] != latent_dim or shape[0] % 2 or not shape[0] or array.dtype.kind not in "fiu":
        raise UserError(
            f"the vectors in {path} must be an even number x {latent_dim} of numbers, got "
            f"{' x '.join(map(str, shape)) or 'no array'}"
        )
    z = torch.from_numpy(array.astype(np.float64)).float()
    if not z.isfinite().all():
        raise UserError(f"there are NaN or infinite numbers in {path}")
    return z


class Traverse(Walk):
    """Each row changes one direction of one latent vector, from -extent to +extent, and nothing else.

    along: "principal", the directions that the first layer responds to most, strongest first (Shen and Zhou 2021,
    "Closed-form factorization of latent semantics"), or "coordinate", one number of z after the other.
    directions: which of them, counted from 0; None: the first. extent: in standard deviations of a normal prior.
    Other arguments as `Walk`'s; all rows have the same label.
    """

    def __init__(
        self,
        n: int | None,
        seed: int,
        nrow: int | None,
        label: int | None,
        along: str,
        directions: list[int] | None,
        extent: float,
    ) -> None:
        super().__init__(n, seed, nrow, label)
        check_along(along)
        if directions is not None:
            check_ints("directions", directions, 0)
            if not directions:
                raise ValueError("directions must name at least one, or be null for the first ones, got []")
        check_number("extent", extent, 0, float("inf"), brackets="()")
        self.along, self.directions, self.extent = along, directions, extent

    def walks(self, source: Source, rows: int | None) -> Callable[[float], Z]:
        chosen = list(range(rows or ROWS)) if self.directions is None else self.directions
        if self.directions is not None and rows not in (None, len(chosen)):
            raise UserError(f"there are {len(chosen)} directions for {rows} walks: leave n and nrow out")
        axes = direction_vectors(source.generator.network, self.along, chosen)
        z = source.generator.z(1, self.seed)
        rest = z - (z @ axes.T).T * axes
        return lambda t: rest + (2 * t - 1) * self.extent * axes

    def labels(self, source: Source, rows: int) -> Int64[Tensor, " rows"] | None:
        one = source.generator.labels(1, self.seed, self.label)
        return None if one is None else one.expand(rows)


def principal_directions(model: LatentModel) -> Float[Tensor, "latent_dim latent_dim"]:
    """Unit vectors of z, those first that the first layer's response W z changes most with."""
    weight: Tensor = next(p for p in model.parameters() if p.dim() > 1)
    if weight.dim() == 4:  # a transposed convolution's: (latent_dim, channels, height, width)
        weight = weight.flatten(1).T
    weight = weight[:, : model.latent_dim].cpu()  # behind the latent vector comes the label
    return torch.linalg.eigh(weight.T @ weight).eigenvectors.T.flip(0)


def coordinates(model: LatentModel) -> Float[Tensor, "latent_dim latent_dim"]:
    return torch.eye(model.latent_dim)


DIRECTIONS = {"principal": principal_directions, "coordinate": coordinates}


def check_along(along: str) -> None:
    if along not in DIRECTIONS:
        raise ValueError(f"along must be one of {', '.join(DIRECTIONS)}, got {along!r}")


def direction_vectors(model: LatentModel, along: str, chosen: list[int]) -> Z:
    """Unit vectors of z: those of the chosen numbers. UserError for a number that z does not have."""
    check_along(along)
    if max(chosen) >= model.latent_dim:
        raise UserError(f"directions must be from 0 to {model.latent_dim - 1}, got {max(chosen)}: z has no more")
    return DIRECTIONS[along](model)[chosen]
