"""`python -m dcgan.export`: what others read is what the generator draws."""

import json
import resource
import socket
import stat
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from dcgan import exporting
from dcgan.checks import UserError
from dcgan.trained import load_generator
from tests.conftest import SMALL, TINY, options, tiny_run
from tests.runs import RUN

KINDS = ("a.onnx", "a.pt2", "a.safetensors", "hub")


def onnx_images(path: str, *inputs: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    return session.run(None, dict(zip(names, (x.numpy() for x in inputs), strict=True)))[0]


# the other kernels of transposed_conv are the same operation
@pytest.mark.parametrize("model", [m for m in options("model") if not m.startswith("transposed_conv_")])
def test_onnx_draws_what_every_model_draws_in_batches_of_any_size(dcgan_export, tmp_path, mnist_root, model):
    sizes = SMALL if model == "keras_mnist" else TINY
    run = tiny_run(tmp_path / "run", mnist_root, f"model={model}", "max_steps=2", sizes=sizes)
    outcome = dcgan_export(f"checkpoint={run}", "out=a.onnx")
    assert outcome.code == 0, outcome.err
    assert "checked      against PyTorch with onnxruntime: at most" in outcome.out
    network = load_generator(run).network
    for n in (1, 2, 19):
        z = torch.randn(n, 8, generator=torch.Generator().manual_seed(n))
        assert np.abs(onnx_images("a.onnx", z) - network(z).numpy()).max() < 1e-4
    graph = onnx.load("a.onnx").graph
    constants = {weight.name for weight in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type in ("Conv", "ConvTranspose")]
    assert len(convolutions) >= 2
    for node in convolutions:  # some runtimes take no other ones
        assert node.input[1] in constants


@pytest.mark.parametrize(
    "option", ["normalization=instance", "normalization=layer", "activation=prelu", "output=sigmoid"]
)
def test_onnx_knows_the_other_layers(dcgan_export, tmp_path, mnist_root, option):
    run = tiny_run(tmp_path / "run", mnist_root, option, "max_steps=1", "model.hidden_width=0")
    assert dcgan_export(f"checkpoint={run}", "out=a.onnx").code == 0
    z = torch.randn(3, 8)
    assert np.abs(onnx_images("a.onnx", z) - load_generator(run).network(z).numpy()).max() < 1e-4


def test_a_conditional_model_takes_its_label_along(dcgan_export, conditional_run):
    for out in KINDS:
        assert dcgan_export(f"checkpoint={conditional_run}", f"out={out}").code == 0, out
    g = load_generator(conditional_run)
    z, label = torch.randn(12, 8), torch.arange(12) % 10
    expected = g.network(z, label)
    assert np.abs(onnx_images("a.onnx", z, label) - expected.numpy()).max() < 1e-4
    torch.testing.assert_close(torch.export.load("a.pt2").module()(z, label), expected)
    for path in ("a.safetensors", "hub"):
        again = load_generator(path)
        assert torch.equal(again.sample(20, seed=1), g.sample(20, seed=1))
        assert torch.equal(again.labels(50, 2), g.labels(50, 2))


def test_exports_draw_the_same_images_and_export_again(dcgan_export, dcgan_sample, plain_run):
    g = load_generator(plain_run)
    assert dcgan_export(f"checkpoint={plain_run}", "out=a.safetensors").code == 0
    assert dcgan_export("checkpoint=a.safetensors", "out=hub").code == 0
    assert dcgan_export("checkpoint=hub", "out=a.pt2").code == 0
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


def test_no_export_names_a_path_or_a_machine(dcgan_export, plain_run, conditional_run):
    root = Path(exporting.__file__).parent.parent
    secrets = [str(root), str(plain_run.parent), str(Path.home()), str(Path.cwd()), "site-packages"]
    secrets += [socket.gethostname()] if len(socket.gethostname()) > 5 else []  # a short one may come by chance
    for run in (plain_run, conditional_run):
        for out in KINDS:
            folder = Path(run.parent.parent.name, out.replace(".", "_"))
            folder.mkdir(parents=True)
            assert dcgan_export(f"checkpoint={run}", f"out={folder / out}").code == 0
    files = [path for path in Path().rglob("*") if path.is_file()]
    assert len(files) == 2 * (1 + 1 + 2 + 4)
    for path in files:
        parts = [path.read_bytes()]
        if path.suffix == ".pt2":
            with zipfile.ZipFile(path) as archive:
                parts = [archive.read(name) for name in archive.namelist()]
        for secret in secrets:
            assert not any(secret.encode() in part for part in parts), f"{secret} in {path}"


def test_the_model_card_has_the_figures_of_the_evaluation_of_these_weights(dcgan_train, dcgan_evaluate, dcgan_export):
    dcgan_train(*TINY, *RUN, "max_steps=2")
    last = "checkpoint=run/checkpoints/last.ckpt"
    dcgan_export(last, "out=before")
    assert "Not evaluated: `python -m dcgan.evaluate" in Path("before/README.md").read_text()
    dcgan_evaluate(last)
    dcgan_export(last, "out=after")
    card = Path("after/README.md").read_text()
    content = json.loads(Path("run/checkpoints/last.evaluation.json").read_text())
    frechet, floor = content["metrics"]["frechet"], content["floor"]["frechet"]
    assert f"| `frechet` | {frechet:.4g} | {floor:.4g} | lower |" in card
    assert content["judge"]["sha256"] in card
    assert "trained on\nMNIST for 2 steps (seed 0)" in card
    assert card.startswith("---\nlibrary_name: dcgan\n")

    dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=3")  # other weights, of which it says nothing
    dcgan_export(last, "out=stale")
    assert "Not evaluated" in Path("stale/README.md").read_text()


def test_an_export_that_differs_is_not_written(dcgan_export, plain_run, monkeypatch):
    right = exporting.exported_program

    def wrong(generator):
        program = right(generator)
        next(iter(program.state_dict.values())).add_(0.1)
        return program

    monkeypatch.setattr(exporting, "exported_program", wrong)
    for out in ("a.onnx", "a.pt2"):
        outcome = dcgan_export(f"checkpoint={plain_run}", f"out={out}")
        assert outcome.code == 1
        assert "the export differs from the generator by up to" in outcome.err
    assert not list(Path().iterdir())


def test_without_onnx_one_sentence_says_how_to_install_it(dcgan_export, plain_run, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    outcome = dcgan_export(f"checkpoint={plain_run}", "out=a.onnx")
    assert outcome.code == 1
    assert "needs ONNX, which is not installed: pip install 'dcgan[onnx]'" in outcome.err
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "give checkpoint="),
        (["checkpoint=nowhere.ckpt"], "there is no checkpoint nowhere.ckpt"),
        (["checkpoint=text.ckpt"], "text.ckpt cannot be read as a checkpoint"),
        (["CKPT", "out=a.pth"], "out must end in .onnx, .safetensors, .pt2, or none for a folder, got a.pth"),
        (["CKPT", "out=nowhere/a.onnx"], "there is no folder nowhere: make it"),
        (["CKPT", "out=theirs"], "theirs is a folder with files in it"),
        (["CKPT", "out=theirs/a.safetensors"], "theirs/config.json belongs to something else"),
    ],
)
def test_mistakes_end_in_a_sentence_and_leave_nothing(dcgan_export, plain_run, arguments, sentence):
    Path("text.ckpt").write_text("no checkpoint")
    Path("theirs").mkdir()
    Path("theirs/config.json").write_text('{"model_type": "bert"}')
    outcome = dcgan_export(*(f"checkpoint={plain_run}" if a == "CKPT" else a for a in arguments))
    assert outcome.code == 1
    assert sentence in outcome.err
    assert "Traceback" not in outcome.err
    assert sorted(str(path) for path in Path().rglob("*")) == ["text.ckpt", "theirs", "theirs/config.json"]


