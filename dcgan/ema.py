"""The exponential moving average of a network's weights."""

import copy

import torch
from torch import nn

from dcgan.checks import check_number


class EMA(nn.Module):
    """network <- decay * network + (1 - decay) * model, after each update (Yazici et al. 2019).

    The decay rises to its value as (1 + step) / (10 + step), so that the untrained start is soon forgotten.
    torch.optim.swa_utils.AveragedModel does the same but asks the device for its counter at each update, which
    stalls a GPU. Running statistics are averaged like the weights they belong to. Raises ValueError unless
    0 < decay < 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__()
        check_number("decay", decay, 0, 1, brackets="()")
        self.decay = decay
        self.network = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """step: how many updates came before this one."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averages: list[torch.Tensor] = list(self.network.parameters())
        current: list[torch.Tensor] = list(model.parameters())
        for average, value in zip(self.network.buffers(), model.buffers(), strict=True):
            if average.is_floating_point():
                averages.append(average)
                current.append(value)
            else:  # batch norm's count of batches
                average.copy_(value)
        torch._foreach_lerp_(averages, current, 1 - decay)

    def train(self, mode: bool = True) -> "EMA":
        """An average is never trained: it stays in eval mode."""
        return super().train(False)
