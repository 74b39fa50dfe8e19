"""Networks that are told the class, from the data's labels to the figures."""

import json
from functools import partial
from itertools import cycle
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from torch import nn

from dcgan.checks import UserError
from dcgan.metrics.classes import LabelAgreement
from dcgan.metrics.judge import Judged
from dcgan.metrics.probe import LinearProbe, nearest_neighbour_error
from dcgan.metrics.reference import Reference
from dcgan.networks import beside, one_hot
from dcgan.trained import load_generator
from tests.building import TwoSteps, build_gan
from tests.conftest import TINY, compose_config, options
from tests.runs import RUN, differing, events, weights
from tests.test_configs import check_two_steps

CONDITIONAL = ["conditional=concat", "conditional=projection"]
LABEL = torch.arange(8) % 10
REAL = torch.rand(8, 1, 28, 28)


def inputs(network: nn.Module) -> list[int]:
    """What each layer with weights of its own takes: channels or features."""
    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    layers = [m for m in network.modules() if isinstance(m, kinds)]
    return [m.in_features if isinstance(m, nn.Linear) else m.in_channels for m in layers]


def test_the_label_is_constant_planes_beside_maps_and_numbers_beside_features():
    y = one_hot(torch.tensor([2, 0]), 3)
    assert y.tolist() == [[0, 0, 1], [1, 0, 0]]
    assert beside(torch.zeros(2, 4), y).tolist() == [[0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 1, 0, 0]]
    maps = beside(torch.zeros(2, 1, 5, 5), y)
    assert maps.shape == (2, 4, 5, 5)
    assert (maps[0, 3] == 1).all()
    assert maps[0, :3].abs().sum() == 0
    assert beside(maps, None) is maps


PAIRS = list(zip(options("model"), cycle(options("discriminator")), strict=False))  # each at least once


@pytest.mark.parametrize(("model", "discriminator"), PAIRS)
def test_every_layer_of_both_networks_sees_the_label(model, discriminator):
    plain = build_gan(*TINY[:-1], f"model={model}", f"discriminator={discriminator}")
    gan = build_gan(*TINY[:-1], f"model={model}", f"discriminator={discriminator}", "conditional=concat")
    for network, without in ((gan.generator, plain.generator), (gan.discriminator, plain.discriminator)):
        assert inputs(network) == [n + 10 for n in inputs(without)]


@pytest.mark.parametrize("conditional", CONDITIONAL)
@pytest.mark.parametrize("model", [m for m in options("model") if m != "keras_mnist"])
def test_every_model_trains_conditionally(model, conditional):
    check_two_steps(*TINY, f"model={model}", conditional)


@pytest.mark.parametrize("conditional", CONDITIONAL)
def test_networks_without_dense_layers_train_conditionally(conditional):
    check_two_steps(*TINY, "model.hidden_width=0", conditional)


@pytest.mark.parametrize("conditional", CONDITIONAL)
def test_the_keras_pair_and_penalties_train_conditionally(conditional):
    check_two_steps(*TINY[:-1], "model=keras_mnist", "discriminator=keras_mnist", conditional)
    check_two_steps(*TINY, "experiment=wgan_gp", conditional)
    check_two_steps(*TINY, "penalty=r1", "discriminator.spectral_norm=true", conditional)


def test_projection_adds_the_inner_product_of_the_labels_embedding_and_the_features():
    gan = build_gan(*TINY, "conditional=projection")
    d = gan.discriminator.eval()
    features = d.head(d.halvings(REAL))
    expected = d.logit(features).squeeze(1) + (d.embedding.weight.T[LABEL] * features).sum(1)
    torch.testing.assert_close(d(REAL, LABEL), expected)
    assert inputs(d)[:-1] == inputs(build_gan(*TINY).discriminator)  # its layers themselves do not see it


def test_fakes_have_the_labels_of_the_reals():
    gan = build_gan(*TINY, "conditional=concat", "discriminator_steps=2")
    seen = []
    for name, network in (("G", gan.generator), ("D", gan.discriminator)):
        network.register_forward_pre_hook(lambda _, args, name=name: seen.append((name, args[1].tolist())))
    images, labels = torch.rand(16, 1, 28, 28), torch.arange(16) % 10
    TwoSteps(gan).gan.training_step((images, labels), 0)
    first, second = labels[:8].tolist(), labels[8:].tolist()
    assert seen == [
        *[("G", first), ("D", first + first)],
        *[("G", second), ("D", second + second), ("D", second)],
    ]


