"""Conditional networks, from the labels of the data to the metrics."""

import json
from itertools import cycle
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from torch import nn

from dcgan.common.errors import UserError
from dcgan.evaluation import probes
from dcgan.evaluation.probes import LinearProbe, generate_labelled, nearest_neighbor_errors
from dcgan.metrics.classes import LabelAgreement
from dcgan.metrics.features import ImageFeatures
from dcgan.metrics.real_images import RealStatistics
from dcgan.models.layers import ConditionalSequential, WeightLayer
from dcgan.sampling.trained_generator import load_generator
from tests.building import build_gan, run_steps
from tests.conftest import TINY, compose_config, options
from tests.run_files import RUN, different_tensors, events, weights
from tests.test_configs import check_two_steps

CONDITIONAL = ["conditional=concat", "conditional=projection"]
LABEL = torch.arange(8) % 10
REAL = torch.rand(8, 1, 28, 28)


def input_widths(network: nn.Module) -> list[int]:
    """Return the input channels or features of each layer: a residual block is part of a stage, which is a layer."""
    sequences = [m for m in network.modules() if isinstance(m, ConditionalSequential)]
    layers = [layer for sequence in sequences for layer in sequence]
    layers += [layer for name, layer in network.named_children() if name in ("to_image", "logit")]
    first = [next((m for m in layer.modules() if isinstance(m, WeightLayer)), None) for layer in layers]
    return [m.in_features if isinstance(m, nn.Linear) else m.in_channels for m in first if m is not None]


PAIRS = list(zip(options("model"), cycle(options("discriminator")), strict=False))  # each choice at least once


@pytest.mark.parametrize(("model", "discriminator"), PAIRS)
def test_every_layer_gets_label(model, discriminator):
    plain = build_gan(*TINY, f"model={model}", f"discriminator={discriminator}")
    gan = build_gan(*TINY, f"model={model}", f"discriminator={discriminator}", "conditional=concat")
    for network, unconditional in ((gan.generator, plain.generator), (gan.discriminator, plain.discriminator)):
        assert input_widths(network) == [n + 10 for n in input_widths(unconditional)]


@pytest.mark.parametrize("conditional", CONDITIONAL)
@pytest.mark.parametrize("model", options("model"))
def test_every_model_trains_conditionally(model, conditional):
    check_two_steps(*TINY, f"model={model}", conditional)


@pytest.mark.parametrize("conditional", CONDITIONAL)
def test_networks_without_dense_layers_train_conditionally(conditional):
    check_two_steps(*TINY, "model.hidden_width=0", conditional)


@pytest.mark.parametrize("conditional", CONDITIONAL)
def test_keras_networks_and_penalties_train_conditionally(conditional):
    check_two_steps(*TINY, "model=keras_mnist", "discriminator=keras_mnist", conditional)
    check_two_steps(*TINY, "experiment=wgan_gp", conditional)
    check_two_steps(*TINY, "penalty=r1", "discriminator.spectral_norm=true", conditional)


def test_projection_adds_inner_product_of_label_embedding_and_features():
    gan = build_gan(*TINY, "conditional=projection")
    d = gan.discriminator.eval()
    features = d.head(d.down_blocks(REAL))
    expected = d.logit(features).squeeze(1) + (d.embedding.weight.T[LABEL] * features).sum(1)
    torch.testing.assert_close(d(REAL, LABEL), expected)
    assert input_widths(d) == input_widths(build_gan(*TINY).discriminator)  # the other layers do not get the label


def test_fakes_have_labels_of_real_images():
    gan = build_gan(*TINY, "conditional=concat", "discriminator_steps=2")
    calls = []
    for name, network in (("G", gan.generator), ("D", gan.discriminator)):
        network.register_forward_pre_hook(lambda _, args, name=name: calls.append((name, args[1].tolist())))
    run_steps(gan, torch.rand(16, 1, 28, 28), 1)
    first, second = (torch.arange(16) % 10).view(2, 8).tolist()
    assert calls == [
        *[("G", first), ("D", first), ("D", first)],
        *[("G", second), ("D", second), ("D", second), ("D", second)],
    ]


def test_penalty_uses_label():
    gan = build_gan(*TINY, "conditional=concat", "penalty=r1")
    seen = []
    gan.penalty.penalty = lambda critic, real, fake: (
        seen.append((critic(real.images), real.logits)) or real.logits.sum()
    )
    run_steps(gan, REAL, 1)
    ((of_critic, of_update),) = seen
    assert torch.equal(of_critic, of_update)


