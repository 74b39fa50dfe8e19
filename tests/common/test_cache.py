"""The cache of computed tensors."""

import pytest
import torch

from dcgan.common.cache import cache_dir, digest, load_or_compute, load_tensors, save_tensors


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DCGAN_CACHE_DIR", str(tmp_path / "cache"))


SHAPES = {"x": (10,), "n": ()}


class CountedComputation:
    """A computation that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, torch.Tensor]:
        self.calls += 1
        return {"x": torch.arange(10.0), "n": torch.tensor(3.5, dtype=torch.float64)}


def test_result_is_computed_once_per_key():
    compute = CountedComputation()
    first, second = load_or_compute("a", ["key"], SHAPES, compute), load_or_compute("a", ["key"], SHAPES, compute)
    assert compute.calls == 1
    assert all(torch.equal(first[name], second[name]) for name in first)
    load_or_compute("a", ["another key"], SHAPES, compute)
    assert compute.calls == 2


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "other"])
def test_damaged_cache_is_reported_and_rebuilt(capsys, damage):
    compute = CountedComputation()
    original = load_or_compute("a", [1], SHAPES, compute)
    (path,) = cache_dir().glob("*.safetensors")
    flipped = bytearray(path.read_bytes())
    flipped[-9] ^= 1
    damaged = {"truncated": path.read_bytes()[:-7], "flipped": bytes(flipped), "empty": b"", "other": b"no safetensors"}
    path.write_bytes(damaged[damage])
    rebuilt = load_or_compute("a", [1], SHAPES, compute)
    assert compute.calls == 2
    assert "is damaged" in capsys.readouterr().err
    assert all(torch.equal(original[name], rebuilt[name]) for name in original)
    load_or_compute("a", [1], SHAPES, compute)
    assert compute.calls == 2


@pytest.mark.parametrize(
    "change",
    [
        {"x": torch.arange(9.0)},
        {"x": torch.zeros(10, 1)},
        {"n": torch.zeros(1)},
        {"x": torch.arange(10)},
        {"more": torch.zeros(1)},
        {"x": torch.full((10,), torch.nan)},
        {"x": torch.full((10,), torch.inf)},
    ],
)
def test_valid_file_with_other_content_is_reported_and_rebuilt(capsys, change):
    compute = CountedComputation()
    original = load_or_compute("a", [1], SHAPES, compute)
    (path,) = cache_dir().glob("*.safetensors")
    tensors, facts = load_tensors(path)
    save_tensors(path, tensors | change, facts)
    rebuilt = load_or_compute("a", [1], SHAPES, compute)
    assert "it is computed again" in capsys.readouterr().err
    assert all(torch.equal(original[name], rebuilt[name]) for name in original)


def test_cache_of_another_key_is_not_used(capsys):
    compute = CountedComputation()
    load_or_compute("a", [1], SHAPES, compute)
    (one,) = cache_dir().glob("*.safetensors")
    load_or_compute("a", [2], SHAPES, compute)
    (two,) = {*cache_dir().glob("*.safetensors")} - {one}
    two.replace(one)
    load_or_compute("a", [1], SHAPES, compute)
    assert compute.calls == 3
    assert "does not hold what it should" in capsys.readouterr().err


def test_undefined_metric_is_cached():
    save_tensors(cache_dir() / "a.safetensors", {"n": torch.tensor(torch.nan)}, {})
    assert load_tensors(cache_dir() / "a.safetensors")[0]["n"].isnan()


def test_cache_is_readable_by_others(tmp_path):
    (tmp_path / "usual").write_text("")
    save_tensors(tmp_path / "a.safetensors", {"n": torch.tensor(1.0)}, {})
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_unwritable_cache_is_reported_and_the_result_returned(tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DCGAN_CACHE_DIR", str(tmp_path / "file"))
    compute = CountedComputation()
    assert load_or_compute("a", [1], SHAPES, compute)["n"] == 3.5
    assert load_or_compute("a", [1], SHAPES, compute)["n"] == 3.5
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
