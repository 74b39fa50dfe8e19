from copy import deepcopy

import pytest
import torch
from hydra.utils import instantiate
from torch import nn

from dcgan.networks import Discriminator, Generator, ToFeatures, ToMap, doublings, hidden_activations, packed, widths
from dcgan.passes import frozen, separate_statistics, start_statistics
from tests.building import build_gan
from tests.conftest import TINY, compose_config


def build(*overrides: str) -> tuple[Generator, Discriminator]:
    config = compose_config(*overrides)
    return instantiate(config.model), instantiate(config.discriminator)


def channels_of(network: nn.Module, kind: type[nn.Module]) -> list[tuple[int, int]]:
    return [(m.in_channels, m.out_channels) for m in network.modules() if isinstance(m, kind)]


@pytest.mark.parametrize(
    ("image_size", "start", "k"), [(8, 4, 1), (14, 7, 1), (20, 5, 2), (28, 7, 2), (32, 4, 3), (48, 6, 3), (64, 4, 4)]
)
def test_image_size_is_a_start_of_4_to_7_doubled(image_size, start, k):
    assert doublings(image_size) == (start, k)


@pytest.mark.parametrize(
    ("image_size", "near"), [(30, "28 and 32"), (7, "8 and 10"), (4, "8 and 10"), (100, "96 and 112")]
)
def test_an_image_size_that_no_doublings_reach_is_refused(image_size, near):
    with pytest.raises(ValueError, match=f"image_size must be .* got {image_size}; the nearest are {near}"):
        doublings(image_size)


def test_widths_double_towards_the_small_maps_up_to_eightfold():
    assert widths(2, 64) == [128, 64]
    assert widths(3, 64) == [256, 128, 64]
    assert widths(4, 64) == [512, 256, 128, 64]
    assert widths(6, 1) == [8, 8, 8, 4, 2, 1]


@pytest.mark.parametrize(
    ("image_size", "up", "down"),
    [
        (28, [(128, 64), (64, 1)], [(1, 64), (64, 128)]),
        (32, [(256, 128), (128, 64), (64, 1)], [(1, 64), (64, 128), (128, 256)]),
    ],
)
def test_the_discriminator_mirrors_the_generator(image_size, up, down):
    generator, discriminator = build(f"data.image_size={image_size}")
    assert channels_of(generator, nn.ConvTranspose2d) == up
    assert channels_of(discriminator, nn.Conv2d) == down
    dense = [(m.in_features, m.out_features) for m in generator.modules() if isinstance(m, nn.Linear)]
    features = up[0][0] * doublings(image_size)[0] ** 2
    assert dense == [(100, 1024), (1024, features)]
    dense = [(m.in_features, m.out_features) for m in discriminator.modules() if isinstance(m, nn.Linear)]
    assert dense == [(features, 1024), (1024, 1)]


def test_from_64_pixels_the_networks_are_all_convolutional():
    generator, discriminator = build("data.image_size=64", "data.channels=3", "model.base_channels=8")
    assert channels_of(generator, nn.ConvTranspose2d) == [(100, 64), (64, 32), (32, 16), (16, 8), (8, 3)]
    assert not any(isinstance(m, nn.Linear) for m in generator.modules())
    assert [m.in_features for m in discriminator.modules() if isinstance(m, nn.Linear)] == [64 * 16]
    assert not any(isinstance(m, nn.BatchNorm1d) for m in (*generator.modules(), *discriminator.modules()))


@pytest.mark.parametrize(
    "overrides", [[], ["model.hidden_width=0"], ["model=keras_mnist", "discriminator=keras_mnist"]]
)
@pytest.mark.parametrize(("image_size", "channels"), [(8, 1), (28, 3), (48, 1), (64, 3)])
def test_sizes_flow_from_the_data_into_both_networks(overrides, image_size, channels):
    sizes = [f"data.image_size={image_size}", f"data.channels={channels}", "model.base_channels=4"]
    generator, discriminator = build(*sizes, *overrides)
    images = generator(torch.randn(2, 100))
    assert images.shape == (2, channels, image_size, image_size)
    assert discriminator(images).shape == (2,)