def test_a_damaged_export_is_refused(dcgan_export, plain_run):
    dcgan_export(f"checkpoint={plain_run}", "out=a.safetensors")
    weights, config = Path("a.safetensors").read_bytes(), Path("config.json").read_text()

    def refused(sentence: str) -> None:
        with pytest.raises(UserError, match=sentence):
            load_generator("a.safetensors")

    for share in (0.0, 0.001, 0.5, 0.99):
        Path("a.safetensors").write_bytes(weights[: int(share * len(weights))])
        refused(r"a\.safetensors cannot be read with its config\.json")
    Path("a.safetensors").write_bytes(weights)
    Path("config.json").write_text(config[:100])
    refused(r"cannot be read with its config\.json")
    Path("config.json").write_text("[]")
    refused(r"config\.json is not that of an export of dcgan")
    content = json.loads(config)
    content["config"]["model"]["prior"]["_target_"] = "os.getcwd"
    Path("config.json").write_text(json.dumps(content))
    refused("must not choose what code runs")
    Path("config.json").unlink()
    refused(r"there is no file config\.json")


def test_a_full_disk_leaves_nothing_half_written(dcgan_export, plain_run):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for out in KINDS:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
        try:
            outcome = dcgan_export(f"checkpoint={plain_run}", f"out={out}")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert outcome.code == 1, out
        assert f"{out} cannot be written (" in outcome.err
        assert "Traceback" not in outcome.err
    assert not list(Path().iterdir())


def test_a_second_export_does_not_take_the_config_of_the_first(dcgan_export, plain_run, conditional_run):
    assert dcgan_export(f"checkpoint={plain_run}", "out=a.safetensors").code == 0
    assert dcgan_export(f"checkpoint={plain_run}", "out=a.safetensors").code == 0  # again
    outcome = dcgan_export(f"checkpoint={conditional_run}", "out=b.safetensors")
    assert outcome.code == 1
    assert "config.json belongs to something else" in outcome.err
    assert load_generator("a.safetensors").classes == 0
