import json
import re
import socket
import stat
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch.onnx._internal._lazy_import import onnxscript_apis

from dcgan.common.command import PACKAGE
from dcgan.exporting import formats
from dcgan.sampling.trained_generator import load_generator
from tests.conftest import options, tiny_run

OUTPUTS = ("a.onnx", "a.pt2", "a.safetensors", "hub")


@pytest.fixture(scope="module", autouse=True)
def _onnx_operators_are_read_once():
    """torch.onnx reads them in each export, which takes most of its time."""
    operators = cache(onnxscript_apis.get_torchlib_ops)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnxscript_apis, "get_torchlib_ops", operators)
        yield


def onnx_images(path: str, *inputs: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]
    return session.run(None, dict(zip(names, (x.numpy() for x in inputs), strict=True)))[0]


# other kernel sizes of transposed_conv are the same operation
@pytest.mark.parametrize("model", [m for m in options("model") if not m.startswith("transposed_conv_")])
def test_onnx_matches_every_model_at_any_batch_size(dcgan_export, tmp_path, mnist_root, model):
    run = tiny_run(tmp_path / "run", mnist_root, f"model={model}", "max_steps=2")
    outcome = dcgan_export(f"checkpoint={run}", "out=a.onnx")
    assert outcome.code == 0, outcome.err
    assert "checked      with onnxruntime against PyTorch: largest difference" in outcome.out
    network = load_generator(run).network
    for n in (1, 2, 19):
        z = torch.randn(n, 8, generator=torch.Generator().manual_seed(n))
        assert np.abs(onnx_images("a.onnx", z) - network(z).numpy()).max() < 1e-4
    graph = onnx.load("a.onnx").graph
    constants = {weight.name for weight in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type in ("Conv", "ConvTranspose")]
    assert len(convolutions) >= 2
    for node in convolutions:  # some runtimes require constant weights
        assert node.input[1] in constants


@pytest.mark.parametrize(
    "option", ["normalization=instance", "normalization=layer", "activation=prelu", "output=sigmoid"]
)
def test_onnx_matches_other_layers(dcgan_export, tmp_path, mnist_root, option):
    run = tiny_run(tmp_path / "run", mnist_root, option, "max_steps=1", "model.hidden_width=0")
    assert dcgan_export(f"checkpoint={run}", "out=a.onnx").code == 0
    z = torch.randn(3, 8)
    assert np.abs(onnx_images("a.onnx", z) - load_generator(run).network(z).numpy()).max() < 1e-4


@pytest.mark.parametrize("overrides", [(), ("output=sigmoid", "prior=uniform")], ids=["tanh", "sigmoid"])
def test_onnx_metadata_say_how_to_use_the_network(dcgan_export, tmp_path, mnist_root, overrides):
    run = tiny_run(tmp_path / "run", mnist_root, "max_steps=1", "conditional=concat", *overrides)
    assert dcgan_export(f"checkpoint={run}", "out=a.onnx", "license=mit").code == 0
    session = onnxruntime.InferenceSession("a.onnx", providers=["CPUExecutionProvider"])
    assert [(x.name, x.shape) for x in session.get_inputs()] == [("z", ["batch", 8]), ("label", ["batch"])]
    assert [(x.name, x.shape) for x in session.get_outputs()] == [("images", ["batch", 1, 28, 28])]
    facts = session.get_modelmeta().custom_metadata_map
    assert facts["inputs"] == "z, label"
    assert facts["prior"] == ("U(-1, 1)" if overrides else "N(0, 1)")
    assert (facts["latent_dim"], facts["classes"], facts["license"]) == ("8", "10", "mit")
    assert facts["pixel_range"] == ("[0, 1]" if overrides else "[-1, 1]")
    g = load_generator(run)
    z, label = g.z(32, 0), g.labels(32, 0)  # a batch that `generate` does not pad
    functions = {"clip": np.clip, "round": np.round, "x": onnx_images("a.onnx", z, label)}
    pixels = eval(facts["to_uint8"], functions)
    assert np.abs(pixels - next(g.generate(z, label)).numpy()).max() <= 1  # rounded from slightly different floats


def test_documented_onnx_example_runs(dcgan_export, plain_run):
    page = (PACKAGE.parent / "docs" / "sampling.md").read_text()
    (example,) = re.findall(r"```python\n(import numpy as np\nimport onnxruntime\n.*?)```", page, re.DOTALL)
    assert len(example.splitlines()) <= 8
    assert dcgan_export(f"checkpoint={plain_run}", "out=generator.onnx").code == 0
    names: dict = {}
    exec(example, names)
    expected = next(load_generator(plain_run).generate(torch.from_numpy(names["z"]))).numpy()
    assert names["pixels"].dtype == np.uint8
    assert np.abs(names["pixels"].astype(int) - expected).max() <= 1