@pytest.mark.parametrize("choice", ["strided_conv", "keras_mnist"])
def test_a_packed_discriminator_judges_neighbours_as_one(choice):
    """PacGAN, section 3: the first layer alone grows, and takes the images of a pack as channels."""
    options = [*TINY, f"discriminator={choice}", "discriminator_normalization=none"]  # batch norm mixes the images
    (_, plain), (_, pairs) = build(*options), build(*options, "discriminator.pack=2")
    (first, *rest), (wider, *same) = ([tuple(p.shape) for p in d.parameters()] for d in (plain, pairs))
    assert wider == (first[0], 2, *first[2:])
    assert same == rest
    images = torch.rand(6, 1, 28, 28, requires_grad=True)
    logits = pairs.eval()(images)
    assert logits.shape == (3,)
    (gradient,) = torch.autograd.grad(logits[1], images)
    assert gradient.flatten(1).abs().sum(1).bool().tolist() == [False, False, True, True, False, False]
    assert torch.equal(pairs(packed(images, 2)), logits)
    with pytest.raises(ValueError, match="images must come in packs of 2, got 5"):
        pairs(images[:5])


def test_hidden_width_sets_both_networks_and_zero_takes_the_dense_layers_away():
    generator, discriminator = build("model.hidden_width=48")
    assert generator.start.hidden.layer.out_features == discriminator.head.hidden.layer.out_features == 48
    generator, discriminator = build("model.hidden_width=48", "discriminator.hidden_width=0")
    assert not hasattr(discriminator.head, "hidden")


def test_normalisation_is_behind_every_layer_but_the_first_of_d_and_the_last_of_each():
    generator, discriminator = build()
    assert [n for n, m in generator.named_modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)] == [
        "start.hidden.norm",
        "start.project.norm",
        "doublings.0.norm",
    ]
    assert [n for n, m in discriminator.named_modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)] == [
        "halvings.1.norm",
        "head.hidden.norm",
    ]
    # a layer in front of a norm has no bias; the others have
    for network in (generator, discriminator):
        for name, module in network.named_modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                block = network.get_submodule(name.rpartition(".")[0])
                assert (module.bias is None) == hasattr(block, "norm"), name


@pytest.mark.parametrize(
    ("choice", "conv", "dense"),
    [
        ("batch", nn.BatchNorm2d, nn.BatchNorm1d),
        ("instance", nn.InstanceNorm2d, None),
        ("layer", nn.GroupNorm, nn.LayerNorm),
        ("none", None, None),
    ],
)
def test_normalisation_can_be_chosen_per_network(choice, conv, dense):
    def kinds(network):
        return {type(m) for m in network.modules() if "Norm" in type(m).__name__}

    expected = {kind for kind in (conv, dense) if kind}
    generator, discriminator = build(f"normalization={choice}")
    assert kinds(generator) == kinds(discriminator) == expected  # D follows
    generator, discriminator = build(f"discriminator_normalization={choice}")
    assert kinds(generator) == {nn.BatchNorm2d, nn.BatchNorm1d}
    assert kinds(discriminator) == expected


def test_weights_start_as_the_paper_says():
    torch.manual_seed(0)
    for network in build():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear) and module.weight.numel() > 10_000:
                assert module.weight.mean().item() == pytest.approx(0, abs=1e-3)
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.03)
            if isinstance(module, nn.BatchNorm1d):
                assert module.weight.mean().item() == pytest.approx(1, abs=3e-3)
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.1)
            if getattr(module, "bias", None) is not None:
                assert not module.bias.any()


def test_pixel_shuffle_starts_without_a_checkerboard():
    generator, _ = build("model=pixel_shuffle")
    image = generator.to_image(torch.randn(1, 64, 14, 14))
    assert torch.equal(image[..., ::2, ::2], image[..., 1::2, 1::2])


