"""Uploads to a local hub, and downloads from it, by huggingface_hub itself."""

import sys
from pathlib import Path

import pytest

from dcgan.common.errors import UserError
from dcgan.common.hub import HubRepository, hub_repository

DIGITS = HubRepository("me/digits")


def test_names_of_repositories():
    assert hub_repository("runs/a/checkpoints/last.ckpt") is None
    assert hub_repository(Path("hub:me/digits")) == DIGITS
    for name in ("hub:me/digits", "hub:a-b/c_d.e@v1.0", "hub:a/b@refs/pr/1", f"hub:a/b@{'0' * 40}"):
        assert str(hub_repository(name)) == name
    for name in ("hub:", "hub:digits", "hub:a/b/c", "hub:../b", "hub:a/b@", "hub:a/b@../c/", "hub:a b/c"):
        with pytest.raises(UserError, match=r"a repository must be hub:USER/NAME or hub:USER/NAME@REVISION, got hub:"):
            hub_repository(name)


def test_uploaded_files_are_downloaded(hub_server, tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    for name in ("README.md", "config.json", "model.safetensors"):
        (folder / name).write_text(f"1 {name}")
    assert DIGITS.upload(folder) == f"{hub_server.address}/me/digits"
    first = DIGITS.download(("config.json", "model.safetensors", "missing.json"))
    assert {path.name: path.read_text() for path in first.iterdir()} == {
        "config.json": "1 config.json",
        "model.safetensors": "1 model.safetensors",
    }
    (folder / "config.json").write_text("2 config.json")
    DIGITS.upload(folder)  # into the repository that exists
    assert (DIGITS.download(("config.json",)) / "config.json").read_text() == "2 config.json"
    revision = HubRepository("me/digits", first.name)  # the hash of the first commit
    assert (revision.download(("config.json",)) / "config.json").read_text() == "1 config.json"


def test_cached_files_are_used_without_a_network(hub_server, monkeypatch):
    hub_server.commit("me/digits", {"config.json": b"{}"})
    DIGITS.download(("config.json",))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert (DIGITS.download(("config.json",)) / "config.json").read_text() == "{}"


def test_download_errors_are_one_sentence(hub_server, monkeypatch):
    hub_server.commit("me/digits", {"config.json": b"{}"})
    with pytest.raises(UserError, match=r"there is no repository me/other on http://127\.0\.0\.1:\d+ that you have"):
        HubRepository("me/other").download(("config.json",))
    with pytest.raises(UserError, match="hub:me/digits has no revision v7: choose another"):
        HubRepository("me/digits", "v7").download(("config.json",))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        UserError, match=r"http://127\.0\.0\.1:9 cannot be reached for hub:me/digits: check the network"
    ):
        DIGITS.download(("config.json",))


def test_upload_errors_are_one_sentence(hub_server, tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    DIGITS.check_token()
    with pytest.raises(UserError, match=r"has rejected hub:me/digits \(.*401.*\): for access, log in"):
        DIGITS.upload(tmp_path)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UserError, match="hub:me/digits needs a token with write access: log in with `hf auth login`"):
        DIGITS.check_token()
    assert hub_server.repositories == {}


def test_missing_package_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"needs huggingface_hub, which is not installed: pip install 'dcgan\[hub\]'"):
        DIGITS.download(("config.json",))
