"""Vector arithmetic on z, as the DCGAN paper does it with faces (section 6.3.2), with digits and their strokes."""

import re
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from scipy.stats import binomtest
from torch import Tensor

from dcgan.checks import UserError, check_int, check_number
from dcgan.grids import above, beside, captioned, enlarge, fitting_factor, image_grid
from dcgan.metrics.judge import Judged
from dcgan.modes.mode import Mode, Picture, Source, Still
from dcgan.seeding import Stream, derive_generator
from dcgan.strokes import slant, thickness

SURE = 0.9  # the judge's probability from which on an image counts as its digit
QUARTER = 0.25  # of a digit's images that are called thick, thin, slanted or upright
GRID = 3
LARGEST = 100_000
MEASURES = {"thickness": thickness, "slant": slant}
WORDS = {  # what is measured, and at which end
    "thick": ("thickness", 1),
    "thin": ("thickness", -1),
    "slanted": ("slant", 1),
    "upright": ("slant", -1),
}
NOISES = {
    "uniform": lambda shape, rng: torch.rand(shape, generator=rng) * 2 - 1,
    "normal": lambda shape, rng: torch.randn(shape, generator=rng),
}


@dataclass(frozen=True)
class Term:
    """A digit and what its strokes are like: "thick", ..., or "" for any."""

    word: str
    digit: int

    def __str__(self) -> str:
        return f"{self.word} {self.digit}".strip()


def parse(expression: str) -> tuple[Term, Term, Term]:
    """The terms of "a - b + c", each a digit with or without a word before it. UserError for anything else."""
    term = rf"\s*(?:({'|'.join(WORDS)})\s+)?(\d+)\s*"
    match = re.fullmatch(f"{term}-{term}\\+{term}", str(expression))
    if match is None:
        raise UserError(
            f"expression must be like 'thick 7 - thin 7 + thin 1', with {', '.join(WORDS)} or nothing before a digit, "
            f"got {expression!r}"
        )
    a, b, c, d, e, f = match.groups(default="")
    return Term(a, int(b)), Term(c, int(d)), Term(e, int(f))


def expected(a: Any, b: Any, c: Any) -> Any:
    """a - b + c of values that have no sum: c where a and b cancel, a where b and c do, else None."""
    return c if a == b else a if b == c else None


def result(a: Term, b: Term, c: Term) -> Term:
    """What the arithmetic should give. UserError where it says nothing of the digit."""
    digit = expected(a.digit, b.digit, c.digit)
    if digit is None:
        raise UserError(
            f"{a} - {b} + {c} has no digit for an answer: the second term must share its digit with another"
        )
    return Term(expected(a.word, b.word, c.word) or "", digit)


@dataclass(frozen=True, eq=False)
class Pool:
    """Latent vectors, and what the images drawn from them show: the digit (-1 where the judge is not sure or sees
    another than was asked for) and the measures of the strokes."""

    z: Float[Tensor, "n latent_dim"]
    digits: Int64[Tensor, " n"]
    strokes: dict[str, Float[Tensor, " n"]]

    def quantile(self, measure: str, digit: int, q: float) -> Tensor:
        return self.strokes[measure][self.digits == digit].quantile(q)

    def of(self, term: Term) -> Bool[Tensor, " n"]:
        """Which of them show the term: of its digit's images, the quarter at its word's end."""
        found = self.digits == term.digit
        if term.word and found.any():
            measure, end = WORDS[term.word]
            limit = self.quantile(measure, term.digit, 1 - QUARTER if end > 0 else QUARTER)
            found &= end * self.strokes[measure] >= end * limit
        return found


def mixed_up(
    a: Float[Tensor, "draws average latent_dim"], b: Float[Tensor, "draws average latent_dim"], rng: torch.Generator
) -> Float[Tensor, "draws latent_dim"]:
    """The control: a difference as long as that of a and b, whose vectors are dealt out to both at random. What it gets
    right, any step away from c would."""
    both = torch.cat((a, b), dim=1)
    order = torch.rand(both.shape[:2], generator=rng).argsort(dim=1)
    dealt = both.gather(1, order[:, :, None].expand_as(both))
    first, second = dealt.chunk(2, dim=1)
    return first.mean(dim=1) - second.mean(dim=1)


def look(judged: Judged, label: Int64[Tensor, " n"] | None) -> tuple[Int64[Tensor, " n"], dict[str, Tensor]]:
    """Digits and strokes of images, as a `Pool` has them."""
    probability, digits = judged.logits.softmax(dim=1).max(dim=1)
    unsure = probability < SURE
    if label is not None:
        unsure |= digits != label
    return digits.masked_fill(unsure, -1), {name: measure(judged.seen) for name, measure in MEASURES.items()}


