"""Damaged, incompatible and malicious checkpoints are rejected with one sentence, and no code in them runs."""

import io
import pickle
import random
import time
import zipfile
from pathlib import Path

import pytest
import torch

from dcgan.checkpoints.io import FORMAT, read_checkpoint
from dcgan.common.errors import UserError
from dcgan.sampling.trained_generator import load_generator
from tests.sampling.test_trained_generator import Bomb, changed


def assert_rejected(outcome, file_name: str) -> str:
    """Assert that the command failed with one sentence that names the file. Return that sentence."""
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1, outcome.err
    assert outcome.err.startswith("error: ")
    assert file_name in outcome.err
    return outcome.err


@pytest.mark.parametrize("share", [i / 10 for i in range(10)])
def test_truncated_checkpoint_is_rejected(plain_run, dcgan_train, share):
    content = plain_run.read_bytes()
    Path("cut.ckpt").write_bytes(content[: int(share * len(content))])
    outcome = dcgan_train("ckpt_path=cut.ckpt", "max_steps=9")
    assert "truncated or not a checkpoint" in assert_rejected(outcome, "cut.ckpt")


def is_equal(one: object, other: object) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(is_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(is_equal, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def test_flipped_bit_is_detected_or_changes_nothing_that_is_read(plain_run, tmp_path):
    """Flip bits anywhere: in the pickle, a tensor, a header. A few bytes of a zip archive are padding."""
    original, rng, path = plain_run.read_bytes(), random.Random(0), tmp_path / "flipped.ckpt"
    valid, n_accepted, messages = read_checkpoint(plain_run), 0, set()
    headers = [*range(40), *range(len(original) - 120, len(original))]
    for position in [*headers, *(rng.randrange(len(original)) for _ in range(300))]:
        flipped = bytearray(original)
        flipped[position] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        try:
            content = read_checkpoint(path)
        except UserError as error:
            messages.add(str(error))
            continue
        n_accepted += 1
        assert is_equal(content, valid)
    assert n_accepted < 200
    assert all("flipped.ckpt cannot be read as a checkpoint" in message for message in messages)


def test_flipped_bit_of_a_tensor_is_detected(plain_run, tmp_path):
    path = tmp_path / "flipped.ckpt"
    original = plain_run.read_bytes()
    tensor = read_checkpoint(plain_run)["state_dict"]["generator.to_image.weight"].contiguous().numpy().tobytes()
    flipped = bytearray(original)
    flipped[original.index(tensor) + 5] ^= 1
    path.write_bytes(flipped)
    torch.load(path, weights_only=True)  # does not detect it
    with pytest.raises(UserError, match="its content is not what was written"):
        read_checkpoint(path)


@pytest.mark.parametrize(("version", "change"), [("newer", 1), ("older", -1)])
def test_another_format_is_rejected(plain_run, tmp_path, dcgan_train, version, change):
    path = changed(plain_run, tmp_path / "other.ckpt", lambda content: content.update(format=FORMAT + change))
    sentence = assert_rejected(dcgan_train(f"ckpt_path={path}", "hydra.run.dir=run"), "other.ckpt")
    assert f"{version} version of dcgan" in sentence


def test_weights_of_another_model_are_rejected(plain_run, conditional_run, tmp_path, dcgan_train):
    other = read_checkpoint(conditional_run)["state_dict"]
    path = changed(plain_run, tmp_path / "mixed.ckpt", lambda content: content.update(state_dict=other))
    sentence = assert_rejected(dcgan_train(f"ckpt_path={path}", "max_steps=9", "hydra.run.dir=run"), "mixed.ckpt")
    assert "mixed.ckpt: the checkpoint's model has other weights than its config says" in sentence


PARTS = ("optimizer_states", "loops", "callbacks", "epoch", "global_step", "processes", "state_dict", "config",
         "choices", "step", "dataset", "images", "fingerprint", "pytorch-lightning_version")  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
def test_invalid_part_is_rejected_or_not_used(plain_run, tmp_path, dcgan_train, name):
    path = changed(plain_run, tmp_path / "invalid.ckpt", lambda content: content.update({name: [[]]}))
    outcome = dcgan_train(f"ckpt_path={path}", "max_steps=5", "hydra.run.dir=run")
    if outcome.code:
        assert_rejected(outcome, "invalid.ckpt")


STATES = [
    ("EvaluationCallback", "best", "x"),
    ("EvaluationCallback", "latest", [1]),
    ("EvaluationCallback", "latest", {"test/frechet": "x"}),
    ("Health", "reported", None),
    ("MetricsLogger", "steps", [["x"]]),
    ("RunSummary", "learning_rates", {"generator": None}),
]


@pytest.mark.parametrize(("callback", "name", "value"), STATES, ids=[f"{c}.{n}={v}" for c, n, v in STATES])
def test_invalid_state_of_a_callback_is_rejected(plain_run, dcgan_train, callback, name, value):
    path = changed(
        plain_run, Path("invalid.ckpt"), lambda content: content["callbacks"][callback].update({name: value})
    )
    outcome = dcgan_train(f"ckpt_path={path}", "max_steps=5", "hydra.run.dir=run")
    assert f"the checkpoint is inconsistent (ValueError: {name}" in assert_rejected(outcome, "invalid.ckpt")


def test_other_training_images_are_rejected(plain_run, dcgan_train):
    path = changed(plain_run, Path("other.ckpt"), lambda content: content.update(fingerprint="0" * 64))
    outcome = dcgan_train(f"ckpt_path={path}", "max_steps=5", "hydra.run.dir=run")
    assert "the training images are not those that the checkpoint was made with" in outcome.err


@pytest.mark.parametrize("kind", ["short", "long", "expanded", "text", "learning rate"])
def test_optimizer_state_of_another_shape_is_rejected_or_converted(plain_run, dcgan_train, kind):
    """A fused kernel would read and write past its end. The learning rate comes from the config."""
    moments = {"short": torch.zeros(3), "long": torch.zeros(10**6), "text": "text"}

    def change(content):
        state = content["optimizer_states"][0]
        entry = state["state"][0]
        if kind == "learning rate":
            state["param_groups"][0]["lr"] = "x"
        else:
            entry["exp_avg"] = moments.get(kind, torch.zeros(1).expand(entry["exp_avg"].shape))

    path = changed(plain_run, Path("invalid.ckpt"), change)
    outcome = dcgan_train(f"ckpt_path={path}", "max_steps=5", "hydra.run.dir=run")
    if kind in ("expanded", "learning rate"):
        assert outcome.code == 0, outcome.err
    else:
        assert "the checkpoint is inconsistent (" in assert_rejected(outcome, "invalid.ckpt")


@pytest.mark.parametrize(
    "change", [{"health": None}, {"model": "???"}, {"trainer": "x"}, {"checkpoints": [1]}, {"seed": -1}]
)
def test_invalid_config_is_rejected(plain_run, dcgan_train, change):
    path = changed(plain_run, Path("invalid.ckpt"), lambda content: content["config"].update(change))
    outcome = dcgan_train(f"ckpt_path={path}", "max_steps=5", "hydra.run.dir=run")
    assert outcome.code == 1
    assert "Traceback" not in outcome.err
    assert outcome.err.count("\n") == 1


# --- bombs


@pytest.fixture
def _time_limit():
    start = time.monotonic()
    yield
    assert time.monotonic() - start < 30


def endless_list() -> list:
    inner: list = []
    inner.append(inner)
    return inner


def nested_list(depth: int) -> list:
    """Return a list of 2 ^ depth entries that takes a few bytes in a file ("billion laughs")."""
    return ["ha"] if depth == 0 else [inner := nested_list(depth - 1), inner]


@pytest.mark.usefixtures("_time_limit")
@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (Bomb(), "cannot be read as a checkpoint"),
        (endless_list(), "config must be of type dict"),
        (nested_list(60), "config must be of type dict"),
        ({"notes": endless_list()}, "more than 10,000 entries"),
        ({"notes": nested_list(60)}, "more than 10,000 entries"),
        ({"notes": {1.5: torch.zeros(1).expand(10**9)}}, "holds a Tensor, which is not a plain value"),
    ],
    ids=["code", "endless", "laughs", "endless below", "laughs below", "tensor"],
)
def test_bomb_is_rejected(plain_run, dcgan_train, value, sentence):
    def plant(content):
        content["config"] = content["config"] | value if isinstance(value, dict) else value

    path = changed(plain_run, Path("bomb.ckpt"), plant)
    assert sentence in assert_rejected(dcgan_train(f"ckpt_path={path}", "hydra.run.dir=run"), "bomb.ckpt")
    assert not Path("exploded").exists()


