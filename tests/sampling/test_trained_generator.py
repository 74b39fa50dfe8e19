"""Loading a generator: completely, safely, and without the training code."""

import re
import subprocess
import sys
import tomllib
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from packaging.requirements import Requirement
from torchvision.datasets import FakeData

import dcgan
from dcgan.checkpoints.io import FORMAT
from dcgan.checkpoints.safe_instantiate import reject_untrusted
from dcgan.common.command import PACKAGE
from dcgan.common.errors import UserError
from dcgan.data.mnist import MNISTDataModule
from dcgan.data.pixel_range import PixelRange
from dcgan.models.prior import Normal, Uniform
from dcgan.sampling.trained_generator import load_generator, sample_latents
from tests.conftest import tiny_run

TRAINING_ONLY = ("lightning", "torchmetrics", "sklearn", "tensorboard", "torchvision", "matplotlib", "scipy")


def test_package_loads_a_generator_and_samples_images(plain_run):
    g = dcgan.load_generator(plain_run)
    images = g.sample(64, seed=0)
    assert images.shape == (64, 1, 28, 28)
    assert images.dtype == torch.uint8
    assert torch.equal(images, dcgan.load_generator(str(plain_run)).sample(64, seed=0))
    assert not torch.equal(images, g.sample(64, seed=1))
    with pytest.raises(AttributeError, match="has no attribute 'load_discriminator'"):
        dcgan.load_discriminator  # noqa: B018


def test_sampling_imports_no_training_code(plain_run):
    code = (
        f"import sys; from dcgan import load_generator; from dcgan.common.image_grid import save_png, image_grid; "
        f"from pathlib import Path; save_png(Path(sys.argv[2]), image_grid(load_generator(sys.argv[1]).sample(4))); "
        f"print([name for name in {TRAINING_ONLY!r} if name in sys.modules])"
    )
    out = plain_run.with_name("picture.png")
    found = subprocess.run([sys.executable, "-c", code, str(plain_run), str(out)], capture_output=True, text=True)
    assert found.stdout.strip() == "[]", found.stderr
    assert out.exists()


def test_package_imports_no_torch():
    code = "import sys, dcgan; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_image_does_not_depend_on_others_of_its_batch(plain_run):
    g = load_generator(plain_run)
    z = sample_latents(g.network, 5, 0)
    images = torch.cat(list(g.generate(z, batch_size=5)))
    others = torch.cat((torch.randn(4, z.shape[1]) * 3, z[4:]))
    assert torch.equal(torch.cat(list(g.generate(others, batch_size=5)))[4], images[4])


def test_image_i_does_not_depend_on_n(plain_run):
    g = load_generator(plain_run)
    many = g.sample(150, seed=3, batch_size=16)
    for n in (1, 15, 16, 17, 100):
        assert torch.equal(g.sample(n, seed=3, batch_size=16), many[:n])


@pytest.mark.parametrize("prior", [Normal(), Uniform()])
def test_truncation_samples_components_above_it_again(prior):
    model = SimpleNamespace(sample_z=lambda n, device, rng: prior(n, 8, device, rng))
    z, truncated = sample_latents(model, 150, 3), sample_latents(model, 150, 3, truncation=0.5)
    is_above = z.abs() > 0.5
    assert torch.equal(truncated[~is_above], z[~is_above])
    resampled = truncated[is_above]
    assert resampled.abs().max() <= 0.5
    assert resampled.std() > 0.25  # of a uniform distribution: 0.29
    assert torch.equal(sample_latents(model, 7, 3, truncation=0.5), truncated[:7])
    assert torch.equal(sample_latents(model, 150, 3, truncation=9), z)


def test_truncation_below_all_values_is_rejected():
    signs = SimpleNamespace(sample_z=lambda n, device, rng: torch.ones(n, 8))
    with pytest.raises(UserError, match=r"truncation=0\.5 is below almost all values of the prior"):
        sample_latents(signs, 1, 0, truncation=0.5)
    with pytest.raises(ValueError, match="truncation must be a number in"):
        sample_latents(signs, 1, 0, truncation=True)