class Arithmetic(Mode):
    """z(a) - z(b) + z(c), each the mean of some latent vectors whose images show that term. The result is in the middle
    of a 3 x 3 grid, whose other cells have noise added to the vector, and over many draws it is counted how often the
    judge finds the digit and the strokes that it should give; beside it, how often c alone has them, and c with the
    vectors of a and b mixed up.

    expression: like "thick 7 - thin 7 + thin 1". average: vectors a term. noise: "uniform" in +-noise_scale, as in the
    paper, or "normal" with that standard deviation. draws: to count over. pool: images that the terms are picked from.
    n: of the grid's images that go into a file of images; None: all nine.
    """

    def __init__(
        self,
        n: int | None,
        seed: int,
        expression: str,
        average: int,
        noise: str,
        noise_scale: float,
        draws: int,
        pool: int,
    ) -> None:
        super().__init__(n, seed)
        self.terms = parse(expression)
        self.result = result(*self.terms)
        for name, value in (("average", average), ("draws", draws), ("pool", pool)):
            check_int(name, value, 1, LARGEST)
        if n is not None:
            check_int("n", n, 1, GRID**2)
        if noise not in NOISES:
            raise ValueError(f"noise must be one of {', '.join(NOISES)}, got {noise!r}")
        check_number("noise_scale", noise_scale, 0, float("inf"), brackets="[)")
        self.average, self.noise, self.noise_scale = average, NOISES[noise], noise_scale
        self.draws, self.pool = draws, pool

    def still(self, source: Source) -> Still:
        rng = derive_generator(torch.device("cpu"), self.seed, Stream.ARITHMETIC)
        for term in self.terms:
            if term.digit >= source.judge.facts["classes"]:
                raise UserError(
                    f"there is no digit {term.digit}: the judge knows {source.judge.facts['classes']} classes"
                )
        pool = self.fill_pool(source)
        a, b, c = (self.pick(pool, term, rng) for term in self.terms)
        sums = a.mean(dim=1) - b.mean(dim=1) + c.mean(dim=1)

        def shaken(z: Tensor) -> Tensor:
            return z + self.noise_scale * self.noise(z.shape, rng)

        shares = {
            "right": self.right(source, pool, sums),
            "with noise added": self.right(source, pool, shaken(sums)),
            "without the arithmetic": self.right(source, pool, c.mean(dim=1)),
        }
        cells = shaken(sums[:1].expand(GRID**2, -1).clone())
        # behind the grid's noise, which so stays the same
        shares["a and b mixed up"] = self.right(source, pool, mixed_up(a, b, rng) + c.mean(dim=1))
        cells[GRID**2 // 2] = sums[0]
        images = self.draw(source, cells, self.result)
        examples = [
            (self.draw(source, x[0], term), self.draw(source, x[0].mean(dim=0)[None], term))
            for x, term in zip((a, b, c), self.terms, strict=True)
        ]
        return Still(
            images[: self.n],
            GRID,
            labels=self.told(source, len(images[: self.n]), self.result),
            compose=lambda scale: self.compose(examples, images, shares["right"], scale),
            notes=(
                f"{self.expression} = {self.result}",
                *(f"{what:<24}{tell(share, self.draws)}" for what, share in shares.items()),
            ),
        )

    @property
    def expression(self) -> str:
        return "{} - {} + {}".format(*self.terms)

    def told(self, source: Source, n: int, term: Term) -> Int64[Tensor, " n"] | None:
        """What a conditional model is told: the term's digit."""
        return source.generator.labels(n, self.seed, term.digit) if source.generator.classes else None

    def draw(self, source: Source, z: Float[Tensor, "n latent_dim"], term: Term) -> UInt8[Tensor, "n c h w"]:
        return source.draw(z, self.told(source, len(z), term))

    def fill_pool(self, source: Source) -> Pool:
        z, label = source.generator.z(self.pool, self.seed), source.generator.labels(self.pool, self.seed)
        return Pool(z, *look(source.judge(source.draw(z, label)), label))

    def pick(self, pool: Pool, term: Term, rng: torch.Generator) -> Float[Tensor, "draws average latent_dim"]:
        """For each draw, so many different vectors whose images show the term."""
        found = pool.z[pool.of(term)]
        if len(found) < 2 * self.average:
            raise UserError(
                f"among {self.pool:,} images the judge is sure of {len(found)} as {term}, and {2 * self.average} are "
                "needed: raise pool=, or choose another expression="
            )
        order = torch.rand(self.draws, len(found), generator=rng).argsort(dim=1)[:, : self.average]
        return found[order]

    def right(self, source: Source, pool: Pool, z: Float[Tensor, "draws latent_dim"]) -> float:
        """The share of images that show the result: its digit, and strokes beyond the middle of that digit's images."""
        digits, strokes = look(source.judge(self.draw(source, z, self.result)), None)
        right = digits == self.result.digit
        if self.result.word:
            measure, end = WORDS[self.result.word]
            right &= end * strokes[measure] > end * pool.quantile(measure, self.result.digit, 0.5)
        return right.double().mean().item()

    def compose(
        self,
        examples: list[tuple[UInt8[Tensor, "n c h w"], UInt8[Tensor, "1 c h w"]]],
        images: UInt8[Tensor, "9 c h w"],
        right: float,
        scale: int | None,
    ) -> Picture:
        """Examples of each term over what their mean draws, and beside them the grid of the result."""
        result = image_grid(images, GRID)
        factor = scale or fitting_factor(beside([image_grid(shown, 1) for shown, _ in examples] + [result]))

        def part(images: Tensor, columns: int, caption: str) -> Picture:
            return captioned(enlarge(image_grid(images, columns), factor), caption)

        parts = [
            above(part(shown, 1, f"{sign}{term}"), part(mean, 1, "their mean"))
            for sign, term, (shown, mean) in zip(("", "- ", "+ "), self.terms, examples, strict=True)
        ]
        parts.append(part(images, GRID, f"= {self.result}"))
        return captioned(beside(parts), f"right in {right:.1%} of {self.draws:,} draws")


def tell(share: float, n: int) -> str:
    """A share of n with its 95 % interval (Wilson's)."""
    low, high = binomtest(round(share * n), n).proportion_ci(method="wilson")
    return f"{share:.1%} of {n:,} draws (95 % interval {low:.1%} to {high:.1%})"
