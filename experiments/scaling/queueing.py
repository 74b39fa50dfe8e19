"""Simulate the queue of a sweep on many GPUs: `python -m experiments.scaling.queueing`

There are as many workers as GPUs. Each starts the next job when its job has ended. The rules:

  lease          a free GPU takes the next job (dcgan.runs.gpu_leases)
  modulo         job i runs on GPU i modulo the number of GPUs. Jobs that meet there share its speed
  fixed_queues   each GPU has these jobs, too, but runs them one after another
  longest_first  lease, if the durations are known and the sweep begins with the longest jobs
  lower_bound    of all rules

queueing.csv has, for each spread of the durations, the time until the last job ends in units of total work / GPUs, as
mean and 95 % range over the repetitions, and how many of the GPUs work on average until then.
"""

import heapq
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.tables import Row, write_rows

JOBS, GPUS, REPETITIONS = 1000, 100, 200
HERE = Path(__file__).parent
Durations = NDArray[np.float64]  # of the jobs, in their order


def log_normal(sigma: float) -> Callable[[np.random.Generator], Durations]:
    """Return a sampler of durations whose logarithm has this standard deviation. Their mean is 1."""
    return lambda rng: rng.lognormal(-(sigma**2) / 2, sigma, JOBS)


def four_sizes(rng: np.random.Generator) -> Durations:
    """Return the durations of `-m seed=0,...,249 model=a,b,c,d`, whose networks take 1, 2, 4 and 8 units of time."""
    return np.resize([1.0, 2, 4, 8], JOBS) * rng.lognormal(0, 0.1, JOBS)


SPREADS: dict[str, Callable[[np.random.Generator], Durations]] = {
    "log-normal, sigma 0.3": log_normal(0.3),
    "log-normal, sigma 0.5": log_normal(0.5),
    "log-normal, sigma 1": log_normal(1.0),
    "sizes 1, 2, 4, 8 in turn": four_sizes,
}


def lease(durations: Durations) -> float:
    """Return the time until the last job ends if a free GPU takes the next job."""
    free_at = [0.0] * GPUS
    for duration in durations:
        heapq.heapreplace(free_at, free_at[0] + duration)
    return max(free_at)


def modulo(durations: Durations) -> float:
    """Return the time until the last job ends if job i runs on GPU i modulo GPUS, from when a worker is free."""
    left, gpu, now = durations[:GPUS].copy(), np.arange(GPUS), 0.0  # work left, and the GPU, of each running job
    for job in range(GPUS, len(durations) + GPUS):
        ends_in = left * np.bincount(gpu)[gpu]
        first = int(ends_in.argmin())
        now += ends_in[first]
        left -= ends_in[first] / np.bincount(gpu)[gpu]
        if job < len(durations):
            left[first], gpu[first] = durations[job], job % GPUS
        else:
            left, gpu = np.delete(left, first), np.delete(gpu, first)
    return now


def fixed_queues(durations: Durations) -> float:
    """Return the time until the last job ends if each GPU has every GPUS-th job, one after another."""
    return max(durations[gpu::GPUS].sum() for gpu in range(GPUS))


def longest_first(durations: Durations) -> float:
    """Return the time until the last job ends if a free GPU takes the longest job that is left."""
    return lease(np.sort(durations)[::-1])


def lower_bound(durations: Durations) -> float:
    """Return the time that no rule can beat: that of the longest job, or 1."""
    return max(durations.max(), durations.sum() / GPUS)


def simulate(spread: str) -> list[Row]:
    """Return a row for each rule. All rules get the same durations."""
    rng = np.random.default_rng(0)
    samples = [SPREADS[spread](rng) for _ in range(REPETITIONS)]
    rows = []
    for rule in (lease, modulo, fixed_queues, longest_first, lower_bound):
        times = np.array([rule(durations) / (durations.sum() / GPUS) for durations in samples])
        low, high = np.percentile(times, [2.5, 97.5])
        values = {"mean": times.mean(), "low": low, "high": high, "busy_gpus": GPUS * (1 / times).mean()}
        rows.append({"durations": spread, "rule": rule.__name__, **{k: f"{v:.3g}" for k, v in values.items()}})
    return rows


def main() -> None:
    rows = [row for spread in SPREADS for row in simulate(spread)]
    write_rows(HERE / "queueing.csv", rows)
    for row in rows:
        print("  ".join(f"{value:<24}" for value in row.values()))


if __name__ == "__main__":
    main()
