"""Prior distributions p(z) of the latent vectors."""

import torch
from jaxtyping import Float
from torch import Tensor

RNG = torch.Generator | None


class Prior:
    """A distribution of latent vectors."""

    def __str__(self) -> str:
        """Return the distribution of a component in mathematical notation, or the name of the class."""
        return type(self).__name__

    def __call__(self, n: int, latent_dim: int, device: torch.device, rng: RNG = None) -> Float[Tensor, "n latent_dim"]:
        """Sample n latent vectors on `device` from `rng`, a generator on that device (default: its global one)."""
        raise NotImplementedError


class Normal(Prior):
    """z ~ N(0, 1), the default."""

    def __str__(self) -> str:
        return "N(0, 1)"

    def __call__(self, n: int, latent_dim: int, device: torch.device, rng: RNG = None) -> Float[Tensor, "n latent_dim"]:
        return torch.randn(n, latent_dim, device=device, generator=rng)


class Uniform(Prior):
    """z ~ U(-1, 1), as in the DCGAN paper (Radford et al. 2016, section 3)."""

    def __str__(self) -> str:
        return "U(-1, 1)"

    def __call__(self, n: int, latent_dim: int, device: torch.device, rng: RNG = None) -> Float[Tensor, "n latent_dim"]:
        return torch.rand(n, latent_dim, device=device, generator=rng).mul_(2).sub_(1)
