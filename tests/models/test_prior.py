import pytest
import torch

from dcgan.models.prior import Normal, Uniform

CPU = torch.device("cpu")


@pytest.mark.parametrize(("prior", "std", "bound"), [(Normal(), 1, 9), (Uniform(), 3**-0.5, 1)])
def test_latent_vectors_have_moments_of_prior(prior, std, bound):
    z = prior(2000, 50, CPU, torch.Generator().manual_seed(0))
    assert z.mean().item() == pytest.approx(0, abs=0.01)
    assert z.std().item() == pytest.approx(std, rel=0.01)
    assert z.abs().max() <= bound


@pytest.mark.parametrize("prior", [Normal(), Uniform()])
def test_explicit_rng_leaves_global_rng_unchanged(prior):
    state = torch.get_rng_state()
    first = prior(3, 4, CPU, torch.Generator().manual_seed(5))
    assert torch.equal(first, prior(3, 4, CPU, torch.Generator().manual_seed(5)))
    assert torch.equal(torch.get_rng_state(), state)