def test_output_sets_the_last_activation_and_the_range_of_the_data():
    tanh, sigmoid = compose_config(), compose_config("output=sigmoid")
    assert isinstance(instantiate(tanh.model).output_activation, nn.Tanh)
    assert instantiate(tanh.output.pixels).low == -1
    assert isinstance(instantiate(sigmoid.model).output_activation, nn.Sigmoid)
    assert instantiate(sigmoid.output.pixels).low == instantiate(sigmoid.data).pixels.low == 0


def test_a_prelu_belongs_to_one_layer():
    generator, _ = build("activation=prelu")
    assert len({id(m) for m in hidden_activations(generator).values()}) == 3


def test_leaky_slopes_are_settable():
    generator, discriminator = build("activation=leaky_relu", "activation.negative_slope=.1")
    assert {m.negative_slope for m in hidden_activations(generator).values()} == {0.1}
    assert {m.negative_slope for m in hidden_activations(discriminator).values()} == {0.2}


def test_keras_networks_are_the_tutorials_own():
    generator, discriminator = build("model=keras_mnist", "discriminator=keras_mnist")
    assert channels_of(generator, nn.Conv2d) == [(128, 128), (128, 64), (64, 1)]
    assert generator.start.project.layer.out_features == 7 * 7 * 128
    assert channels_of(discriminator, nn.Conv2d) == [(1, 32), (32, 64), (64, 128), (128, 256)]
    assert [m.stride[0] for m in discriminator.modules() if isinstance(m, nn.Conv2d)] == [2, 2, 2, 1]
    assert [m.num_features for m in discriminator.modules() if isinstance(m, nn.BatchNorm2d)] == [64, 128, 256]
    assert {m.momentum for m in (*generator.modules(), *discriminator.modules()) if isinstance(m, nn.BatchNorm2d)} == {
        0.2
    }
    assert [m.p for m in discriminator.modules() if isinstance(m, nn.Dropout)] == [0.25] * 4
    assert discriminator.logit.in_features == 256 * 4 * 4
    padded = discriminator.halvings[1].layer(torch.ones(1, 32, 14, 14))
    assert padded.shape[-2:] == (8, 8)
    assert not padded[:, :, 7].any()
    assert not padded[:, :, :, 7].any()


def test_dropout_and_spectral_norm_are_options_of_the_discriminator():
    torch.manual_seed(0)
    _, discriminator = build("discriminator.dropout=.3", "discriminator.spectral_norm=true", "model.base_channels=8")
    assert [m.p for m in discriminator.modules() if isinstance(m, nn.Dropout)] == [0.3] * 3
    for module in discriminator.modules():
        if isinstance(module, nn.Linear):
            for _ in range(50):
                weight = module.weight
            assert torch.linalg.matrix_norm(weight, 2).item() == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("model.latent_dim=0", "latent_dim must be an integer >= 1, got 0"),
        ("model.latent_dim=1.5", "latent_dim must be an integer >= 1, got 1.5"),
        ("model.base_channels=0", "base_channels must be an integer >= 1, got 0"),
        ("model.hidden_width=-1", "hidden_width must be an integer >= 0, got -1"),
        ("discriminator.dropout=1", r"dropout must be a number in \[0, 1\), got 1"),
        ("data.image_size=30", "image_size must be .* got 30"),
    ],
)
def test_bad_sizes_are_refused(override, sentence):
    with pytest.raises(Exception, match=sentence):
        build(override)


@pytest.mark.parametrize("choice", ["strided_conv", "keras_mnist"])
def test_a_frozen_network_stays_as_it_is_and_still_passes_gradients_on(choice):
    _, discriminator = build(
        f"discriminator={choice}",
        "discriminator.spectral_norm=true",
        "model.base_channels=4",
        "discriminator.dropout=.5",
    )
    before = {name: value.clone() for name, value in discriminator.state_dict().items()}
    x = torch.randn(8, 1, 28, 28, requires_grad=True)
    with frozen(discriminator):
        discriminator(x).sum().backward()
    assert x.grad.abs().sum() > 0
    assert all(p.grad is None and p.requires_grad for p in discriminator.parameters())
    for name, value in discriminator.state_dict().items():
        assert torch.equal(value, before[name]), name
    discriminator(x)  # and outside, statistics move again
    assert any(not torch.equal(value, before[name]) for name, value in discriminator.state_dict().items())