def test_label_is_required_by_conditional_networks_and_rejected_by_others():
    for conditional, label, message in (
        (["conditional=concat"], None, "label is required: the network is conditional, with 10 classes"),
        ([], LABEL, "label must be None: the network is unconditional"),
    ):
        gan = build_gan(*TINY, *conditional)
        for network, x in ((gan.generator, torch.randn(8, 8)), (gan.discriminator, REAL)):
            with pytest.raises(ValueError, match=message):
                network(x, label)


def test_same_z_gives_different_image_per_label():
    gan = build_gan(*TINY, "conditional=concat")
    z = gan.fixed_z[:1].expand(10, -1)
    images = gan.sample(z, torch.arange(10))
    assert len({tuple(image.flatten().tolist()) for image in images}) == 10
    assert gan.fixed_label.tolist() == [0, 1, 2, 3]


def test_run_saves_label_prior_and_logs_label_agreement(dcgan_train, dcgan_evaluate):
    settings = ["metrics.every_n_steps=1", "ema.decay=0.9", "conditional=concat", "data.limit=40"]
    outcome = dcgan_train(*TINY, *RUN, "max_steps=3", *settings)
    assert outcome.code == 0, outcome.err
    data = compose_config("data.limit=40", "conditional=concat").data
    module = instantiate(data)
    module.setup("fit")
    frequencies = torch.bincount(module.train_labels, minlength=10) / 40
    for network in ("generator", "ema.network"):
        assert torch.equal(weights()[f"{network}.label_prior"], frequencies)
    logged = events()
    assert [event.step for event in logged.Scalars("test/label_agreement")] == [1, 2, 3]

    assert dcgan_evaluate("checkpoint=run/checkpoints/last.ckpt").code == 0
    content = json.loads(Path("run/checkpoints/last.evaluation.json").read_text())
    assert content["metrics"]["label_agreement"] == pytest.approx(logged.Scalars("test/label_agreement")[-1].value)
    assert content["floor"]["label_agreement"] is not None
    generator = load_generator("run/checkpoints/last.ckpt")
    labels = generator.labels(4000, 0)
    assert torch.allclose(labels.bincount(minlength=10) / 4000, frequencies, atol=0.03)
    assert torch.equal(labels[:100], generator.labels(100, 0))
    assert not torch.equal(labels, generator.labels(4000, 1))


def test_label_metrics_get_labels_of_generated_samples(dcgan_train, dcgan_evaluate, monkeypatch):
    seen = []
    compute = LabelAgreement.__call__

    def record_labels(self, samples, real):
        seen.append(samples.labels)
        return compute(self, samples, real)

    monkeypatch.setattr(LabelAgreement, "__call__", record_labels)
    dcgan_train(*TINY, *RUN, "max_steps=1", "conditional=concat", "seed=3")
    expected = load_generator("run/checkpoints/last.ckpt").labels(16, 3)
    assert torch.equal(seen.pop(), expected)
    dcgan_evaluate("checkpoint=run/checkpoints/last.ckpt", "seed=3", "evaluator=light")
    assert torch.equal(seen[-1], expected)  # the baseline is computed before


def test_label_agreement_is_share_of_samples_in_class_of_their_label():
    logits = torch.eye(10)[[3, 1, 4, 1]]
    images = torch.zeros(4, 1, 28, 28, dtype=torch.uint8)
    judged = ImageFeatures(images, {}, logits, torch.tensor([3, 1, 4, 5]))
    assert LabelAgreement()(judged, None) == {"label_agreement": 0.75}


def test_resumed_conditional_run_is_bit_identical(dcgan_train):
    options = [*TINY, "trainer=cpu", "conditional=projection", "data.limit=40"]
    dcgan_train(*options, "max_steps=7", "hydra.run.dir=uninterrupted")
    dcgan_train(*options, "max_steps=3", "hydra.run.dir=resumed")
    assert dcgan_train("ckpt_path=resumed/checkpoints/last.ckpt", "max_steps=7").code == 0
    assert not different_tensors(weights("uninterrupted"), weights("resumed"))


def test_nearest_neighbor_probe_writes_error_rates(trained_run, dcgan_evaluate):
    trained_run("max_steps=1", "conditional=concat")
    probe = ["probe=nearest_neighbour", "probe.n=500"]
    outcome = dcgan_evaluate("checkpoint=run/checkpoints/last.ckpt", *probe, "evaluator=light")
    assert outcome.code == 0, outcome.err
    content = json.loads(Path("run/checkpoints/last.evaluation.json").read_text())
    for values in (content["metrics"], content["floor"]):
        assert 0 <= values["nearest_neighbour_error"] <= 1
    assert "nearest_neighbour_error" in outcome.out


def test_nearest_neighbor_probe_rejects_unconditional_model(trained_run, dcgan_evaluate):
    trained_run("max_steps=1")
    outcome = dcgan_evaluate("checkpoint=run/checkpoints/last.ckpt", "probe=nearest_neighbour", "evaluator=none")
    assert outcome.code == 1
    assert "probe=nearest_neighbour needs a conditional model" in outcome.err