@pytest.fixture(scope="module")
def wide_generator(tmp_path_factory, mnist_root):
    sizes = ["model.base_channels=32", "model.hidden_width=256"]
    return load_generator(tiny_run(tmp_path_factory.mktemp("wide"), mnist_root, "max_steps=1", *sizes))


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_batch_size_changes_few_pixels_by_one(wide_generator, batch_size):
    a, b = (wide_generator.sample(300, batch_size=n).int() for n in (200, batch_size))
    assert (a - b).abs().max() <= 1
    assert (a != b).double().mean() < 1e-5


def test_average_of_the_weights_is_used_if_any(plain_run, conditional_run):
    state = torch.load(plain_run, weights_only=True)["state_dict"]
    for name, value in load_generator(plain_run).network.state_dict().items():
        assert torch.equal(value, state[f"ema.network.{name}"]), name
    state = torch.load(conditional_run, weights_only=True)["state_dict"]
    for name, value in load_generator(conditional_run).network.state_dict().items():
        assert torch.equal(value, state[f"generator.{name}"]), name


@pytest.mark.parametrize("counts", [{"n": 0}, {"n": -1}, {"n": 2.0}, {"n": 1, "seed": -1}, {"n": 1, "batch_size": 0}])
def test_invalid_counts_are_rejected(plain_run, counts):
    with pytest.raises(ValueError, match="must be an integer"):
        load_generator(plain_run).sample(**counts)


def test_missing_device_is_rejected(plain_run):
    with pytest.raises(ValueError, match="device=cuda, but this machine has no GPU"):
        load_generator(plain_run, device="cuda")


# --- invalid files


@pytest.mark.parametrize("share", [i / 10 for i in range(10)])
def test_truncated_checkpoint_is_rejected(plain_run, tmp_path, share):
    content = plain_run.read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=r"cut\.ckpt cannot be read as a checkpoint"):
        load_generator(tmp_path / "cut.ckpt")


class Bomb:
    def __reduce__(self):
        return exec, ("open('exploded', 'w').close()",)


def test_pickled_code_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"format": FORMAT, "state_dict": OrderedDict(), "config": Bomb()}, "bomb.ckpt")
    with pytest.raises(UserError, match=r"bomb\.ckpt cannot be read as a checkpoint"):
        load_generator("bomb.ckpt")
    assert not Path("exploded").exists()


def changed(checkpoint: Path, path: Path, change) -> Path:
    content = torch.load(checkpoint, weights_only=True)
    change(content)
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    "target",
    [
        {"_target_": "os.system", "command": "touch exploded"},
        {"_target_": "builtins.exec", "_args_": ["open('exploded', 'w')"]},
        {"_target_": "dcgan.common.provenance.subprocess.Popen", "args": ["touch", "exploded"]},
        {"_target_": "dcgan.runs.sweeps.sys.exit"},
        {"_target_": "dcgan.data.mnist.FileLock", "lock_file": "exploded"},
        {"_target_": "dcgan.common.atomic_files.write_json", "path": "exploded", "content": {}},
        {"_target_": "torch.load", "f": "exploded"},
        {"_target_": "torch.nn.init.normal_"},
        {"_target_": "${oc.env:TARGET}", "command": "touch exploded"},
        {"_target_": "hydra.utils.get_class", "path": "antigravity.Joke"},
        {"_target_": "hydra.utils.call", "config": {"_target_": "os.getcwd"}},
        {"_target_": ["torch.nn.ReLU"]},
        "${oc.create:'{_target_: tempfile.mkdtemp, prefix: exploded}'}",
        "\\${oc.create:'{_target_: tempfile.mkdtemp, prefix: exploded}'}",
        "\\\\\\${oc.create:'{_target_: tempfile.mkdtemp, prefix: exploded}'}",
        {"_target_": "torch.nn.ReLU", "${oc.env:HOME}": 1},
        {"_target_": "dcgan.training.loggers.TensorBoardWriter", "save_dir": "reference::data:,{{exploded}}"},
        {"_target_": "dcgan.training.loggers.CSVMetricsLogger", "path": "exploded", "resumed_step": 1},
        {"_target_": "dcgan.metrics.pretrained.InceptionFeatures", "weights": "exploded"},
        {"_target_": "lightning.Trainer", "default_root_dir": "exploded"},
        {"_target_": "lightning.pytorch.profilers.SimpleProfiler", "dirpath": "exploded"},
        {"_target_": "dcgan.losses.adversarial.Hinge"},
        {"_target_": "hydra.utils.get_class", "path": "torchvision.datasets.MNIST"},
    ],
)
def test_checkpoint_cannot_choose_which_code_runs(plain_run, tmp_path, monkeypatch, target):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TARGET", "os.system")

    def plant(content):
        content["config"]["model"]["activation"] = target

    with pytest.raises(UserError, match="must not choose which code runs"):
        load_generator(changed(plain_run, Path("evil.ckpt"), plant))
    assert not Path("exploded").exists()


