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


class CrossEntropyLoss(Loss):
    """Base class of the losses whose discriminator minimizes a cross-entropy with labels of real images.

    Args:
        label_smoothing: One-sided: real labels are 1 - label_smoothing (Salimans et al. 2016, section 3.4). In [0, 1).
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        check_number("label_smoothing", label_smoothing, 0, 1, brackets="[)")
        self.real_label = 1 - label_smoothing
        self.discriminator_minimum = entropy(self.real_label)


class Minimax(CrossEntropyLoss):
    """The GAN paper's value function, which saturates for G (Goodfellow et al. 2014, equation 1).

    Args:
        label_smoothing: As in `CrossEntropyLoss`.
    """

    def discriminator(self, real_logits: Logits, fake_logits: Logits) -> Scalar:
        """Return -E[log D(x)] - E[log(1 - D(G(z)))]."""
        return cross_entropy(real_logits, self.real_label) + F.softplus(fake_logits).mean()

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


class Relativistic(CrossEntropyLoss):
    """The relativistic pairing loss: D compares each real image with one fake (Jolicoeur-Martineau 2019, section 4.1).

    R3GAN's loss (Huang et al. 2024, section 2.1), there with `penalty=r1_r2`. Logits have no zero: only their
    differences matter.

    Args:
        label_smoothing: As in `CrossEntropyLoss`: the label says that the real image of a pair is the real one.
    """

    generator_needs_real = True

    def discriminator(self, real_logits: Logits, fake_logits: Logits) -> Scalar:
        """Return -E[log sigmoid(D(x) - D(G(z)))]."""
        return cross_entropy(real_logits - fake_logits, self.real_label)

    def generator(self, fake_logits: Logits, real_logits: Logits) -> Scalar:
        """Return -E[log sigmoid(D(G(z)) - D(x))]."""
        return F.softplus(real_logits - fake_logits).mean()


class RelativisticAverage(Relativistic):
    """Relativistic to the average logit of the other kind in the batch (Jolicoeur-Martineau 2019, section 4.2).

    Args:
        label_smoothing: As in `CrossEntropyLoss`.
    """

    def discriminator(self, real_logits: Logits, fake_logits: Logits) -> Scalar:
        """Return -E[log sigmoid(D(x) - E D(G(z)))] - E[log sigmoid(E D(x) - D(G(z)))]."""
        real = cross_entropy(real_logits - fake_logits.mean(), self.real_label)
        return real + F.softplus(fake_logits - real_logits.mean()).mean()

    def generator(self, fake_logits: Logits, real_logits: Logits) -> Scalar:
        """Return -E[log sigmoid(D(G(z)) - E D(x))] - E[log sigmoid(E D(G(z)) - D(x))]."""
        fake = F.softplus(real_logits.mean() - fake_logits).mean()
        return fake + F.softplus(real_logits - fake_logits.mean()).mean()


def cross_entropy(logits: Logits, label: float) -> Scalar:
    """Return the mean cross-entropy of the logits and one label."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


def entropy(label: float) -> float:
    """Return the lowest cross-entropy of a label."""
    return sum(-p * math.log(p) for p in (label, 1 - label) if p > 0)
