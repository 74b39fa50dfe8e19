"""Damaged, foreign and malicious checkpoints: refused in a sentence that names the file, and nothing in them runs."""

import io
import pickle
import random
import time
import zipfile
from pathlib import Path

import pytest
import torch

from dcgan.checks import UserError
from dcgan.seal import seal
from dcgan.trained import FORMAT, read_checkpoint
from tests.test_trained import Bomb, changed


def refused(outcome, path: str) -> str:
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1, outcome.err
    assert outcome.err.startswith("error: ")
    assert path in outcome.err
    return outcome.err


@pytest.mark.parametrize("share", [i / 10 for i in range(10)])
def test_a_truncated_checkpoint_cannot_be_gone_on_from(plain_run, dcgan_train, share):
    whole = plain_run.read_bytes()
    Path("cut.ckpt").write_bytes(whole[: int(share * len(whole))])
    assert "cut short or something else" in refused(dcgan_train("ckpt_path=cut.ckpt", "max_steps=9"), "cut.ckpt")


def test_no_flipped_bit_passes(plain_run, tmp_path):
    """In the pickle, in a tensor, in a header, in the seal: anywhere."""
    whole, chance, path = plain_run.read_bytes(), random.Random(0), tmp_path / "flipped.ckpt"
    seal_and_ends = [*range(40), *range(len(whole) - 120, len(whole))]
    for at in [*seal_and_ends, *(chance.randrange(len(whole)) for _ in range(300))]:
        flipped = bytearray(whole)
        flipped[at] ^= 1 << chance.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(UserError, match=r"flipped\.ckpt cannot be read as a checkpoint"):
            read_checkpoint(path)


def test_a_checkpoint_that_somebody_has_saved_anew_has_checksums_instead_of_a_seal(plain_run, tmp_path):
    path = changed(plain_run, tmp_path / "anew.ckpt", lambda content: None)
    assert read_checkpoint(path)["step"] == 4
    whole = path.read_bytes()
    tensor = read_checkpoint(path)["state_dict"]["generator.to_image.weight"].contiguous().numpy().tobytes()
    flipped = bytearray(whole)
    flipped[whole.index(tensor) + 5] ^= 1
    path.write_bytes(flipped)
    torch.load(path, weights_only=True)  # which is why
    with pytest.raises(UserError, match="its content is not what was written"):
        read_checkpoint(path)


def test_newer_and_older_formats_are_refused(plain_run, tmp_path, dcgan_train):
    newer = changed(plain_run, tmp_path / "newer.ckpt", lambda content: content.update(format=FORMAT + 1))
    assert "newer version of dcgan" in refused(dcgan_train(f"ckpt_path={newer}", "hydra.run.dir=run"), "newer.ckpt")
    older = changed(plain_run, tmp_path / "older.ckpt", lambda content: content.update(format=FORMAT - 1))
    assert "older version of dcgan" in refused(dcgan_train(f"ckpt_path={older}", "hydra.run.dir=run"), "older.ckpt")


def test_another_models_weights_are_refused(plain_run, conditional_run, tmp_path, dcgan_train):
    other = read_checkpoint(conditional_run)["state_dict"]
    path = changed(plain_run, tmp_path / "mixed.ckpt", lambda content: content.update(state_dict=other))
    sentence = refused(dcgan_train(f"ckpt_path={path}", "max_steps=9", "hydra.run.dir=run"), "mixed.ckpt")
    assert "cannot be gone on from (RuntimeError: Error(s) in loading state_dict" in sentence


PARTS = ("optimizer_states", "loops", "callbacks", "epoch", "global_step", "processes", "rolled_back", "state_dict",
         "config", "choices", "step", "dataset", "pytorch-lightning_version")  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("value", [[[]]], ids=repr)
