"""Counter-based seeding: the random numbers of step s on rank r depend on (seed, r, s) only.

Sampling, logging and evaluation therefore cannot affect a training, each rank has its own noise, and a resumed run
gets the random numbers of an uninterrupted one.
"""

from enum import IntEnum

import numpy as np
import torch


class Stream(IntEnum):
    """The purpose of random numbers. Streams of one seed are independent."""

    ORDER = 0  # order of the training images
    FIXED = 1  # noise of the sample grids
    STATISTICS = 3  # noise that initializes the running statistics
    TRAINING = 4  # all random numbers of a training step
    SAMPLES = 5  # noise of a trained generator's samples
    LABELS = 6  # labels of these samples
    ARITHMETIC = 7  # choice of the latent vectors of a term


def derive_seed(seed: int, stream: Stream, *counters: int) -> int:
    """Hash non-negative integers to a seed in [0, 2^63) with numpy's SeedSequence."""
    # SeedSequence maps (5,) and (5, 0) to the same seed, hence the number of counters
    entropy = (len(counters), seed, stream, *counters)
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1))


def derive_generator(device: torch.device, seed: int, stream: Stream, *counters: int) -> torch.Generator:
    """Return a new random generator on `device`, seeded by `derive_seed`."""
    return torch.Generator(device).manual_seed(derive_seed(seed, stream, *counters))


def seed_device(device: torch.device, seed: int, stream: Stream, *counters: int) -> None:
    """Seed the global random generator of `device` by `derive_seed`, without synchronizing host and device.

    torch.manual_seed seeds all devices, but formats a stack trace for each one that is not initialized.
    """
    derived = derive_seed(seed, stream, *counters)
    if device.type == "cpu":
        torch.default_generator.manual_seed(derived)
    else:
        torch.get_device_module(device).manual_seed(derived)
