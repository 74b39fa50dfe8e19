"""Gradient penalties of the discriminator, added to loss_d.

Each takes D's gradient per image, so D must not have batch norm. A pack of images counts as one image.
"""

import math
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dcgan.common.arg_checks import check_int, check_number

Images = Float[Tensor, "n c h w"]
Logits = Float[Tensor, " n"]
Scalar = Float[Tensor, ""]
Critic = Callable[[Images], Logits]  # D, with the labels of the images bound, if any


class Judged(NamedTuple):
    """Inputs of D, and their logits."""

    images: Images
    logits: Logits


def gradient_norm_squared(images: Images, logits: Logits) -> Float[Tensor, " n"]:
    """Return |dD(x)/dx|^2 of each image, differentiable with respect to D's weights.

    Args:
        images: D's inputs, which require gradients.
        logits: Their logits.
    """
    # no logit depends on another image, so the gradient of the sum holds the gradient of each
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.float().square().sum(dim=(1, 2, 3))


class GradientPenalty:
    """A weighted penalty of D's gradient.

    Args:
        weight: Factor of the penalty, > 0.
        every: Apply the penalty in each k-th step only, with k times the weight, >= 1 (lazy regularization, Karras et
            al. 2020, appendix B).

    Attributes:
        of_real, of_fake: The penalty reads D's gradient with respect to the real or the fake images of the batch, which
            then require gradients. It reuses their forward pass.
    """

    of_real: ClassVar[bool] = False
    of_fake: ClassVar[bool] = False

    def __init__(self, weight: float = 10.0, every: int = 1) -> None:
        check_number("weight", weight, 0, math.inf, brackets="()")
        check_int("penalty.every", every, 1)
        self.weight, self.every = weight, every

    def is_due(self, step: int) -> bool:
        return step % self.every == 0

    def __call__(self, critic: Critic, real: Judged, fake: Judged) -> Scalar:
        """Return the weighted penalty of a step in which it is due."""
        return self.every * self.weight * self.penalty(critic, real, fake)

    def penalty(self, critic: Critic, real: Judged, fake: Judged) -> Scalar:
        """Return the penalty of a batch.

        Args:
            critic: D, for other inputs than these.
            real, fake: Its inputs, equally many, and their logits.
        """
        raise NotImplementedError


class WassersteinGP(GradientPenalty):
    """weight * E[(|grad D(x_hat)| - 1)^2], x_hat between real and fake (Gulrajani et al. 2017, Algorithm 1)."""

    def penalty(self, critic: Critic, real: Judged, fake: Judged) -> Scalar:
        epsilon = torch.rand(len(real.images), 1, 1, 1, device=real.images.device)
        x_hat = torch.lerp(fake.images.float(), real.images, epsilon).requires_grad_(True)  # fake may be bf16
        # the constant keeps the gradient of the square root finite where D is flat
        norm = (gradient_norm_squared(x_hat, critic(x_hat).float()) + 1e-12).sqrt()
        return (norm - 1).square().mean()


class R1(GradientPenalty):
    """weight / 2 * E[|grad D(x)|^2] on real images (Mescheder et al. 2018, equation 9)."""

    of_real = True

    def penalty(self, critic: Critic, real: Judged, fake: Judged) -> Scalar:
        return gradient_norm_squared(*real).mean() / 2


class R1R2(GradientPenalty):
    """R1 plus the same on fake images, R2 (Mescheder et al. 2018, section 4.1; Huang et al. 2024, section 2.2)."""

    of_real = of_fake = True

    def penalty(self, critic: Critic, real: Judged, fake: Judged) -> Scalar:
        return (gradient_norm_squared(*real).mean() + gradient_norm_squared(*fake).mean()) / 2
