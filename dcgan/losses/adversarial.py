"""Adversarial losses of the discriminator and the generator. D returns raw logits: it has no sigmoid."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dcgan.common.arg_checks import check_number

Logits = Float[Tensor, " n"]
Scalar = Float[Tensor, ""]


class Loss:
    """The objectives of both networks. Both are minimized.

    Attributes:
        generator: Called with the logits of the fake images, returns the generator's objective.
        generator_needs_real: True if `generator` is called with (fake_logits, real_logits), as relativistic losses are.
            The updated D then judges the real images again.
        discriminator_minimum: The lowest value of the discriminator's objective, None if there is none. The health
            callback reports a D that comes close to it.
    """

    generator: Callable[..., Scalar]
    generator_needs_real = False
    discriminator_minimum: float | None = None

    def discriminator(self, real_logits: Logits, fake_logits: Logits) -> Scalar:
        """Return the discriminator's objective."""
        raise NotImplementedError

    def output(self, logits: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return D(x) of the loss's formulas: the logit, or a probability for cross-entropy losses."""
        return logits


class Minimax(Loss):
    """The GAN paper's value function, which saturates for G (Goodfellow et al. 2014, equation 1).

    Args:
        label_smoothing: One-sided: real labels are 1 - label_smoothing (Salimans et al. 2016, section 3.4). In [0, 1).
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        check_number("label_smoothing", label_smoothing, 0, 1, brackets="[)")
        self.real_label = 1 - label_smoothing
        # the entropy of the smoothed label
        self.discriminator_minimum = sum(-p * math.log(p) for p in (label_smoothing, self.real_label) if p > 0)

    def discriminator(self, real_logits: Logits, fake_logits: Logits) -> Scalar:
        """Return -E[log D(x)] - E[log(1 - D(G(z)))]."""
        real = F.binary_cross_entropy_with_logits(real_logits, torch.full_like(real_logits, self.real_label))
        return real + F.softplus(fake_logits).mean()

    def generator(self, fake_logits: Logits) -> Scalar:
        """Return E[log(1 - D(G(z)))]."""
        return -F.softplus(fake_logits).mean()

    def output(self, logits: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return logits.sigmoid()


class NonSaturating(Minimax):
    """Minimax for D, with the generator objective that does not saturate (Goodfellow et al. 2014, section 3)."""

    def generator(self, fake_logits: Logits) -> Scalar:
        """Return -E[log D(G(z))]."""
        return F.softplus(-fake_logits).mean()


class Hinge(Loss):
    """The hinge loss (Lim and Ye 2017; Miyato et al. 2018, equations 16 and 17)."""

    discriminator_minimum = 0.0

    def discriminator(self, real_logits: Logits, fake_logits: Logits) -> Scalar:
        """Return E[max(0, 1 - D(x))] + E[max(0, 1 + D(G(z)))]."""
        return F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()

    def generator(self, fake_logits: Logits) -> Scalar:
        """Return -E[D(G(z))]."""
        return -fake_logits.mean()


class LeastSquares(Loss):
    """The least-squares loss with labels 0 and 1 (Mao et al. 2017, equation 9)."""

    discriminator_minimum = 0.0

    def discriminator(self, real_logits: Logits, fake_logits: Logits) -> Scalar:
        """Return E[(D(x) - 1)^2] / 2 + E[D(G(z))^2] / 2."""
        return ((real_logits - 1).square().mean() + fake_logits.square().mean()) / 2

    def generator(self, fake_logits: Logits) -> Scalar:
        """Return E[(D(G(z)) - 1)^2] / 2."""
        return (fake_logits - 1).square().mean() / 2


class Wasserstein(Loss):
    """The critic's estimate of the Wasserstein distance (Arjovsky et al. 2017). It needs a gradient penalty."""

    def discriminator(self, real_logits: Logits, fake_logits: Logits) -> Scalar:
        """Return E[D(G(z))] - E[D(x)]."""
        return fake_logits.mean() - real_logits.mean()

    def generator(self, fake_logits: Logits) -> Scalar:
        """Return -E[D(G(z))]."""
        return -fake_logits.mean()
