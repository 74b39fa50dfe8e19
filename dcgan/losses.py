"""Adversarial losses: each says what the discriminator and what the generator minimise.

All take raw logits (N,) and return a scalar; there is no sigmoid inside the discriminator. `output` maps logits to
D(x) as the loss reads it: a probability for the cross-entropy losses, the raw score for the others.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dcgan.checks import check_number

Logits = Float[Tensor, " n"]
Scalar = Float[Tensor, ""]


class Minimax:
    """The GAN paper's value function, saturating for G (Goodfellow et al. 2014, equation 1).

    label_smoothing: one-sided: real labels are 1 - label_smoothing (Salimans et al. 2016, section 3.4), in [0, 1).
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        check_number("label_smoothing", label_smoothing, 0, 1, brackets="[)")
        self.real_label = 1 - label_smoothing

    def discriminator(self, real_logits: Logits, fake_logits: Logits) -> Scalar:
        """-E[log D(x)] - E[log(1 - D(G(z)))]"""
        real = F.binary_cross_entropy_with_logits(real_logits, torch.full_like(real_logits, self.real_label))
        return real + F.softplus(fake_logits).mean()

    def generator(self, fake_logits: Logits) -> Scalar:
        """E[log(1 - D(G(z)))]"""
        return -F.softplus(fake_logits).mean()

    def output(self, logits: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return logits.sigmoid()


class NonSaturating(Minimax):
    """Minimax's discriminator with the generator's objective that does not saturate (GAN paper, section 3)."""

    def generator(self, fake_logits: Logits) -> Scalar:
        """-E[log D(G(z))]"""
        return F.softplus(-fake_logits).mean()


class Hinge:
    """The hinge loss (Lim and Ye 2017; Miyato et al. 2018, equations 16 and 17)."""

    def discriminator(self, real_logits: Logits, fake_logits: Logits) -> Scalar:
        """E[max(0, 1 - D(x))] + E[max(0, 1 + D(G(z)))]"""
        return F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()

    def generator(self, fake_logits: Logits) -> Scalar:
        """-E[D(G(z))]"""
        return -fake_logits.mean()

    def output(self, logits: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return logits


class LeastSquares:
    """The least-squares loss with labels 0 and 1 (Mao et al. 2017, equation 9)."""

    def discriminator(self, real_logits: Logits, fake_logits: Logits) -> Scalar:
        """E[(D(x) - 1)^2] / 2 + E[D(G(z))^2] / 2"""
        return ((real_logits - 1).square().mean() + fake_logits.square().mean()) / 2

    def generator(self, fake_logits: Logits) -> Scalar:
        """E[(D(G(z)) - 1)^2] / 2"""
        return (fake_logits - 1).square().mean() / 2

    def output(self, logits: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return logits


class Wasserstein:
    """The critic's estimate of the Wasserstein distance (Arjovsky et al. 2017); needs a gradient penalty."""

    def discriminator(self, real_logits: Logits, fake_logits: Logits) -> Scalar:
        """E[D(G(z))] - E[D(x)]"""
        return fake_logits.mean() - real_logits.mean()

    def generator(self, fake_logits: Logits) -> Scalar:
        """-E[D(G(z))]"""
        return -fake_logits.mean()

    def output(self, logits: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return logits


Loss = Minimax | Hinge | LeastSquares | Wasserstein
