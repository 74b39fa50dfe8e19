"""Gradient penalties of the discriminator, added to loss_d.

Each takes D's gradient per image, so D must not have batch norm. A pack of images counts as one image.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from dcgan.common.arg_checks import check_number

Images = Float[Tensor, "n c h w"]
Scalar = Float[Tensor, ""]
Critic = Callable[[Images], Float[Tensor, " n"]]  # D, with the labels of the images bound, if any


def gradient_norm_squared(critic: Critic, x: Images) -> Float[Tensor, " n"]:
    """Return |dD(x)/dx|^2 of each image, differentiable with respect to D's weights."""
    x = x.detach().requires_grad_(True)
    # no logit depends on another image, so the gradient of the sum holds the gradient of each
    (gradient,) = torch.autograd.grad(critic(x).float().sum(), x, create_graph=True)
    return gradient.float().square().sum(dim=(1, 2, 3))


class GradientPenalty:
    """A weighted penalty of D's gradient.

    Args:
        weight: Factor of the penalty, > 0.
    """

    def __init__(self, weight: float = 10.0) -> None:
        check_number("weight", weight, 0, math.inf, brackets="()")
        self.weight = weight

    def __call__(self, critic: Critic, real: Images, fake: Images) -> Scalar:
        """Return the penalty of a batch of real and fake images of the same size."""
        raise NotImplementedError


class WassersteinGP(GradientPenalty):
    """weight * E[(|grad D(x_hat)| - 1)^2], x_hat between real and fake (Gulrajani et al. 2017, Algorithm 1)."""

    def __call__(self, critic: Critic, real: Images, fake: Images) -> Scalar:
        epsilon = torch.rand(len(real), 1, 1, 1, device=real.device)
        x_hat = torch.lerp(fake.float(), real, epsilon)  # fake may be bf16
        # the constant keeps the gradient of the square root finite where D is flat
        norm = (gradient_norm_squared(critic, x_hat) + 1e-12).sqrt()
        return self.weight * (norm - 1).square().mean()


class R1(GradientPenalty):
    """weight / 2 * E[|grad D(x)|^2] on real images (Mescheder et al. 2018, equation 9)."""

    def __call__(self, critic: Critic, real: Images, fake: Images) -> Scalar:
        return self.weight / 2 * gradient_norm_squared(critic, real).mean()
