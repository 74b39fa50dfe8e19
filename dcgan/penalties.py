"""Gradient penalties, added to loss_d. Each takes D's gradient per image, so D must not mix the images of a batch; a
pack of images that D judges together is one of them."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from dcgan.checks import check_number

Images = Float[Tensor, "n c h w"]
Scalar = Float[Tensor, ""]
Critic = Callable[[Images], Float[Tensor, " n"]]  # D, with the images' labels where there are some


def gradient_norm_squared(discriminator: Critic, x: Images) -> Float[Tensor, " n"]:
    """|dD(x)/dx|^2 of each image, with the graph that its own gradient needs."""
    x = x.detach().requires_grad_(True)
    # the sum's gradient is each image's own: no logit depends on another image
    (gradient,) = torch.autograd.grad(discriminator(x).float().sum(), x, create_graph=True)
    return gradient.float().square().sum(dim=(1, 2, 3))


class GradientPenalty:
    """A penalty of D's gradient, times a weight. Raises ValueError unless weight > 0."""

    def __init__(self, weight: float = 10.0) -> None:
        check_number("weight", weight, 0, math.inf, brackets="()")
        self.weight = weight

    def penalty(self, discriminator: Critic, real: Images, fake: Images) -> Scalar:
        """What is added to loss_d."""
        raise NotImplementedError


class WassersteinGP(GradientPenalty):
    """weight * E[(|grad D(x^)| - 1)^2], x^ between real and fake (Gulrajani et al. 2017, Algorithm 1)."""

    def penalty(self, discriminator: Critic, real: Images, fake: Images) -> Scalar:
        epsilon = torch.rand(len(real), 1, 1, 1, device=real.device)
        between = torch.lerp(fake.float(), real, epsilon)  # fake may come in bf16
        # the small constant keeps the root's gradient finite where D is flat
        norm = (gradient_norm_squared(discriminator, between) + 1e-12).sqrt()
        return self.weight * (norm - 1).square().mean()


class R1(GradientPenalty):
    """weight / 2 * E[|grad D(x)|^2] on real images (Mescheder et al. 2018, equation 9)."""

    def penalty(self, discriminator: Critic, real: Images, fake: Images) -> Scalar:
        return self.weight / 2 * gradient_norm_squared(discriminator, real).mean()
