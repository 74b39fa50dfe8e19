"""The cache of computed tensors."""

import pytest
import torch

from dcgan.common.cache import cache_dir, digest, load_or_compute, load_tensors, save_tensors


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DCGAN_CACHE_DIR", str(tmp_path / "cache"))


class CountedComputation:
    """A computation that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, torch.Tensor]:
        self.calls += 1
        return {"x": torch.arange(10.0), "n": torch.tensor(3.5, dtype=torch.float64)}


def test_result_is_computed_once_per_key():
    compute = CountedComputation()
    first, second = load_or_compute("a", ["key"], compute), load_or_compute("a", ["key"], compute)
    assert compute.calls == 1
    assert all(torch.equal(first[name], second[name]) for name in first)
    load_or_compute("a", ["another key"], compute)
    assert compute.calls == 2


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "other"])
def test_damaged_cache_is_reported_and_rebuilt(capsys, damage):
    compute = CountedComputation()
    original = load_or_compute("a", [1], compute)
    (path,) = cache_dir().glob("*.safetensors")
    flipped = bytearray(path.read_bytes())
    flipped[-9] ^= 1
    damaged = {"truncated": path.read_bytes()[:-7], "flipped": bytes(flipped), "empty": b"", "other": b"no safetensors"}
    path.write_bytes(damaged[damage])
    rebuilt = load_or_compute("a", [1], compute)
    assert compute.calls == 2
    assert "is damaged" in capsys.readouterr().err
    assert all(torch.equal(original[name], rebuilt[name]) for name in original)
    load_or_compute("a", [1], compute)
    assert compute.calls == 2


def test_unwritable_cache_is_reported_and_the_result_returned(tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DCGAN_CACHE_DIR", str(tmp_path / "file"))
    compute = CountedComputation()
    assert load_or_compute("a", [1], compute)["n"] == 3.5
    assert load_or_compute("a", [1], compute)["n"] == 3.5
    assert compute.calls == 2
    assert "cannot be written" in capsys.readouterr().err


def test_facts_are_saved_with_the_tensors_and_checked(tmp_path):
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"b": torch.ones(2), "a": torch.zeros(3)}, {"accuracy": 0.996})
    tensors, facts = load_tensors(path)
    assert list(tensors) == ["a", "b"]
    assert facts == {"accuracy": 0.996}
    path.write_bytes(path.read_bytes().replace(b"0.996", b"0.999"))
    with pytest.raises(ValueError, match="is damaged"):
        load_tensors(path)


def test_digest_depends_on_shape_and_dtype():
    x = torch.zeros(4)
    others = [torch.zeros(2, 2), torch.zeros(4, dtype=torch.float64)[:2], torch.zeros(4, dtype=torch.int32)]
    assert len({digest([value]) for value in (x, *others)}) == 4