def test_the_penalty_is_that_of_the_discriminator_of_the_label():
    gan = build_gan(*TINY, "conditional=concat", "penalty=r1")
    critic = partial(gan.discriminator, label=LABEL)
    x = REAL.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(gan.discriminator(x, LABEL).sum(), x)
    expected = 5 * gradient.square().sum(dim=(1, 2, 3)).mean()
    torch.testing.assert_close(gan.penalty.penalty(critic, REAL, REAL), expected)


def test_a_label_is_needed_by_conditional_networks_and_refused_by_others():
    for conditional, label in ((["conditional=concat"], None), ([], LABEL)):
        gan = build_gan(*TINY, *conditional)
        for network, x in ((gan.generator, torch.randn(8, 8)), (gan.discriminator, REAL)):
            with pytest.raises(ValueError, match="a label must be given to a conditional network and to no other"):
                network(x, label)


def test_another_label_is_another_image_of_the_same_z():
    gan = build_gan(*TINY, "conditional=concat")
    z = gan.fixed_z[:1].expand(10, -1)
    images = gan.sample(z, torch.arange(10))
    assert len({tuple(image.flatten().tolist()) for image in images}) == 10
    assert gan.fixed_label.tolist() == [0, 1, 2, 3]


def test_a_run_knows_the_shares_of_its_labels_and_what_was_asked_for(dcgan_train, dcgan_evaluate):
    outcome = dcgan_train(*TINY, *RUN, "max_steps=3", "ema.decay=.9", "conditional=concat", "data.limit=40")
    assert outcome.code == 0, outcome.err
    data = compose_config("data.limit=40", "conditional=concat").data
    module = instantiate(data)
    module.setup("fit")
    shares = torch.bincount(module.train_labels, minlength=10) / 40
    for network in ("generator", "ema.network"):
        assert torch.equal(weights()[f"{network}.label_prior"], shares)
    board = events()
    assert [event.step for event in board.Scalars("val/label_agreement")] == [1, 2, 3]

    assert dcgan_evaluate("checkpoint=run/checkpoints/last.ckpt").code == 0
    content = json.loads(Path("run/checkpoints/last.evaluation.json").read_text())
    assert content["metrics"]["label_agreement"] == pytest.approx(board.Scalars("val/label_agreement")[-1].value)
    assert content["floor"]["label_agreement"] is not None
    generator = load_generator("run/checkpoints/last.ckpt")
    drawn = generator.labels(4000, 0)
    assert torch.allclose(drawn.bincount(minlength=10) / 4000, shares, atol=0.03)
    assert torch.equal(drawn[:100], generator.labels(100, 0))
    assert not torch.equal(drawn, generator.labels(4000, 1))


def test_figures_of_labels_are_given_the_labels_that_were_drawn(dcgan_train, dcgan_evaluate, monkeypatch):
    given = []
    count = LabelAgreement.__call__

    def spied(self, samples, real):
        given.append(samples.labels)
        return count(self, samples, real)

    monkeypatch.setattr(LabelAgreement, "__call__", spied)
    dcgan_train(*TINY, *RUN, "max_steps=1", "conditional=concat", "seed=3")
    expected = load_generator("run/checkpoints/last.ckpt").labels(16, 3)
    assert torch.equal(given.pop(), expected)
    dcgan_evaluate("checkpoint=run/checkpoints/last.ckpt", "seed=3", "evaluator=light")
    assert torch.equal(given[-1], expected)  # the floor comes before


def test_the_label_agreement_counts_what_the_judge_sees():
    logits = torch.eye(10)[[3, 1, 4, 1]]
    images = torch.zeros(4, 1, 28, 28, dtype=torch.uint8)
    judged = Judged(images, images, torch.zeros(4, 2), logits, torch.tensor([3, 1, 4, 5]))
    assert LabelAgreement()(judged, None) == {"label_agreement": 0.75}


def test_a_conditional_run_resumes_to_the_same_weights(dcgan_train):
    options = [*TINY, "trainer=cpu", "conditional=projection", "data.limit=40"]
    dcgan_train(*options, "max_steps=7", "hydra.run.dir=whole")
    dcgan_train(*options, "max_steps=3", "hydra.run.dir=parts")
    assert dcgan_train("ckpt_path=parts/checkpoints/last.ckpt", "max_steps=7").code == 0
    assert not differing(weights("whole"), weights("parts"))


def test_the_nearest_neighbour_test_of_the_paper(dcgan_train, dcgan_evaluate):
    dcgan_train(*TINY, *RUN, "max_steps=2", "conditional=concat")
    outcome = dcgan_evaluate("checkpoint=run/checkpoints/last.ckpt", "probe=nearest_neighbour", "evaluator=light")
    assert outcome.code == 0, outcome.err
    content = json.loads(Path("run/checkpoints/last.evaluation.json").read_text())
    for values in (content["metrics"], content["floor"]):
        assert 0 <= values["nearest_neighbour_error"] <= 1
    assert "nearest_neighbour_error" in outcome.out


