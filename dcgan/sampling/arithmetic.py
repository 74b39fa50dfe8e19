"""Vector arithmetic on z, as with faces in the DCGAN paper (section 6.3.2), with digits and their strokes."""

import re
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from dcgan.common.arg_checks import check_int, check_number
from dcgan.common.errors import UserError
from dcgan.common.image_grid import add_caption, display_scale, enlarge, hstack, image_grid, vstack
from dcgan.common.seeding import Stream, derive_generator
from dcgan.data.pixel_range import resize_images
from dcgan.metrics.judge import Judge
from dcgan.sampling.base import ImageSheet, Picture, SampleSource, SamplingMode, choose
from dcgan.sampling.strokes import slant, thickness

CONFIDENCE = 0.9  # the judge's lowest probability for an image that counts as its digit
QUARTILE = 0.25  # share of a digit's images that count as thick, thin, slanted or upright
GRID = 3
STROKE_SIZE = 28  # pixels of the images whose strokes are measured
MAX_POOL = 100_000
STROKES = {"thickness": thickness, "slant": slant}
ADJECTIVES = {  # stroke measure, and the sign of its end
    "thick": ("thickness", 1),
    "thin": ("thickness", -1),
    "slanted": ("slant", 1),
    "upright": ("slant", -1),
}
NOISES = {
    "uniform": lambda shape, rng: torch.rand(shape, generator=rng) * 2 - 1,
    "normal": lambda shape, rng: torch.randn(shape, generator=rng),
}
T = TypeVar("T")


@dataclass(frozen=True)
class Term:
    """A digit and the adjective of its strokes: "thick", "thin", "slanted", "upright", or "" for any."""

    adjective: str
    digit: int

    def __str__(self) -> str:
        return f"{self.adjective} {self.digit}".strip()


def parse_expression(expression: str) -> tuple[Term, Term, Term]:
    """Return the terms of "a - b + c", each a digit with an optional adjective. UserError for anything else."""
    term = rf"\s*(?:({'|'.join(ADJECTIVES)})\s+)?(\d+)\s*"
    match = re.fullmatch(f"{term}-{term}\\+{term}", str(expression))
    if match is None:
        raise UserError(
            f"expression must be like 'thick 7 - thin 7 + thin 1', with {', '.join(ADJECTIVES)} or nothing before a "
            f"digit, got {expression!r}"
        )
    a, b, c, d, e, f = match.groups(default="")
    return Term(a, int(b)), Term(c, int(d)), Term(e, int(f))


def cancel(a: T, b: T, c: T) -> T | None:
    """Return a - b + c of symbols: c if a = b, a if b = c, else None."""
    return c if a == b else a if b == c else None


def expected_result(a: Term, b: Term, c: Term) -> Term:
    """Return the term that a - b + c should give. UserError if its digit is undefined."""
    digit = cancel(a.digit, b.digit, c.digit)
    if digit is None:
        raise UserError(
            f"{a} - {b} + {c} has no digit as its result: the second term must share its digit with another"
        )
    return Term(cancel(a.adjective, b.adjective, c.adjective) or "", digit)


def recognize(
    judge: Judge, images: UInt8[Tensor, "n c h w"]
) -> tuple[Int64[Tensor, " n"], dict[str, Float[Tensor, " n"]]]:
    """Return the digit of each image, -1 if the judge is not confident, and its stroke measures, on the CPU."""
    probability, digits = judge.classify(images).cpu().softmax(dim=1).max(dim=1)
    grey = resize_images(images.cpu(), STROKE_SIZE, 1)
    strokes = {name: measure(grey) for name, measure in STROKES.items()}
    return digits.masked_fill(probability < CONFIDENCE, -1), strokes


@dataclass(frozen=True, eq=False)
class Pool:
    """Latent vectors, with the digits and the stroke measures of their images.

    A digit is -1 if the judge is not confident, or disagrees with the label that the image was generated with.
    """

    z: Float[Tensor, "n latent_dim"]
    digits: Int64[Tensor, " n"]
    strokes: dict[str, Float[Tensor, " n"]]

    @classmethod
    def generate(cls, source: SampleSource, n: int, seed: int) -> "Pool":
        """Generate a pool of n images."""
        z, label = source.z(n, seed), source.generator.labels(n, seed)
        digits, strokes = recognize(source.judge, source.generate(z, label))
        return cls(z, digits if label is None else digits.masked_fill(digits != label, -1), strokes)

    def quantile(self, measure: str, digit: int, q: float) -> Tensor:
        return self.strokes[measure][self.digits == digit].quantile(q)

    def mask(self, term: Term) -> Bool[Tensor, " n"]:
        """Return True for the images that show the term: its digit, and strokes in the quartile of its adjective."""
        mask = self.digits == term.digit
        if term.adjective and mask.any():
            measure, sign = ADJECTIVES[term.adjective]
            limit = self.quantile(measure, term.digit, 1 - QUARTILE if sign > 0 else QUARTILE)
            mask &= sign * self.strokes[measure] >= sign * limit
        return mask

    def pick(
        self, term: Term, rows: int, average: int, rng: torch.Generator
    ) -> Float[Tensor, "rows average latent_dim"]:
        """Pick `average` different vectors per row whose images show the term. UserError if there are too few."""
        z = self.z[self.mask(term)]
        if len(z) < 2 * average:
            raise UserError(
                f"only {len(z)} of {len(self.z):,} images are {term} with the judge's confidence > {CONFIDENCE}, and "
                f"{2 * average} are needed: raise pool=, or choose another expression="
            )
        return z[torch.rand(rows, len(z), generator=rng).argsort(dim=1)[:, :average]]


