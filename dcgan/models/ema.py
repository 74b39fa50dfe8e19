"""The exponential moving average of a network's weights."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dcgan.common.arg_checks import check_number


class EMA(nn.Module):
    """An exponential moving average of a model: average = decay * average + (1 - decay) * model (Yazici et al. 2019).

    Running statistics are averaged like weights. torch.optim.swa_utils.AveragedModel reads its counter from the device
    at each update, which stalls a GPU.

    Args:
        model: The network to average.
        decay: In (0, 1). It rises to this value as (1 + step) / (10 + step), so that the initial weights are soon
            forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__()
        check_number("decay", decay, 0, 1, brackets="()")
        self.decay = decay
        self.network = copy.deepcopy(model).eval().requires_grad_(False)

    def weight(self, step: int) -> float:
        """Return the weight of the model, 1 - decay, in the update of this step."""
        return 1 - min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, model: nn.Module, weight: Float[Tensor, ""]) -> None:
        """Move the average towards the model. The weight is a tensor, as a CUDA graph cannot record a number."""
        averages: list[Tensor] = list(self.network.parameters())
        values: list[Tensor] = list(model.parameters())
        for average, value in zip(self.network.buffers(), model.buffers(), strict=True):
            if average.is_floating_point():
                averages.append(average)
                values.append(value)
            else:  # batch norm's count of batches
                average.copy_(value)
        torch._foreach_lerp_(averages, values, [weight] * len(averages))

    def train(self, mode: bool = True) -> "EMA":
        """Stay in eval mode: the average is never trained."""
        return super().train(False)
