import pytest
import torch

from dcgan.cache import cache_dir, cached, digest, load_tensors, save_tensors


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DCGAN_CACHE_DIR", str(tmp_path / "cache"))


class Counted:
    """A computation that counts how often it is asked for."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> dict[str, torch.Tensor]:
        self.times += 1
        return {"x": torch.arange(10.0), "n": torch.tensor(3.5, dtype=torch.float64)}


def test_what_is_kept_is_computed_once_and_depends_on_its_key():
    compute = Counted()
    first, again = cached("a", ["key"], compute), cached("a", ["key"], compute)
    assert compute.times == 1
    assert all(torch.equal(first[name], again[name]) for name in first)
    cached("a", ["another key"], compute)
    assert compute.times == 2


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other"])
def test_a_damaged_cache_is_said_and_rebuilt(capsys, damage):
    compute = Counted()
    whole = cached("a", [1], compute)
    (path,) = cache_dir().glob("*.safetensors")
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    damaged = {"cut": path.read_bytes()[:-7], "flip": bytes(content), "empty": b"", "other": b"no safetensors at all"}
    path.write_bytes(damaged[damage])
    rebuilt = cached("a", [1], compute)
    assert compute.times == 2
    assert "is damaged" in capsys.readouterr().err
    assert all(torch.equal(whole[name], rebuilt[name]) for name in whole)
    cached("a", [1], compute)
    assert compute.times == 2


def test_a_cache_that_cannot_be_written_costs_time_only(tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DCGAN_CACHE_DIR", str(tmp_path / "file"))
    compute = Counted()
    assert cached("a", [1], compute)["n"] == 3.5
    assert cached("a", [1], compute)["n"] == 3.5
    assert compute.times == 2
    assert "cannot be written" in capsys.readouterr().err


def test_facts_are_kept_with_their_tensors_and_belong_to_the_digest(tmp_path):
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"b": torch.ones(2), "a": torch.zeros(3)}, {"accuracy": 0.996})
    tensors, facts = load_tensors(path)
    assert list(tensors) == ["a", "b"]
    assert facts == {"accuracy": 0.996}
    path.write_bytes(path.read_bytes().replace(b"0.996", b"0.999"))
    with pytest.raises(ValueError, match="is damaged"):
        load_tensors(path)


def test_a_digest_tells_shapes_and_types_apart():
    x = torch.zeros(4)
    others = [torch.zeros(2, 2), torch.zeros(4, dtype=torch.float64)[:2], torch.zeros(4, dtype=torch.int32)]
    assert len({digest([value]) for value in (x, *others)}) == 4
