"""The optimizer of one network."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from dcgan.common.arg_checks import check_number


class Adam:
    """Settings of Adam (Kingma and Ba 2015). The DCGAN paper uses lr 2e-4 and beta1 0.5 (section 4).

    Args:
        lr: Learning rate, > 0.
        betas: Decay of the running averages of the gradient and its square, each in [0, 1).

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(self, lr: float, betas: Sequence[float]) -> None:
        check_number("lr", lr, 0, math.inf, brackets="()")
        if not isinstance(betas, Sequence) or len(betas) != 2:
            raise ValueError(f"betas must be two numbers in [0, 1), got {betas!r}")
        for beta in betas:
            check_number("betas", beta, 0, 1, brackets="[)")
        self.lr, self.betas = float(lr), (float(betas[0]), float(betas[1]))  # torch rejects a mix of int and float

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Adam:
        """Return a fused optimizer, which updates all parameters in one kernel, on the CPU and on CUDA."""
        return torch.optim.Adam(parameters, lr=self.lr, betas=self.betas, fused=True)
