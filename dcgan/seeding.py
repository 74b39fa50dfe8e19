"""Random numbers as functions of counters: what step s on rank r draws depends on (seed, r, s) and on nothing else.

So pictures, logs and evaluations in between cannot disturb a training, each process of a distributed run has its own
noise, and a resumed run draws what the uninterrupted one would have drawn.
"""

from enum import IntEnum

import numpy as np
import torch


class Stream(IntEnum):
    """What random numbers are for: two streams of one seed never meet."""

    ORDER = 0  # of the training images
    FIXED = 1  # noise of the pictures that are compared over time
    FRESH = 2  # noise of the pictures that are not
    STATISTICS = 3  # noise behind the first running statistics
    TRAINING = 4  # all that a training step draws
    SAMPLES = 5  # noise of a trained generator's images
    LABELS = 6  # of those images
    ARITHMETIC = 7  # which latent vectors make a term


def derive_seed(seed: int, stream: Stream, *counters: int) -> int:
    """A seed in [0, 2^63), well mixed (numpy's SeedSequence) from non-negative integers."""
    # SeedSequence takes (5,) and (5, 0) for the same: their number tells them apart
    entropy = (len(counters), seed, stream, *counters)
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1))


def derive_generator(device: torch.device, seed: int, stream: Stream, *counters: int) -> torch.Generator:
    """A generator on `device`, seeded from the counters."""
    return torch.Generator(device).manual_seed(derive_seed(seed, stream, *counters))


def seed_device(device: torch.device, seed: int, stream: Stream, *counters: int) -> None:
    """Seed the global generator of `device` (noise, dropout, penalties) from the counters, without a device sync.

    torch.manual_seed would do for all devices at once, but formats a stack trace for each one not yet in use.
    """
    derived = derive_seed(seed, stream, *counters)
    if device.type == "cpu":
        torch.default_generator.manual_seed(derived)
    else:
        torch.get_device_module(device).manual_seed(derived)