def test_config_key_allows_only_classes_of_its_kind():
    own = {
        "model": "dcgan.models.generator.Generator",
        "loss": "dcgan.losses.adversarial.Hinge",
        "optimizer": "torch.optim.Adam",
        "data": "dcgan.data.digits.Digits",
        "evaluator": "dcgan.metrics.prdc.Coverage",
    }
    for key in own:
        for other, target in own.items():
            config = {key: {"deep": [{"_target_": target}]}}
            if key == other:
                reject_untrusted(config, [key])
            else:
                with pytest.raises(UserError, match=f"the checkpoint's {key} names {target}, which is not a class of"):
                    reject_untrusted(config, [key])
    reject_untrusted({"augmentation": {"_target_": "dcgan.models.augmentation.Flip"}}, ["augmentation"])
    with pytest.raises(UserError, match=r"the checkpoint's augmentation names dcgan\.models\.generator\.Generator"):
        reject_untrusted({"augmentation": {"_target_": own["model"]}}, ["augmentation"])


def test_dataset_is_a_class_of_torchvision():
    name = {"_target_": "hydra.utils.get_class", "path": "torchvision.datasets.MNIST"}
    reject_untrusted({"data": {"dataset": name}}, ["data"])
    for path in ("torchvision.datasets.mnist.os.system", "os.system", "torchvision.datasets."):
        with pytest.raises(UserError, match=f"the checkpoint's data names {path}"):
            reject_untrusted({"data": {"dataset": name | {"path": path}}}, ["data"])
    with pytest.raises(ValueError, match=r"data\.dataset must be a subclass of torchvision\.datasets\.MNIST, got"):
        MNISTDataModule(dataset=FakeData, root="data", image_size=28, channels=1, pixels=PixelRange(-1), batch_size=1)


def test_packages_are_trusted_by_name(monkeypatch):
    config = {"activation": {"_target_": "collections.abc.Callable"}}
    monkeypatch.setenv("DCGAN_TRUSTED", "other,coll")
    with pytest.raises(UserError, match=r"add trusted=\[collections\] or set DCGAN_TRUSTED=collections"):
        reject_untrusted(config, ["activation"])
    monkeypatch.setenv("DCGAN_TRUSTED", "other, collections")
    reject_untrusted(config, ["activation"])


def test_fsspec_versions_that_render_templates_are_excluded():
    """Lightning opens the paths of logs and checkpoints with fsspec: up to 2026.4 a path could run code."""
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    (fsspec,) = [r for r in map(Requirement, project["dependencies"]) if r.name == "fsspec"]
    assert not any(fsspec.specifier.contains(version) for version in ("2024.12.0", "2026.2.0", "2026.4.0"))


def mutated(content: dict, path: str, value: object) -> dict:
    """Return a copy of nested dicts with the value at a dotted path; `REMOVED`: without it."""
    name, _, rest = path.partition(".")
    if rest:
        return content | {name: mutated(content[name], rest, value)}
    return {key: node for key, node in content.items() if key != name} | ({} if value is REMOVED else {name: value})