def export_all_formats(dcgan_export, run: Path) -> None:
    """Export to all formats. Assert that no file contains a local path or the host's name."""
    secrets = [str(PACKAGE), str(run.parent), str(Path.home()), str(Path.cwd()), "site-packages"]
    secrets += [socket.gethostname()] if len(socket.gethostname()) > 5 else []  # a short one may occur by chance
    for out in OUTPUTS:
        assert dcgan_export(f"checkpoint={run}", f"out={out}").code == 0, out
    files = [path for path in Path().rglob("*") if path.is_file()]
    assert len(files) == 1 + 1 + 2 + 4
    for path in files:
        parts = [path.read_bytes()]
        if path.suffix == ".pt2":
            with zipfile.ZipFile(path) as archive:
                parts = [archive.read(name) for name in archive.namelist()]
        for secret in secrets:
            assert not any(secret.encode() in part for part in parts), f"{secret} in {path}"


def test_exports_contain_no_local_path_or_host_name(dcgan_export, plain_run):
    export_all_formats(dcgan_export, plain_run)


def test_export_of_a_conditional_model_has_labels(dcgan_export, conditional_run):
    export_all_formats(dcgan_export, conditional_run)
    g = load_generator(conditional_run)
    z, label = torch.randn(12, 8), torch.arange(12) % 10
    expected = g.network(z, label)
    assert np.abs(onnx_images("a.onnx", z, label) - expected.numpy()).max() < 1e-4
    torch.testing.assert_close(torch.export.load("a.pt2").module()(z, label), expected)
    for path in ("a.safetensors", "hub"):
        again = load_generator(path)
        assert torch.equal(again.sample(20, seed=1), g.sample(20, seed=1))
        assert torch.equal(again.labels(50, 2), g.labels(50, 2))


def test_exports_generate_the_same_images_and_can_be_exported(dcgan_export, dcgan_sample, plain_run):
    g = load_generator(plain_run)
    assert dcgan_export(f"checkpoint={plain_run}", "out=a.safetensors").code == 0
    assert dcgan_export("checkpoint=a.safetensors", "out=hub").code == 0
    assert dcgan_export("checkpoint=hub", "out=a.pt2").code == 0
    assert json.loads(Path("hub/config.json").read_text())["file"] == "model.safetensors"
    for path in ("a.safetensors", "hub"):
        assert torch.equal(load_generator(path).sample(10), g.sample(10))
        assert dcgan_sample(f"checkpoint={path}", "n=10", "out=a.npy").code == 0
        assert np.array_equal(np.load("a.npy"), g.sample(10)[:, 0].numpy())
    z = torch.randn(7, 8)
    torch.testing.assert_close(torch.export.load("a.pt2").module()(z), g.network(z))
    assert sorted(path.name for path in Path("hub").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "samples.png",
    ]
    assert stat.S_IMODE(Path("a.safetensors").stat().st_mode) == stat.S_IMODE(Path("config.json").stat().st_mode)


def test_float16_halves_the_file_and_rounds_the_weights(dcgan_export, plain_run):
    assert dcgan_export(f"checkpoint={plain_run}", "out=full").code == 0
    assert dcgan_export(f"checkpoint={plain_run}", "out=half", "float16=true").code == 0
    assert dcgan_export("checkpoint=half", "out=again").code == 0
    sizes = [Path(folder, "model.safetensors").stat().st_size for folder in ("full", "half", "again")]
    assert sizes[1] == sizes[2] < 0.6 * sizes[0]
    full, half = load_generator("full"), load_generator("half")
    for name, weight in half.network.state_dict().items():
        original = full.network.state_dict()[name]
        assert weight.dtype == original.dtype
        assert torch.equal(weight, original.half().to(weight.dtype) if weight.is_floating_point() else original), name
    assert torch.equal(load_generator("again").sample(4), half.sample(4))
    assert "weights (rounded to float16)" in Path("again/README.md").read_text()


def test_export_that_differs_is_not_written(dcgan_export, plain_run, monkeypatch):
    exported_program = formats.exported_program

    def perturbed(generator):
        program = exported_program(generator)
        next(iter(program.state_dict.values())).add_(0.1)
        return program

    monkeypatch.setattr(formats, "exported_program", perturbed)
    for out in ("a.onnx", "a.pt2"):
        outcome = dcgan_export(f"checkpoint={plain_run}", f"out={out}")
        assert outcome.code == 1
        assert "the export differs from the generator by up to" in outcome.err
    assert not list(Path().iterdir())


def test_config_of_another_export_is_not_overwritten(dcgan_export, plain_run, conditional_run):
    assert dcgan_export(f"checkpoint={plain_run}", "out=a.safetensors").code == 0
    assert dcgan_export(f"checkpoint={plain_run}", "out=a.safetensors").code == 0  # again
    outcome = dcgan_export(f"checkpoint={conditional_run}", "out=b.safetensors")
    assert outcome.code == 1
    assert "config.json is not the config of b.safetensors" in outcome.err
    assert load_generator("a.safetensors").classes == 0
