"""Success rate of vector arithmetic on z: how often the judge finds the expected digit and strokes in a - b + c.

Print the rates of one checkpoint: `python -m experiments.semantic.arithmetic_success CKPT`.
"""

import argparse
from pathlib import Path

import torch
from jaxtyping import Float
from scipy.stats import binomtest
from torch import Tensor

from dcgan.common.arg_checks import check_int
from dcgan.common.errors import UserError
from dcgan.common.seeding import Stream, derive_generator
from dcgan.sampling.arithmetic import (
    ADJECTIVES,
    NOISES,
    Pool,
    Term,
    expected_result,
    generate_term,
    parse_expression,
    recognize,
)
from dcgan.sampling.base import SampleSource
from experiments.tables import Row

EXPRESSIONS = ("thick 7 - thin 7 + thin 1", "slanted 4 - upright 4 + upright 9")
SCALES = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0)  # of uniform noise; a component of z has a standard deviation of 1
ALONE, SHUFFLED = "third term alone", "first two mixed up"  # the controls, as in arithmetic.csv
AVERAGE, DRAWS, POOL = 3, 2_000, 10_000  # latent vectors per term, repetitions, images that the terms are picked from
BATCH_SIZE = 500


def measure_arithmetic(source: SampleSource) -> list[Row]:
    """Return the success rates of all expressions in percent. Expressions with too few images are skipped.

    A conditional generator gets the digit of the result as label: only the strokes can be wrong.
    """
    pool = Pool.generate(source, POOL, seed=0)
    rows: list[Row] = []
    for expression in EXPRESSIONS:
        try:
            rates = success_rates(source, pool, parse_expression(expression), DRAWS, SCALES)
        except UserError as error:
            print(f"skipped      {source.checkpoint}: {error}")
            continue
        rows += [
            {"expression": expression, "noise_scale": name, "success_percent": 100 * rate}
            for name, rate in rates.items()
        ]
    return rows


def success_rates(
    source: SampleSource,
    pool: Pool,
    terms: tuple[Term, Term, Term],
    draws: int,
    scales: tuple[float, ...],
    average: int = AVERAGE,
    noise: str = "uniform",
    seed: int = 0,
) -> dict[str, float]:
    """Return the success rate with noise of each scale and of both controls, in [0, 1].

    Args:
        source: The generator and its judge.
        pool: The images that the terms are picked from.
        terms: a, b and c of a - b + c.
        draws: Repetitions with other latent vectors, >= 1.
        scales: Scales of the noise that is added to the sum.
        average: Latent vectors per term.
        noise: Distribution of the noise, "uniform" or "normal".
        seed: Seed of the selection and of the noise.

    Raises:
        UserError: The pool has too few images of a term.
    """
    check_int("draws", draws, 1)
    result = expected_result(*terms)
    rng = derive_generator(torch.device("cpu"), seed, Stream.ARITHMETIC)
    a, b, c = (pool.pick(term, draws, average, rng) for term in terms)
    mean = c.mean(dim=1)
    sums = a.mean(dim=1) - b.mean(dim=1) + mean
    vectors = {str(scale): sums + scale * NOISES[noise](sums.shape, rng) for scale in scales}
    vectors |= {ALONE: mean, SHUFFLED: shuffled_difference(a, b, rng) + mean}
    return {name: success_rate(source, pool, z, result) for name, z in vectors.items()}


def shuffled_difference(
    a: Float[Tensor, "draws average latent_dim"], b: Float[Tensor, "draws average latent_dim"], rng: torch.Generator
) -> Float[Tensor, "draws latent_dim"]:
    """Return a control: the difference of a and b after randomly exchanging vectors between them.

    Its length is similar to that of the difference of a and b, but its direction has no meaning.
    """
    both = torch.cat((a, b), dim=1)
    order = torch.rand(both.shape[:2], generator=rng).argsort(dim=1)
    first, second = both.gather(1, order[:, :, None].expand_as(both)).chunk(2, dim=1)
    return first.mean(dim=1) - second.mean(dim=1)


def success_rate(source: SampleSource, pool: Pool, z: Float[Tensor, "draws latent_dim"], result: Term) -> float:
    """Return the share of images with the result's digit and strokes beyond the median of that digit in the pool."""
    digits, strokes = recognize(source.judge, generate_term(source, z, result))
    success = digits == result.digit
    if result.adjective:
        measure, sign = ADJECTIVES[result.adjective]
        success &= sign * strokes[measure] > sign * pool.quantile(measure, result.digit, 0.5)
    return success.double().mean().item()


def format_rate(rate: float, n: int) -> str:
    """Return a rate over n draws with its 95 % Wilson interval."""
    low, high = binomtest(round(rate * n), n).proportion_ci(method="wilson")
    return f"{rate:.1%} of {n:,} draws (95 % CI {low:.1%} to {high:.1%})"


def main() -> None:
    parser = argparse.ArgumentParser(description="Print the success rates of vector arithmetic on z.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("expressions", nargs="*", default=EXPRESSIONS, help="like 'thick 7 - thin 7 + thin 1'")
    parser.add_argument("--draws", type=int, default=1_000, help="repetitions with other latent vectors")
    parser.add_argument("--pool", type=int, default=5_000, help="images that the terms are picked from")
    parser.add_argument("--average", type=int, default=AVERAGE, help="latent vectors per term")
    parser.add_argument("--noise", choices=NOISES, default="uniform")
    parser.add_argument("--noise-scale", type=float, default=0.25)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    source = SampleSource(args.checkpoint, "auto", BATCH_SIZE)
    pool = Pool.generate(source, args.pool, args.seed)
    for expression in args.expressions:
        terms, scales = parse_expression(expression), (0.0, args.noise_scale)
        print(f"{expression} = {expected_result(*terms)}")
        rates = success_rates(source, pool, terms, args.draws, scales, args.average, args.noise, args.seed)
        for name, rate in rates.items():
            print(f"{name if name in (ALONE, SHUFFLED) else f'noise {name}':<24}{format_rate(rate, args.draws)}")


if __name__ == "__main__":
    main()
