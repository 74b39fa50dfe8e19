"""The training step: which network is updated, with which gradient, and at what cost."""

import copy

import pytest
import torch
from torch import nn

from dcgan.common.seeding import Stream, derive_seed
from dcgan.gan import GAN
from dcgan.losses import gradient_penalties
from dcgan.models.augmentation import Augmentation
from tests.building import attach_optimizers, build_gan, run_steps
from tests.conftest import TINY

REAL = torch.rand(8, 1, 28, 28)
State = dict[str, torch.Tensor]


def copy_state(network: nn.Module) -> State:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def changed_parameters(network: nn.Module, before: State, after: State) -> list[str]:
    return [name for name, _ in network.named_parameters() if not torch.equal(before[name], after[name])]


def record_states(gan: GAN) -> list[tuple[State, State]]:
    """Attach optimizers. Return a list of the states of D and G: now, and (later) after each optimizer step."""
    attach_optimizers(gan)
    states = [(copy_state(gan.discriminator), copy_state(gan.generator))]
    for optimizer in gan.optimizers():

        def step_and_record(step=optimizer.step):
            step()
            states.append((copy_state(gan.discriminator), copy_state(gan.generator)))

        optimizer.step = step_and_record
    return states


@pytest.mark.parametrize("extra", [[], ["loss=wasserstein_gp"], ["discriminator.spectral_norm=true"]])
def test_d_update_changes_only_d_and_g_update_only_g(extra):
    gan = build_gan(*TINY, *extra)
    states = record_states(gan)
    gan.training_step((REAL, None), 0)
    (d0, g0), (d1, g1), (d2, g2) = states
    assert changed_parameters(gan.discriminator, d0, d1)
    assert not changed_parameters(gan.generator, g0, g1)
    assert changed_parameters(gan.generator, g1, g2)
    for name, value in d1.items():  # also running statistics and singular vectors
        assert torch.equal(value, d2[name]), name


@pytest.mark.parametrize("loss", ["non_saturating", "minimax", "hinge", "least_squares"])
def test_gradients_are_those_of_stated_objectives(loss):
    gan = build_gan(*TINY, f"loss={loss}")
    # the same step from the definitions: D's objective with the old D, then G's with the new D
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
    gradients_d = torch.autograd.grad(objective_d, list(discriminator.parameters()))

    run_steps(gan, REAL, 1)

    for parameter, expected in zip(gan.discriminator.parameters(), gradients_d, strict=True):
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-6)
    new_d = gan.discriminator(fake)
    objective_g = {
        "non_saturating": -new_d.sigmoid().log().mean(),
        "minimax": (1 - new_d.sigmoid()).log().mean(),
        "hinge": -new_d.mean(),
        "least_squares": ((new_d - 1) ** 2).mean() / 2,
    }[loss]
    gradients_g = torch.autograd.grad(objective_g, list(generator.parameters()))
    for parameter, expected in zip(gan.generator.parameters(), gradients_g, strict=True):
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("k", [1, 3])
def test_step_is_k_d_updates_on_separate_batches_and_one_g_update(k):
    gan = build_gan(*TINY, f"discriminator_steps={k}")
    states = record_states(gan)
    fakes, d_inputs = [], []
    gan.generator.register_forward_hook(lambda m, args, out: fakes.append(out.detach()))
    gan.discriminator.register_forward_pre_hook(lambda m, args: d_inputs.append(args[0].detach()))
    real = torch.rand(8 * k, 1, 28, 28)
    gan.training_step((real, None), 0)
    assert len(states) == 1 + k + 1
    assert len({fake.sum().item() for fake in fakes}) == k  # each D update has fresh fakes
    expected = [images for pair in zip(real.chunk(k), fakes, strict=True) for images in pair]
    for images, d_input in zip([*expected, fakes[-1]], d_inputs, strict=True):  # G learns from the last fakes
        assert torch.equal(images, d_input)
    assert gan.step == 1
    assert gan.optimizer_steps_per_step == k + 1


