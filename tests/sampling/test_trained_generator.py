"""Loading a generator: completely, safely, and without the training code."""

import subprocess
import sys
import tomllib
from collections import OrderedDict
from pathlib import Path

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


@pytest.mark.parametrize("name", ["config", "state_dict", "choices", "dataset", "step"])
@pytest.mark.parametrize("value", [None, 5.5])
def test_checkpoint_with_missing_keys_is_rejected(plain_run, tmp_path, name, value):
    with pytest.raises(UserError, match=f"is damaged .it has no {name}."):
        load_generator(changed(plain_run, tmp_path / "bad.ckpt", lambda content: content.update({name: value})))


def test_config_without_a_generator_is_rejected(plain_run, tmp_path):
    def swap(content):
        content["config"]["model"] = {"_target_": "torch.nn.ReLU"}

    def no_prior(content):
        content["config"]["model"]["prior"] = {"_target_": "torch.nn.ReLU"}

    for change in (swap, no_prior):
        with pytest.raises(UserError, match="the checkpoint's config does not describe a generator"):
            load_generator(changed(plain_run, tmp_path / "bad.ckpt", change))


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