def test_linear_probe_rejects_conditional_model(dcgan_evaluate, conditional_run):
    outcome = dcgan_evaluate(f"checkpoint={conditional_run}", "probe=linear", "evaluator=none")
    assert outcome.code == 1
    assert "probe=linear needs an unconditional model" in outcome.err


def test_nearest_neighbor_error_of_real_images_is_low(real_mnist):
    real = RealStatistics(real_mnist, [], None, torch.device("cpu"))
    real.test_images, real.test_labels = real.test_images[:500], real.test_labels[:500]
    images, labels = real.train_images[:5000], real.train_labels[:5000]
    (_, error_of_1000), (n, error) = nearest_neighbor_errors(images.split([1000, 4000]), labels, real)
    assert n == 5000
    assert 0.05 < error < error_of_1000 < 0.25  # of the first 500 test images; 3.1 % with 50,000 images and all of them
    [(_, whole)] = nearest_neighbor_errors([images], labels, real)
    assert whole == error
    [(_, wrong)] = nearest_neighbor_errors([images], labels.roll(1), real)
    assert wrong > 0.8


def test_generate_labelled_returns_all_samples_in_blocks(conditional_run, monkeypatch):
    monkeypatch.setattr(probes, "IMAGE_BLOCK_SIZE", 400)
    generator = load_generator(conditional_run, "cpu")
    blocks, labels = generate_labelled(generator, 900, seed=1)
    samples = list(blocks)
    assert [len(block) for block in samples] == [400, 400, 100]
    expected = torch.cat(list(generator.generate(generator.z(900, 1), labels)))
    assert torch.equal(torch.cat(samples), expected)


def test_images_have_class_of_their_folder(tmp_path, dcgan_train):
    for i, name in enumerate(["cat", "dog", "fox"]):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for j in range(4):
            Image.new("L", (16, 16), 20 + 80 * i + j).save(tmp_path / "pictures" / name / f"{j}.png")
    folder = ["data=image_folder", f"data.root={tmp_path / 'pictures'}", "data.image_size=16", "data.test_fraction=0"]
    small = [*TINY, *RUN, *folder, "max_steps=1", "conditional=concat"]
    outcome = dcgan_train(*small, "data.classes=3")
    assert outcome.code == 0, outcome.err
    assert torch.allclose(weights()["generator.label_prior"], torch.full((3,), 1 / 3))

    module = instantiate(compose_config(*folder, "conditional=concat", "data.classes=3", "data.batch_size=12").data)
    module.setup("fit")
    ((images, labels),) = module.train_dataloader()
    assert torch.equal((images.flatten(1)[:, 0].int() - 20) // 80, labels.int())

    elsewhere = [*small, "hydra.run.dir=elsewhere"]
    assert (
        "must contain data.classes=2 folders of images, one for each class"
        in dcgan_train(*elsewhere, "data.classes=2").err
    )
    assert "data.classes must be an integer >= 0, got None" in dcgan_train(*elsewhere).err


def test_labels_above_classes_are_rejected(dcgan_train):
    outcome = dcgan_train(*TINY, *RUN, "max_steps=1", "conditional=concat", "data.classes=3")
    assert outcome.code == 1
    assert "the highest label, got 3" in outcome.err


def test_projection_without_classes_is_rejected(dcgan_train):
    outcome = dcgan_train(*TINY, *RUN, "max_steps=1", "discriminator.projection=true")
    assert "discriminator.projection must be false, or true with classes" in outcome.err


def test_label_out_of_range_is_rejected(trained_run):
    trained_run("max_steps=1", "conditional=concat")
    generator = load_generator("run/checkpoints/last.ckpt")
    for label in (10, -1, 2.5, True):
        with pytest.raises(UserError, match="label must be one of 0 to 9"):
            generator.sample(1, label=label)
    assert generator.sample(3, label=7).shape == (3, 1, 28, 28)


def test_batches_pair_images_with_their_labels():
    data = instantiate(compose_config(*TINY, "conditional=concat").data)
    data.setup("fit")
    _, stored = data.load(train=True)
    for images, labels in data.train_dataloader():
        corner = images[:, 0, 0, 0].long()  # training image i has the value i there
        assert torch.equal(labels, stored[corner])


def test_linear_probe_rejects_packed_discriminator():
    settings = (*TINY, "discriminator.pack=2")
    config = OmegaConf.to_container(compose_config(*settings), resolve=True)
    packed = {"config": config, "state_dict": build_gan(*settings).state_dict()}
    with pytest.raises(UserError, match="probe=linear needs a D that sees one image at a time, got pack=2"):
        LinearProbe(10).check(packed)
