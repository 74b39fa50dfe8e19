"""The training step: who is updated, by which gradient, at what cost."""

import copy

import pytest
import torch
from torch import nn

from dcgan import penalties
from dcgan.gan import GAN
from dcgan.seeding import Stream, derive_seed
from tests.building import TwoSteps, build_gan
from tests.conftest import TINY

REAL = torch.rand(8, 1, 28, 28)


def parameters(network: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in network.parameters()]


def equal(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


class Watched(TwoSteps):
    """Records both networks at each backward pass and after each optimizer step."""

    def __init__(self, gan: GAN) -> None:
        super().__init__(gan)
        self.states: list[tuple[list[torch.Tensor], list[torch.Tensor], dict[str, torch.Tensor]]] = []
        self.record()
        for optimizer in gan.optimizers():
            step = optimizer.step

            def step_and_record(step=step):
                step()
                self.record()

            optimizer.step = step_and_record

    def record(self) -> None:
        d = {name: value.clone() for name, value in self.gan.discriminator.state_dict().items()}
        self.states.append((parameters(self.gan.discriminator), parameters(self.gan.generator), d))


@pytest.mark.parametrize("extra", [[], ["loss=wasserstein_gp"], ["discriminator.spectral_norm=true"]])
def test_a_d_step_changes_only_d_and_a_g_step_only_g(extra):
    watched = Watched(build_gan(*TINY, *extra))
    watched.gan.training_step((REAL, None), 0)
    (d0, g0, _), (d1, g1, buffers1), (d2, g2, buffers2) = watched.states
    assert not equal(d0, d1)
    assert equal(g0, g1)
    assert equal(d1, d2)
    assert not equal(g1, g2)
    for name, value in buffers1.items():  # running statistics and singular vectors too
        assert torch.equal(value, buffers2[name]), name


@pytest.mark.parametrize("loss", ["non_saturating", "minimax", "hinge", "least_squares"])
def test_each_gradient_is_the_one_of_the_stated_objective(loss):
    gan = build_gan(*TINY, f"loss={loss}")
    step = TwoSteps(gan)
    # the same step by hand: D's objective on the old D, then G's on the new one, each from its definition
    generator, discriminator = copy.deepcopy(gan.generator), copy.deepcopy(gan.discriminator)
    torch.manual_seed(derive_seed(gan.seed, Stream.TRAINING, 0, 0))
    fake = generator(torch.randn(8, 8))
    real_d, fake_d = discriminator(REAL), discriminator(fake.detach())
    p_real, p_fake = real_d.sigmoid(), fake_d.sigmoid()
    objective_d = {
        "non_saturating": -(p_real.log() + (1 - p_fake).log()).mean(),
        "minimax": -(p_real.log() + (1 - p_fake).log()).mean(),
        "hinge": (1 - real_d).clamp(min=0).mean() + (1 + fake_d).clamp(min=0).mean(),
        "least_squares": ((real_d - 1) ** 2 + fake_d**2).mean() / 2,
    }[loss]
    gradient_d = torch.autograd.grad(objective_d, list(discriminator.parameters()))

    step.gan.training_step((REAL, None), 0)

    for ours, theirs in zip(gan.discriminator.parameters(), gradient_d, strict=True):
        torch.testing.assert_close(ours.grad, theirs, rtol=1e-4, atol=1e-6)
    new_d = gan.discriminator(fake)
    objective_g = {
        "non_saturating": -new_d.sigmoid().log().mean(),
        "minimax": (1 - new_d.sigmoid()).log().mean(),
        "hinge": -new_d.mean(),
        "least_squares": ((new_d - 1) ** 2).mean() / 2,
    }[loss]
    gradient_g = torch.autograd.grad(objective_g, list(generator.parameters()))
    for ours, theirs in zip(gan.generator.parameters(), gradient_g, strict=True):
        torch.testing.assert_close(ours.grad, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("k", [1, 3])
def test_a_step_is_k_d_updates_on_their_own_batches_and_one_g_update(k):
    gan = build_gan(*TINY, f"discriminator_steps={k}")
    watched = Watched(gan)
    calls, seen = [], []
    gan.generator.register_forward_hook(lambda m, args, out: calls.append((torch.is_grad_enabled(), out.detach())))
    gan.discriminator.register_forward_pre_hook(lambda m, args: seen.append(args[0].detach()))
    real = torch.rand(8 * k, 1, 28, 28)
    gan.training_step((real, None), 0)
    assert len(watched.states) == 1 + k + 1
    # k generator forwards, all fresh; only the last one, which G learns from, keeps its graph
    assert [grad for grad, _ in calls] == [False] * (k - 1) + [True]
    assert len({fake.sum().item() for _, fake in calls}) == k
    # each pass of D sees real and fake side by side, at the end G's D pass sees the last fakes again
    for both, part, (_, fake) in zip(seen[:-1], real.chunk(k), calls, strict=True):
        assert torch.equal(both, torch.cat((part, fake)))
    assert torch.equal(seen[-1], calls[-1][1])
    assert gan.step == 1
    assert gan.optimizer_steps_per_step == k + 1


def test_nothing_of_a_step_is_read_by_the_host(monkeypatch):
    """Each of these would make a GPU stop and wait."""
    gan = build_gan(*TINY, "ema.decay=.9", "loss=wasserstein_gp")
    step = TwoSteps(gan)

    def refuse(*args, **kwargs):
        raise AssertionError("the host reads a tensor")

    for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__"):
        monkeypatch.setattr(torch.Tensor, name, refuse)
    step.run(REAL)
    monkeypatch.undo()


def test_noise_is_a_function_of_seed_rank_and_step():
    def first_z(seed: int, step: int, rank: int = 0) -> torch.Tensor:
        gan = build_gan(*TINY)
        gan.seed, gan.step = seed, step
        type(gan).global_rank, saved = rank, type(gan).global_rank
        seen = []
        gan.generator.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
        try:
            TwoSteps(gan).gan.training_step((REAL, None), 0)
        finally:
            type(gan).global_rank = saved
        return seen[0]

    base = first_z(0, 0)
    torch.rand(3)  # somebody else's draw
    assert torch.equal(first_z(0, 0), base)
    for other in (first_z(1, 0), first_z(0, 1), first_z(0, 0, rank=1)):
        assert not torch.equal(other, base)


@pytest.mark.parametrize("extra", [[], ["ema.decay=.9"]])
def test_sampling_leaves_the_training_as_it_is(extra):
    gan = build_gan(*TINY, *extra)
    before = {name: value.clone() for name, value in gan.state_dict().items()}
    random_state = torch.get_rng_state()
    first = gan.sample(gan.fixed_z)
    gan.sample(gan.fresh_z(5))
    assert torch.equal(torch.get_rng_state(), random_state)
    assert gan.generator.training
    for name, value in gan.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert first.dtype == torch.uint8
    torch.testing.assert_close(gan.sample(gan.fixed_z[:1]), first[:1], atol=1, rtol=0)  # no batch mates


def test_streams_of_random_numbers_never_meet():
    seeds = [
        derive_seed(seed, stream, *rest) for seed in (0, 1) for stream in Stream for rest in ((), (0,), (1,), (0, 0))
    ]
    assert len(set(seeds)) == len(seeds)


def test_fresh_noise_is_fresh_at_each_step():
    gan = build_gan(*TINY)
    first = gan.fresh_z(4)
    assert torch.equal(first, gan.fresh_z(4))
    gan.step = 1
    assert not torch.equal(first, gan.fresh_z(4))


@pytest.mark.parametrize("penalty", ["r1", "wasserstein_gp"])
def test_a_penalty_with_batch_norm_in_d_is_refused_and_says_why(penalty):
    with pytest.raises(ValueError, match="each image's gradient depend on the other images of its batch"):
        build_gan(*TINY, f"penalty={penalty}", "discriminator_normalization=batch")


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("discriminator_steps=0", "discriminator_steps must be an integer >= 1, got 0"),
        ("ema.decay=1", r"ema.decay must be a number in \[0, 1\), got 1"),
        ("optimizer.lr=-1", r"lr must be a number in \(0, inf\), got -1"),
        ("optimizer.betas=[.5]", r"betas must be two numbers in \[0, 1\), got \[0.5\]"),
        ("optimizer.betas=[.5,1]", r"betas must be a number in \[0, 1\), got 1"),
    ],
)
def test_bad_values_are_refused(override, sentence):
    with pytest.raises(Exception, match=sentence):
        build_gan(*TINY, override)


@pytest.mark.parametrize("penalty", ["r1", "wasserstein_gp"])
def test_a_penalty_takes_a_pack_for_an_image(penalty, monkeypatch):
    """One gradient, and for Wasserstein's one place between real and fake, for all images of a pack."""
    gan = build_gan(*TINY, f"penalty={penalty}", "discriminator.pack=2")
    seen = []
    monkeypatch.setattr(penalties, "gradient_norm_squared", lambda critic, x: seen.append(x) or critic(x).square())
    real = torch.rand(8, 1, 28, 28)
    TwoSteps(gan).run(real)
    assert seen[0].shape == (4, 2, 28, 28)
    if penalty == "r1":
        assert torch.equal(seen[0].flatten(0, 1)[:, None], real)
    else:
        torch.manual_seed(0)
        zeros, ones = torch.zeros(4, 2, 28, 28), torch.ones(4, 2, 28, 28)
        penalties.WassersteinGP().penalty(gan.discriminator, ones, zeros)
        assert all(len(place.unique()) == 1 for place in seen[-1])
