"""Exports to a model hub, and generators from it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dcgan.common.errors import UserError
from dcgan.sampling.trained_generator import load_generator


def test_uploaded_generator_is_downloaded_and_the_same(dcgan_export, dcgan_sample, hub_server, plain_run):
    outcome = dcgan_export(f"checkpoint={plain_run}", "out=hub:me/digits", "license=mit")
    assert outcome.code == 0, outcome.err
    assert f"address      {hub_server.address}/me/digits\nexport       hub:me/digits\n" in outcome.out
    files = hub_server.repositories["me/digits"]["main"]
    assert sorted(files) == ["README.md", "config.json", "model.safetensors", "samples.png"]
    assert 'load_generator("hub:me/digits")' in files["README.md"].decode()
    images = load_generator(plain_run).sample(4)
    hub_server.requests.clear()
    assert torch.equal(load_generator("hub:me/digits").sample(4), images)
    downloads = {request.rpartition("/")[2] for request in hub_server.requests if "/resolve/" in request}
    assert downloads == {"config.json", "model.safetensors"}
    assert dcgan_sample("checkpoint=hub:me/digits@main", "n=4", "out=a.npy").code == 0
    assert np.array_equal(np.load("a.npy"), images[:, 0].numpy())
    assert dcgan_export("checkpoint=hub:me/digits", "out=copy").code == 0
    assert "license: mit" in Path("copy/README.md").read_text()  # the export of an export


def test_files_of_a_hub_are_loaded_safely(dcgan_export, hub_server, plain_run):
    assert dcgan_export(f"checkpoint={plain_run}", "out=copy").code == 0
    files = {path.name: path.read_bytes() for path in Path("copy").iterdir()}
    content = json.loads(files["config.json"])
    content["config"]["model"]["prior"]["_target_"] = "os.getcwd"
    hub_server.commit("me/evil", files | {"config.json": json.dumps(content).encode()})
    with pytest.raises(UserError, match="a checkpoint must not choose which code runs"):
        load_generator("hub:me/evil")
    hub_server.commit("me/bert", files | {"config.json": b'{"model_type": "bert"}'})
    with pytest.raises(UserError, match=r"config\.json cannot be read .it has no library."):
        load_generator("hub:me/bert")
    hub_server.commit("me/text", {"README.md": b"hello", "pytorch_model.bin": b"pickle"})
    with pytest.raises(UserError, match=r"there is no model\.safetensors in hub:me/text: give .* an export of dcgan"):
        load_generator("hub:me/text")


def test_upload_errors_are_reported_before_the_export(dcgan_export, hub_server, monkeypatch):
    outcome = dcgan_export("checkpoint=nowhere.ckpt", "out=hub:digits")
    assert outcome.code == 1
    assert "a repository must be hub:USER/NAME or hub:USER/NAME@REVISION, got hub:digits" in outcome.err
    monkeypatch.delenv("HF_TOKEN")
    outcome = dcgan_export("checkpoint=nowhere.ckpt", "out=hub:me/digits")
    assert outcome.code == 1
    assert "hub:me/digits needs a token with write access" in outcome.err
    assert "Traceback" not in outcome.err
    assert hub_server.requests == []