REMOVED = "removed"
RELU = {"_target_": "torch.nn.ReLU"}
BASE = {"_target_": "dcgan.models.generator.BaseGenerator", "latent_dim": 8, "channels": 1, "base_channels": 4}
MUTATIONS = [
    ("config", None, "config must be of type dict, got None"),
    ("config", {}, "it has no config.seed"),
    ("config.seed", REMOVED, "it has no config.seed"),
    ("config.seed", 1.5, "config.seed must be of type int, got 1.5"),
    ("config.seed", True, "config.seed must be of type int, got True"),
    ("config.output", REMOVED, "it has no config.output"),
    ("config.output.pixels", None, "config.output.pixels must be of type dict, got None"),
    ("config.output.pixels", RELU, "the checkpoint's output.pixels must be a dcgan.data.pixel_range.PixelRange, got R"),
    ("config.model", REMOVED, "it has no config.model"),
    ("config.model", [1], "config.model must be of type dict, got [1]"),
    ("config.model._target_", REMOVED, "it has no config.model._target_"),
    ("config.model._target_", 5, "config.model._target_ must be of type str, got 5"),
    ("config.model", RELU, "the checkpoint's model must be a dcgan.models.generator.BaseGenerator, got ReLU()"),
    ("config.model", BASE, "the checkpoint's model cannot be built by this version (TypeError: "),
    ("config.model.prior", RELU, "cannot be built by this version (ValueError: prior must be a Prior, got ReLU())"),
    ("config.model.output_activation", None, "output_activation must be a Module, got None"),
    ("config.model.output_activation", {"_target_": "torch.nn.Flatten"}, "the checkpoint's model does not work ("),
    ("config.model.kernel_size", 4, "unexpected keyword argument 'kernel_size'"),
    ("choices", {}, "it has no choices.data"),
    ("choices.data", 5, "choices.data must be of type str, got 5"),
    ("dataset", None, "dataset must be of type str, got None"),
    ("step", -1, "its step is -1"),
    ("state_dict", {}, "it has no state_dict.fixed_z"),
    ("state_dict.fixed_z", "text", "state_dict.fixed_z must be of type Tensor, got 'text'"),
    ("callbacks", None, "callbacks must be of type dict, got None"),
]


@pytest.mark.parametrize(("path", "value", "sentence"), MUTATIONS, ids=[f"{p}={v}"[:50] for p, v, _ in MUTATIONS])
def test_invalid_part_of_a_checkpoint_is_named(plain_run, tmp_path, path, value, sentence):
    file = tmp_path / "bad.ckpt"
    torch.save(mutated(torch.load(plain_run, weights_only=True), path, value), file)
    with pytest.raises(UserError, match=re.escape(sentence)) as caught:
        load_generator(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_that_are_not_finite_are_rejected(plain_run, tmp_path):
    def spoil(content):
        for weight in content["state_dict"].values():
            weight[...] = torch.nan if weight.is_floating_point() else 0

    with pytest.raises(UserError, match="has weights that are not finite"):
        load_generator(changed(plain_run, tmp_path / "bad.ckpt", spoil))


def test_other_files_are_rejected(plain_run, tmp_path):
    text, foreign = tmp_path / "text.ckpt", tmp_path / "foreign.ckpt"
    text.write_text("no checkpoint")
    torch.save({"state_dict": {}}, foreign)

    def widen(content):
        content["config"]["model"]["base_channels"] = 6

    def age(content):
        content["format"] = FORMAT - 1

    for path, message in (
        (tmp_path / "nowhere.ckpt", "there is no checkpoint"),
        (tmp_path, r"there is no model\.safetensors in .*: give a run's checkpoints/last\.ckpt"),
        (text, "cannot be read as a checkpoint"),
        (foreign, "is not a file of dcgan .it has no format number."),
        (changed(plain_run, tmp_path / "wide.ckpt", widen), "has other weights than its config says"),
        (
            changed(plain_run, tmp_path / "old.ckpt", age),
            rf"is of an older version of dcgan .format {FORMAT - 1}, this one reads {FORMAT}.: train again",
        ),
    ):
        with pytest.raises(UserError, match=message):
            load_generator(path)
