"""Random numbers as functions of counters: what step s on rank r draws depends on (seed, r, s) and on nothing else.

So pictures, logs and evaluations in between cannot disturb a training, each process of a distributed run has its own
noise, and a resumed run draws what the uninterrupted one would have drawn.
"""

import numpy as np
import torch


def derive_seed(*counters: int) -> int:
    """A seed in [0, 2^63) that is well mixed (numpy's SeedSequence) from non-negative integers."""
    return int(np.random.SeedSequence(counters).generate_state(1, np.uint64)[0] >> np.uint64(1))


def derive_generator(device: torch.device, *counters: int) -> torch.Generator:
    """A generator on `device`, seeded from the counters."""
    return torch.Generator(device).manual_seed(derive_seed(*counters))


def seed_device(device: torch.device, *counters: int) -> None:
    """Seed the global generator of `device` (noise, dropout, penalties) from the counters, without a device sync.

    torch.manual_seed would do for all devices at once, but formats a stack trace for each one not yet in use.
    """
    seed = derive_seed(*counters)
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.get_device_module(device).manual_seed(seed)