class RecordingAugmentation(Augmentation):
    """Records the inputs of both methods, and the outputs of `inputs`, which are half of its inputs."""

    def __init__(self) -> None:
        self.real_images, self.images, self.outputs = [], [], []

    def real(self, x):
        self.real_images.append(x)
        return x + 1

    def inputs(self, x):
        self.images.append(x)
        self.outputs.append(x / 2)
        return self.outputs[-1]


@pytest.mark.parametrize("generator_needs_real", [False, True])
def test_d_sees_augmented_images_in_both_updates(generator_needs_real, monkeypatch):
    gan = build_gan(*TINY, "penalty=r1")
    gan.augmentation = augmentation = RecordingAugmentation()
    monkeypatch.setattr(gan.loss, "generator_needs_real", generator_needs_real, raising=False)
    monkeypatch.setattr(gan.loss, "generator", lambda fake, real=None: -fake.mean())
    fakes, d_inputs, penalized = [], [], []
    gan.generator.register_forward_hook(lambda m, args, out: fakes.append(out))
    gan.discriminator.register_forward_pre_hook(lambda m, args: d_inputs.append(args[0]))
    monkeypatch.setattr(
        gan.penalty, "penalty", lambda critic, *judged: penalized.extend(x.images for x in judged) or torch.zeros(())
    )
    before = copy_state(gan.generator)
    run_steps(gan, REAL, 1)
    real, fake = REAL + 1, fakes[0]
    assert torch.equal(augmentation.real_images[0], REAL)
    expected = [real, fake, fake, real] if generator_needs_real else [real, fake, fake]
    for image, augmented, output, d_input in zip(
        expected, augmentation.images, augmentation.outputs, d_inputs, strict=True
    ):
        assert torch.equal(augmented, image)
        assert torch.equal(d_input, output)
    assert penalized[0] is d_inputs[0]
    assert penalized[1] is d_inputs[1]
    assert [images.requires_grad for images in augmentation.images[:3]] == [False, False, True]
    assert changed_parameters(gan.generator, before, copy_state(gan.generator))


def test_disabled_augmentation_does_not_change_the_weights():
    weights = []
    for option in ("augmentation=none", "augmentation=auto", "augmentation=flip"):
        gan = build_gan(*TINY, option)
        run_steps(gan, REAL)
        weights.append(copy_state(gan))
    for name, value in weights[0].items():
        assert torch.equal(weights[1][name], value), name
    assert any(not torch.equal(weights[2][name], value) for name, value in weights[0].items())


def test_default_augmentation_flips_mirrored_data():
    assert build_gan(*TINY).augmentation.description == ""
    assert build_gan(*TINY, "data.mirrored=true").augmentation.description == "flip"
    diffaugment = build_gan(*TINY, "augmentation=diffaugment", "data.mirrored=true", "output=sigmoid").augmentation
    assert diffaugment.description == "color, translation, cutout, flip"
    assert (diffaugment.gray, diffaugment.brightness) == (0.5, 0.25)


def test_step_does_not_synchronize_host_and_device(monkeypatch):
    gan = build_gan(*TINY, "ema.decay=0.9", "loss=wasserstein_gp", "augmentation=diffaugment", "data.mirrored=true")
    attach_optimizers(gan)

    def fail(*args, **kwargs):
        raise AssertionError("the host reads a tensor")

    with monkeypatch.context() as patch:
        for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__"):
            patch.setattr(torch.Tensor, name, fail)
        for i in range(2):
            gan.training_step((REAL, None), i)


def test_noise_is_a_function_of_seed_rank_and_step(monkeypatch):
    def first_z(seed: int, step: int, rank: int = 0) -> torch.Tensor:
        gan = build_gan(*TINY)
        gan.seed, gan.step = seed, step
        inputs = []
        gan.generator.register_forward_pre_hook(lambda m, args: inputs.append(args[0]))
        with monkeypatch.context() as patch:
            patch.setattr(GAN, "global_rank", rank)
            run_steps(gan, REAL, 1)
        return inputs[0]

    base = first_z(0, 0)
    torch.rand(3)  # other code uses the global generator
    assert torch.equal(first_z(0, 0), base)
    for other in (first_z(1, 0), first_z(0, 1), first_z(0, 0, rank=1)):
        assert not torch.equal(other, base)


