"""Names of generators; the pretrained models of the package."""

from pathlib import Path

import pytest
import torch
from hatchling.builders.wheel import WheelBuilder

from dcgan.common.command import PACKAGE
from dcgan.common.errors import UserError
from dcgan.sampling.base import load_matching_judge
from dcgan.sampling.locate import PRETRAINED, locate_generator, pretrained_names
from dcgan.sampling.trained_generator import load_generator

MAX_BYTES = 2_000_000
UNKNOWN = (
    r"there is no checkpoint nist: give a run's checkpoints/last\.ckpt, an export, hub:USER/NAME, or a pretrained "
    r"model \(mnist, mnist_conditional\)"
)


def test_pretrained_models_are_small_files_of_the_wheel():
    assert pretrained_names() == ["mnist", "mnist_conditional"]
    files = [path for path in PRETRAINED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MAX_BYTES
    packed = {file.distribution_path for file in WheelBuilder(str(PACKAGE.parent)).recurse_included_files()}
    assert {str(path.relative_to(PACKAGE.parent)) for path in files} <= packed


def test_pretrained_model_generates_digits():
    g = load_generator("mnist")
    images = g.sample(500, seed=1)
    probabilities = load_matching_judge(g).classify(images).softmax(dim=1)
    assert (probabilities.amax(dim=1) > 0.9).double().mean() > 0.9
    counts = probabilities.argmax(dim=1).bincount(minlength=10)
    assert counts.min() > 20


def test_pretrained_conditional_model_generates_the_given_digit():
    g = load_generator("mnist_conditional")
    assert g.classes == 10
    judge = load_matching_judge(g)
    agreement = [judge.classify(g.sample(50, label=k)).argmax(dim=1).eq(k).double().mean() for k in range(10)]
    assert min(agreement) > 0.9


@pytest.mark.parametrize("name", ["mnist", "mnist_conditional"])
def test_card_of_a_pretrained_model_has_metrics_and_license(name):
    card = (PRETRAINED / name / "README.md").read_text()
    assert f'load_generator("{name}")' in card
    assert "60,000 training images of MNIST" in card
    assert "license: apache-2.0" in card
    assert "| metric | generated | real-data baseline | better |\n| --- | --- | --- | --- |\n| `frechet` | " in card


def test_commands_load_a_pretrained_model_by_its_name(dcgan_sample, dcgan_export):
    assert dcgan_sample("checkpoint=mnist", "n=4").code == 0
    assert Path("grid.png").is_file()
    for name in pretrained_names():
        assert dcgan_export(f"checkpoint={name}", f"out={name}.safetensors").code == 0
        assert torch.equal(load_generator(f"{name}.safetensors").sample(4), load_generator(name).sample(4))
        assert Path(f"{name}.safetensors").stat().st_size < MAX_BYTES / 2  # still rounded
        Path("config.json").unlink()
    assert dcgan_export("checkpoint=mnist", "out=copy").code == 0
    assert "| `frechet` | " in Path("copy/README.md").read_text()


def test_file_comes_before_a_pretrained_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mnist").mkdir()
    with pytest.raises(UserError, match=r"there is no model\.safetensors in mnist: give a run's"):
        locate_generator("mnist")
    Path("mnist/model.safetensors").touch()
    assert locate_generator("mnist") == Path("mnist/model.safetensors")


def test_unknown_name_lists_the_pretrained_models(dcgan_sample, dcgan_export, dcgan_evaluate):
    with pytest.raises(UserError, match=UNKNOWN):
        load_generator("nist")
    for command in (dcgan_sample, dcgan_export, dcgan_evaluate):
        outcome = command("checkpoint=nist")
        assert outcome.code == 1
        assert "an export, hub:USER/NAME, or a pretrained model (mnist, mnist_conditional)" in outcome.err
        assert "Traceback" not in outcome.err


def test_commands_that_need_a_run_reject_an_export(dcgan_sample, dcgan_evaluate):
    outcome = dcgan_sample("checkpoint=mnist", "mode=data")
    assert outcome.code == 1
    assert "the export mnist has no data config: leave out checkpoint=" in outcome.err
    outcome = dcgan_evaluate("checkpoint=mnist")
    assert outcome.code == 1
    assert "the export mnist has no data config: write samples with python -m dcgan.sample" in outcome.err