def test_an_unconditional_model_cannot_take_the_nearest_neighbour_test(dcgan_train, dcgan_evaluate):
    dcgan_train(*TINY, *RUN, "max_steps=1")
    outcome = dcgan_evaluate("checkpoint=run/checkpoints/last.ckpt", "probe=nearest_neighbour", "evaluator=none")
    assert outcome.code == 1
    assert "needs a model that knows labels: use conditional=concat" in outcome.err


def test_a_conditional_discriminator_is_not_asked_what_it_is_told(dcgan_evaluate, conditional_run):
    outcome = dcgan_evaluate(f"checkpoint={conditional_run}", "probe=linear", "evaluator=none")
    assert outcome.code == 1
    assert "the D of a conditional model is told the label" in outcome.err


def test_nearest_neighbours_fitted_on_real_images_make_few_errors(real_mnist):
    real = Reference(real_mnist, None)
    real.test_images, real.test_labels = real.test_images[:500], real.test_labels[:500]
    images, labels = real.train_images[:5000], real.train_labels[:5000]
    right = nearest_neighbour_error(images, labels, real)
    assert 0.05 < right < 0.12  # with 5,000 images and the first 500 test images; 3.1 % with 50,000 and all
    assert nearest_neighbour_error(images, labels.roll(1), real) > 0.8


def test_pictures_in_folders_have_their_folders_class(tmp_path, dcgan_train):
    for i, name in enumerate(["cat", "dog", "fox"]):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for j in range(4):
            Image.new("L", (16, 16), 20 + 80 * i + j).save(tmp_path / "pictures" / name / f"{j}.png")
    folder = ["data=image_folder", f"data.root={tmp_path / 'pictures'}", "data.image_size=16", "data.workers=0"]
    small = [*TINY, *RUN, *folder, "max_steps=1", "conditional=concat"]
    outcome = dcgan_train(*small, "data.classes=3")
    assert outcome.code == 0, outcome.err
    assert torch.allclose(weights()["generator.label_prior"], torch.full((3,), 1 / 3))

    module = instantiate(compose_config(*folder, "conditional=concat", "data.classes=3", "data.batch_size=12").data)
    module.setup("fit")
    ((images, labels, _),) = module.train_dataloader()
    assert torch.equal((images.flatten(1)[:, 0].int() - 20) // 80, labels.int())

    elsewhere = [*small, "hydra.run.dir=elsewhere"]
    assert "must hold 2 folders of pictures, one for each class" in dcgan_train(*elsewhere, "data.classes=2").err
    assert "data.classes must be an integer >= 0, got None" in dcgan_train(*elsewhere).err


def test_labels_beyond_the_classes_are_refused(dcgan_train):
    outcome = dcgan_train(*TINY, *RUN, "max_steps=1", "conditional=concat", "data.classes=3")
    assert outcome.code == 1
    assert "set data.classes to more than the 3 given" in outcome.err


def test_a_projection_without_classes_is_refused(dcgan_train):
    outcome = dcgan_train(*TINY, *RUN, "max_steps=1", "discriminator.projection=true")
    assert "discriminator.projection must be false, or true with classes" in outcome.err


def test_a_label_that_does_not_exist_is_refused(dcgan_train):
    dcgan_train(*TINY, *RUN, "max_steps=1", "conditional=concat")
    generator = load_generator("run/checkpoints/last.ckpt")
    for label in (10, -1, 2.5, True):
        with pytest.raises(UserError, match="label must be one of 0 to 9"):
            generator.sample(1, label=label)
    assert generator.sample(3, label=7).shape == (3, 1, 28, 28)


def test_every_image_of_a_batch_comes_with_its_own_label():
    data = instantiate(compose_config(*TINY, "conditional=concat").data)
    data.setup("fit")
    _, stored = data.load(train=True)
    for images, labels in data.train_dataloader():
        corner = data.pixels.decode(images)[:, 0, 0, 0].long()  # training image i has i there
        assert torch.equal(labels, stored[corner])


def test_a_discriminator_of_packs_is_not_asked_before_anything_is_drawn():
    packed = {"config": OmegaConf.to_container(compose_config(*TINY, "discriminator.pack=2"), resolve=True)}
    with pytest.raises(UserError, match="this D looks at several together"):
        LinearProbe(10).check(packed)