def test_a_new_generator_draws_in_eval_mode_what_it_draws_in_training():
    generator, _ = build("model.base_channels=8")
    z = torch.randn(64, 100)
    trained = generator(z)
    start_statistics(generator, z)
    torch.testing.assert_close(generator.eval()(z), trained, atol=0.02, rtol=0)
    assert trained.std() > 0.05


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["normalization=layer"],
        ["normalization=instance"],
        ["normalization=none"],
        ["hidden_width=0", "data.channels=3"],
        ["conditional=concat"],
        ["conditional=projection", "hidden_width=0"],
        ["discriminator=keras_mnist", "discriminator.dropout=0"],
    ],
)
def test_one_pass_over_two_batches_is_two_passes(overrides):
    _, together = build("model.base_channels=4", *(overrides or ["hidden_width=16"]))
    apart, channels = deepcopy(together), 3 if "data.channels=3" in overrides else 1
    real, fake = torch.randn(8, channels, 28, 28), 3 * torch.randn(8, channels, 28, 28) + 1
    label = torch.arange(8) if together.classes else None
    both, both_labels = torch.cat((real, fake)), None if label is None else torch.cat((label, label))
    with separate_statistics(together, 2):
        logits = together(both, both_labels)
    expected = torch.cat((apart(real, label), apart(fake, label)))
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    weight = torch.randn(16)
    (logits * weight).sum().backward()
    (expected * weight).sum().backward()
    for (name, parameter), other in zip(together.named_parameters(), apart.parameters(), strict=True):
        difference = (parameter.grad - other.grad).norm() / other.grad.norm()
        assert difference < 1e-4, name  # float32 sums in another order
    for name, buffer in together.named_buffers():  # running statistics: the reals', then the fakes'
        torch.testing.assert_close(buffer, apart.state_dict()[name])
    # and outside a batch is one batch again
    torch.testing.assert_close(together(both, both_labels), apart(both, both_labels), atol=1e-4, rtol=1e-4)


def test_features_of_a_map_are_where_channels_last_has_them_in_memory():
    x = torch.randn(2, 3, 5, 5).to(memory_format=torch.channels_last)
    row = ToFeatures()(x)
    assert row.data_ptr() == x.data_ptr()
    assert torch.equal(row[:, :3], x[:, :, 0, 0])
    back = ToMap(3, 5)(row)
    assert back.data_ptr() == x.data_ptr()
    assert torch.equal(back, x)
    assert back.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("hidden_width", [256, 0])
@pytest.mark.parametrize("model", ["transposed_conv", "upsample_conv", "pixel_shuffle"])
def test_he_initialization_keeps_the_signal_where_nothing_normalises(model, hidden_width):
    def sizes(initialization: str) -> list[float]:
        """Of what each layer of G and then of D gives, its activation not yet applied."""
        sizes = ["model.base_channels=32", f"model.hidden_width={hidden_width}", "normalization=none"]
        gan = build_gan(f"model={model}", *sizes, f"initialization={initialization}", "samples.n=64")
        found: list[float] = []
        for network in (gan.generator, gan.discriminator):
            for module in hidden_activations(network).values():
                module.register_forward_pre_hook(lambda _, x: found.append(x[0].square().mean().sqrt().item()))
        gan.discriminator(gan.generator(gan.fixed_z))
        return found

    # z has a variance of 1, and so has what follows but for the edges of maps, which see fewer inputs
    assert all(0.7 < size < 1.6 for size in sizes("he"))
    assert min(sizes("dcgan")) < 0.1
