"""The optimizer of one network."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from dcgan.checks import check_number


class Adam:
    """Settings of Adam (Kingma and Ba 2015); the DCGAN paper's are lr 2e-4 and beta1 .5 (section 4).

    Raises ValueError unless lr > 0 and both betas are in [0, 1).
    """

    def __init__(self, lr: float, betas: Sequence[float]) -> None:
        check_number("lr", lr, 0, math.inf, brackets="()")
        if not isinstance(betas, Sequence) or len(betas) != 2:
            raise ValueError(f"betas must be two numbers in [0, 1), got {betas!r}")
        for beta in betas:
            check_number("betas", beta, 0, 1, brackets="[)")
        self.lr, self.betas = float(lr), (float(betas[0]), float(betas[1]))  # torch takes no integer beside a float

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Adam:
        """fused: one kernel for all parameters instead of several for each, on the CPU and on CUDA alike."""
        return torch.optim.Adam(parameters, lr=self.lr, betas=self.betas, fused=True)