def term_labels(source: SampleSource, n: int, term: Term) -> Int64[Tensor, " n"] | None:
    """Return the term's digit n times as the labels of a conditional generator, None for an unconditional one."""
    return source.generator.labels(n, 0, term.digit) if source.generator.classes else None


def generate_term(source: SampleSource, z: Float[Tensor, "n latent_dim"], term: Term) -> UInt8[Tensor, "n c h w"]:
    """Generate the images of z; a conditional generator gets the term's digit as label."""
    return source.generate(z, term_labels(source, len(z), term))


class Arithmetic(SamplingMode):
    """A picture of z(a) - z(b) + z(c), each the mean of latent vectors whose images show that term.

    The center of a 3 x 3 grid is the result; the other cells have noise added to its vector.

    Args:
        n: Images of the grid that are written to a file of images, 1 to 9; None: all.
        seed: Seed of the latent vectors, >= 0.
        expression: Three terms, such as "thick 7 - thin 7 + thin 1".
        average: Latent vectors per term, 1 to 100,000.
        noise: "uniform" in [-noise_scale, noise_scale], as in the paper, or "normal" with that standard deviation.
        noise_scale: Scale of the noise, >= 0.
        pool: Images that the terms are picked from, 1 to 100,000.

    Raises:
        ValueError: An argument is out of range.
        UserError: The expression is invalid.
    """

    def __init__(
        self, n: int | None, seed: int, expression: str, average: int, noise: str, noise_scale: float, pool: int
    ) -> None:
        super().__init__(n, seed)
        self.terms = parse_expression(expression)
        self.result = expected_result(*self.terms)
        check_int("average", average, 1, MAX_POOL)
        check_int("pool", pool, 1, MAX_POOL)
        check_int("n", n, 1, GRID**2, optional=True)
        check_number("noise_scale", noise_scale, 0, float("inf"), brackets="[)")
        self.average, self.noise, self.noise_scale = average, choose("noise", NOISES, noise), noise_scale
        self.pool = pool

    def image_sheet(self, source: SampleSource) -> ImageSheet:
        classes = source.judge.facts["classes"]
        for term in self.terms:
            if term.digit >= classes:
                raise UserError(f"there is no digit {term.digit}: the judge knows {classes} classes")
        rng = derive_generator(torch.device("cpu"), self.seed, Stream.ARITHMETIC)
        pool = Pool.generate(source, self.pool, self.seed)
        picked = [pool.pick(term, 1, self.average, rng)[0] for term in self.terms]
        means = [z.mean(dim=0, keepdim=True) for z in picked]
        center = means[0] - means[1] + means[2]
        cells = center + self.noise_scale * self.noise((GRID**2, center.shape[1]), rng)
        cells[GRID**2 // 2] = center[0]
        images = generate_term(source, cells, self.result)
        columns = [
            [(f"{sign}{term}", generate_term(source, z, term)), ("their mean", generate_term(source, mean, term))]
            for sign, term, z, mean in zip(("", "- ", "+ "), self.terms, picked, means, strict=True)
        ]
        grids = [[(caption, image_grid(x, 1)) for caption, x in column] for column in columns]
        grids.append([(f"= {self.result}", image_grid(images, GRID))])
        images = images[: self.n]
        return ImageSheet(
            images,
            GRID,
            labels=term_labels(source, len(images), self.result),
            compose=partial(compose_columns, grids),
            notes=("{} - {} + {} = {}".format(*self.terms, self.result),),
        )


def compose_columns(columns: list[list[tuple[str, Picture]]], scale: int | None) -> Picture:
    """Stack the pictures of each column below their captions, and put the columns side by side."""
    factor = scale or display_scale(hstack([column[0][1] for column in columns]))
    return hstack([vstack([add_caption(enlarge(grid, factor), text) for text, grid in column]) for column in columns])