def test_a_checkpoint_with_a_wrong_part_ends_in_a_sentence_or_is_as_good(plain_run, tmp_path, dcgan_train, name, value):
    def spoil(content):
        content[name] = value
        if value == "missing":
            del content[name]

    path = changed(plain_run, tmp_path / "spoilt.ckpt", spoil)
    outcome = dcgan_train(f"ckpt_path={path}", "max_steps=5", "hydra.run.dir=run")
    if outcome.code:
        refused(outcome, "spoilt.ckpt")


@pytest.mark.parametrize("kind", ["short", "long", "expanded", "text", "rate"])
def test_optimizers_of_another_shape_are_refused_or_made_to_fit(plain_run, dcgan_train, kind):
    """A fused kernel would read and write past their end."""
    moments = {"short": torch.zeros(3), "long": torch.zeros(10**6), "text": "text"}

    def spoil(content):
        state = content["optimizer_states"][0]
        entry = state["state"][0]
        if kind == "rate":
            state["param_groups"][0]["lr"] = "x"
        else:
            entry["exp_avg"] = moments.get(kind, torch.zeros(1).expand(entry["exp_avg"].shape))

    path = changed(plain_run, Path("spoilt.ckpt"), spoil)
    outcome = dcgan_train(f"ckpt_path={path}", "max_steps=5", "hydra.run.dir=run")
    if kind == "expanded":
        assert outcome.code == 0, outcome.err
    else:
        assert "its parts do not fit together" in refused(outcome, "spoilt.ckpt")


@pytest.mark.parametrize(
    "change", [{"health": None}, {"model": "???"}, {"trainer": "x"}, {"checkpoints": [1]}, {"seed": -1}]
)
def test_a_config_of_other_things_ends_in_a_sentence(plain_run, dcgan_train, change):
    path = changed(plain_run, Path("spoilt.ckpt"), lambda content: content["config"].update(change))
    outcome = dcgan_train(f"ckpt_path={path}", "max_steps=5", "hydra.run.dir=run")
    assert outcome.code == 1
    assert "Traceback" not in outcome.err
    assert outcome.err.count("\n") == 1


# --- bombs


@pytest.fixture
def _within_seconds():
    start = time.monotonic()
    yield
    assert time.monotonic() - start < 30


def endless() -> list:
    inner: list = []
    inner.append(inner)
    return inner


def laughs(depth: int) -> list:
    """2 ^ depth entries in a few bytes."""
    return ["ha"] if depth == 0 else [inner := laughs(depth - 1), inner]


@pytest.mark.usefixtures("_within_seconds")
@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (Bomb(), "cannot be read as a checkpoint"),
        (endless(), "has no config"),
        ({"model": endless()}, "more than 10,000 entries"),
        ({"model": laughs(60)}, "more than 10,000 entries"),
        ({"model": {1.5: torch.zeros(1).expand(10**9)}}, "holds a Tensor, which is no plain value"),
    ],
    ids=["code", "endless", "endless below", "laughs", "tensor"],
)
def test_a_bomb_in_a_checkpoint_does_not_go_off(plain_run, dcgan_train, value, sentence):
    path = changed(plain_run, Path("bomb.ckpt"), lambda content: content.update(config=value))
    assert sentence in refused(dcgan_train(f"ckpt_path={path}", "hydra.run.dir=run"), "bomb.ckpt")
    assert not Path("exploded").exists()


@pytest.mark.parametrize("sealed", [False, True])
def test_a_compressed_archive_is_not_unpacked(tmp_path, sealed):
    """A few bytes that would fill the memory."""
    path = tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10_000_000))
        archive.writestr("archive/version", "3")
    if sealed:
        seal(path)
    with pytest.raises(UserError, match=r"bomb\.ckpt cannot be read as a checkpoint"):
        read_checkpoint(path)


def test_a_bare_pickle_is_not_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    buffer = io.BytesIO()
    pickle.dump(Bomb(), buffer)
    Path("bare.ckpt").write_bytes(buffer.getvalue())
    with pytest.raises(UserError, match="cut short or something else"):
        read_checkpoint("bare.ckpt")
    assert not Path("exploded").exists()