def act(target: str, **arguments: object) -> dict:
    return {"output_activation": {"_target_": target, **arguments}}


HUGE_NETWORKS = {
    "layers": act("torch.nn.LSTM", input_size=1, hidden_size=1, num_layers=10**8),
    "copies": act("torch.nn.Transformer", d_model=2, nhead=1, num_encoder_layers=10**7),
    "weight": act("torch.nn.Linear", in_features=28, out_features=10**9),
    "map": act("torch.nn.Upsample", scale_factor=3000),
    "padding": act("torch.nn.ZeroPad2d", padding=60_000),
    "channels": {"base_channels": 10**5},
    "latent": {"latent_dim": 10**10},
    "kernel": {
        "upsampling": {"_target_": "dcgan.models.upsampling.TransposedConv", "_partial_": True, "kernel_size": 4000}
    },
}


@pytest.mark.usefixtures("_time_limit")
@pytest.mark.parametrize("change", HUGE_NETWORKS.values(), ids=HUGE_NETWORKS)
def test_config_of_a_huge_network_is_rejected_before_it_gets_memory(plain_run, tmp_path, change):
    path = changed(plain_run, tmp_path / "bomb.ckpt", lambda content: content["config"]["model"].update(change))
    with pytest.raises(
        UserError, match=r"bomb\.ckpt: the checkpoint's model (has other weights|cannot be built|does not)"
    ):
        load_generator(path)


