import json
import resource
import sys
from pathlib import Path

import pytest

from dcgan.common.errors import UserError
from dcgan.exporting.formats import WRITERS
from dcgan.sampling.trained_generator import load_generator


def test_missing_onnx_is_reported(dcgan_export, plain_run, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    outcome = dcgan_export(f"checkpoint={plain_run}", "out=a.onnx")
    assert outcome.code == 1
    assert "needs ONNX, which is not installed: pip install 'dcgan[onnx]'" in outcome.err
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give checkpoint="),
        (["checkpoint=nowhere.ckpt"], "there is no checkpoint nowhere.ckpt"),
        (["checkpoint=text.ckpt"], "text.ckpt cannot be read as a checkpoint"),
        (["CKPT", "out=a.pth"], "out must end in .onnx, .safetensors, .pt2, or none for a folder, got a.pth"),
        (["CKPT", "out=nowhere/a.onnx"], "there is no folder nowhere: make it"),
        (["CKPT", "out=other"], "other is a folder with files in it"),
        (["CKPT", "out=other/a.safetensors"], "other/config.json is not the config of a.safetensors"),
        (["CKPT", "out=new", "float16=1"], "float16 must be true or false, got 1"),
        (["CKPT", "out=new", "license='my own'"], "license must be an identifier such as apache-2.0 or cc-by-4.0, got"),
    ],
)
def test_invalid_arguments_are_rejected_and_nothing_is_written(dcgan_export, plain_run, arguments, message):
    Path("text.ckpt").write_text("no checkpoint")
    Path("other").mkdir()
    Path("other/config.json").write_text('{"model_type": "bert"}')
    outcome = dcgan_export(*(f"checkpoint={plain_run}" if a == "CKPT" else a for a in arguments))
    assert outcome.code == 1
    assert message in outcome.err
    assert "Traceback" not in outcome.err
    assert sorted(str(path) for path in Path().rglob("*")) == ["other", "other/config.json", "text.ckpt"]


def test_damaged_export_is_rejected(dcgan_export, plain_run):
    dcgan_export(f"checkpoint={plain_run}", "out=a.safetensors")
    weights, config = Path("a.safetensors").read_bytes(), Path("config.json").read_text()

    def assert_rejected(message: str) -> None:
        with pytest.raises(UserError, match=message):
            load_generator("a.safetensors")

    for share in (0.0, 0.001, 0.5, 0.99):
        Path("a.safetensors").write_bytes(weights[: int(share * len(weights))])
        assert_rejected(r"a\.safetensors cannot be read \(")
    Path("a.safetensors").write_bytes(weights)
    Path("config.json").write_text(config[:100])
    assert_rejected(r"config\.json cannot be read \(")
    Path("config.json").write_text("[]")
    assert_rejected(r"config\.json cannot be read \(its content must be of type dict")
    Path("config.json").write_text(json.dumps(json.loads(config) | {"library": "other"}))
    assert_rejected(r"config\.json does not belong to an export of dcgan")
    content = json.loads(config)
    content["config"]["model"]["prior"]["_target_"] = "os.getcwd"
    Path("config.json").write_text(json.dumps(content))
    assert_rejected("must not choose which code runs")
    Path("config.json").unlink()
    assert_rejected(r"there is no file config\.json")


def test_nothing_is_written_if_the_disk_is_full(dcgan_export, plain_run):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for out in (f"a{suffix}" for suffix in WRITERS):
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
        try:
            outcome = dcgan_export(f"checkpoint={plain_run}", f"out={out}")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert outcome.code == 1, out
        assert f"{out} cannot be written (" in outcome.err
        assert "Traceback" not in outcome.err
    assert not list(Path().iterdir())