@pytest.mark.parametrize("extra", [[], ["ema.decay=0.9"]])
def test_sampling_does_not_change_training_state(extra):
    gan = build_gan(*TINY, *extra)
    before = copy_state(gan)
    random_state = torch.get_rng_state()
    images = gan.sample(gan.fixed_z)
    gan.sample(gan.fixed_z[:3])
    assert torch.equal(torch.get_rng_state(), random_state)
    assert gan.generator.training
    for name, value in gan.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert images.dtype == torch.uint8
    # an image does not depend on its batch
    torch.testing.assert_close(gan.sample(gan.fixed_z[:1]), images[:1], atol=1, rtol=0)


def test_random_streams_have_distinct_seeds():
    seeds = [
        derive_seed(seed, stream, *rest) for seed in (0, 1) for stream in Stream for rest in ((), (0,), (1,), (0, 0))
    ]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("penalty", ["r1", "wasserstein_gp"])
def test_penalty_with_batch_norm_in_discriminator_is_rejected(penalty):
    with pytest.raises(ValueError, match="each image's gradient depend on the other images of its batch"):
        build_gan(*TINY, f"penalty={penalty}", "discriminator_normalization=batch")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("discriminator_steps=0", "discriminator_steps must be an integer >= 1, got 0"),
        ("ema.decay=1", r"ema.decay must be a number in \[0, 1\), got 1"),
        ("optimizer.lr=-1", r"Invalid learning rate: -1"),
        ("optimizer.betas=[0.5]", "list index out of range"),
        ("optimizer.betas=[0.5,1]", "Invalid beta parameter at index 1: 1.0"),
    ],
)
def test_values_out_of_range_are_rejected(override, message):
    with pytest.raises(Exception, match=message):
        build_gan(*TINY, override)


def test_penalty_reuses_the_forward_pass_and_is_left_out_of_other_steps(monkeypatch):
    gan = build_gan(*TINY, "penalty=r1_r2", "penalty.every=3")
    calls, penalized = [], []
    gan.discriminator.register_forward_hook(lambda m, args, logits: calls.append(gan.step))
    penalty = gan.penalty.penalty
    monkeypatch.setattr(gan.penalty, "penalty", lambda *args: penalized.append(gan.step) or penalty(*args))
    run_steps(gan, REAL, 5)
    assert calls == [step for step in range(5) for _ in range(3)]  # real and fake images, then G's update
    assert penalized == [0, 3]


@pytest.mark.parametrize("penalty", ["r1", "wasserstein_gp"])
def test_penalty_treats_pack_as_one_image(penalty, monkeypatch):
    """All images of a pack share one gradient norm and, with wasserstein_gp, one epsilon."""
    gan = build_gan(*TINY, f"penalty={penalty}", "discriminator.pack=2")
    inputs = []
    monkeypatch.setattr(
        gradient_penalties, "gradient_norm_squared", lambda x, logits: inputs.append(x) or logits.square()
    )
    real = torch.rand(8, 1, 28, 28)
    run_steps(gan, real)
    assert inputs[0].shape == (4, 2, 28, 28)
    if penalty == "r1":
        assert torch.equal(inputs[0].flatten(0, 1)[:, None], real)
    else:
        torch.manual_seed(0)
        zeros, ones = (gradient_penalties.Judged(torch.full((4, 2, 28, 28), value), None) for value in (0.0, 1.0))
        gradient_penalties.WassersteinGP()(gan.discriminator, ones, zeros)
        assert all(len(x_hat.unique()) == 1 for x_hat in inputs[-1])