def test_weights_that_are_larger_than_the_file_are_rejected(plain_run, tmp_path):
    def expand(content):
        content["state_dict"]["ema.network.to_image.weight"] = torch.zeros(()).expand(10**5, 10**5)

    with pytest.raises(UserError, match="its weights need more bytes than it has"):
        load_generator(changed(plain_run, tmp_path / "bomb.ckpt", expand))


@pytest.mark.parametrize("change", [lambda x: x.to("meta"), lambda x: x.to(torch.complex64)])
def test_weights_of_another_kind_are_rejected(plain_run, tmp_path, change):
    def convert(content):
        content["state_dict"]["fixed_z"] = change(content["state_dict"]["fixed_z"])

    with pytest.raises(UserError, match="its weights are not plain tensors"):
        read_checkpoint(changed(plain_run, tmp_path / "bad.ckpt", convert))


@pytest.mark.usefixtures("_time_limit")
def test_pickle_that_sets_a_size_is_rejected(tmp_path):
    torch.save({"x": bytearray(3)}, path := tmp_path / "bomb.ckpt")
    with pytest.raises(UserError, match="its content is not what was written"):
        read_checkpoint(path)


def test_compressed_archive_is_rejected(tmp_path):
    """A few bytes of it could fill the memory."""
    path = tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10_000_000))
        archive.writestr("archive/version", "3")
    with pytest.raises(UserError, match=r"bomb\.ckpt cannot be read as a checkpoint"):
        read_checkpoint(path)


def test_bare_pickle_is_rejected(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    buffer = io.BytesIO()
    pickle.dump(Bomb(), buffer)
    Path("bare.ckpt").write_bytes(buffer.getvalue())
    with pytest.raises(UserError, match="truncated or not a checkpoint"):
        read_checkpoint("bare.ckpt")
    assert not Path("exploded").exists()
