"""Broken data files, thousands of them: a clear error, or left out, counted and named; no hang and no wrong label."""

import gzip
import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets import MNIST

from dcgan.checks import UserError
from dcgan.data import TorchvisionData
from dcgan.image_folder import Pictures, collate
from dcgan.pixels import PixelRange
from tests.conftest import TINY, compose_config, idx_bytes

BOUNDED = settings(
    max_examples=400, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@contextmanager
def in_time(seconds: int = 10) -> Iterator[None]:
    """A hang ends here."""

    def end(*_: object) -> None:
        raise AssertionError(f"more than {seconds} seconds")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@st.composite
def damages(draw: st.DrawFn) -> list[tuple[str, float, bytes]]:
    """What happens to a file, each thing at a share of its length."""
    kinds = st.sampled_from(("cut", "overwrite", "insert", "remove"))
    places = st.one_of(st.floats(0, 1), st.floats(0, 0.02))  # headers are what readers believe
    return draw(st.lists(st.tuples(kinds, places, st.binary(min_size=1, max_size=12)), min_size=1, max_size=4))


def damaged(content: bytes, damage: list[tuple[str, float, bytes]]) -> bytes:
    for kind, share, data in damage:
        at = int(share * len(content))
        match kind:
            case "cut":
                content = content[:at]
            case "overwrite":
                content = content[:at] + data + content[at + len(data) :]
            case "insert":
                content = content[:at] + data + content[at:]
            case "remove":
                content = content[:at] + content[at + len(data) :]
    return content


# --- MNIST's format, through torchvision

NAMES = [f"{part}-{what}" for part in ("train", "t10k") for what in ("images-idx3-ubyte", "labels-idx1-ubyte")]


@pytest.fixture
def root(mnist_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(mnist_root, tmp_path / "data"))


def load(root: Path) -> list[torch.Tensor]:
    data = TorchvisionData(MNIST, str(root), 28, 1, PixelRange(-1), batch_size=8, classes=10)
    with in_time():
        data.prepare_data()
        return [*data.load(train=True), *data.load(train=False)]


ENDLESS = b"\0\0\x08\x03" + 12 * b"\xff"


@BOUNDED
@given(st.sampled_from(NAMES), damages(), st.booleans())
@example("train-labels-idx1-ubyte", [("overwrite", 0.5, b"\x01\x02\x03")], True)
@example("train-images-idx3-ubyte", [("overwrite", 0.0, ENDLESS)], False)
@example("train-images-idx3-ubyte", [("overwrite", 0.0, b"\0\0\x08\xff")], False)
def test_a_damaged_file_of_mnists_format_is_named_or_nothing_of_it_is_changed(root, name, damage, archives):
    """Without its archive beside it, a file that is as long as its header says can only be believed."""
    raw = root / "MNIST" / "raw"
    whole = {file: (raw / file).read_bytes() for file in NAMES}
    before, after, said = load(root), None, ""
    try:
        for file in NAMES:
            if archives:
                (raw / f"{file}.gz").write_bytes(gzip.compress(whole[file], 1))
        (raw / name).write_bytes(damaged(whole[name], damage))
        try:
            after = load(root)
        except UserError as error:
            said = str(error)
    finally:
        for file in NAMES:
            (raw / file).write_bytes(whole[file])
            (raw / f"{file}.gz").unlink(missing_ok=True)
    if after is None:
        assert f"{raw / name} is damaged" in said or "there are labels up to" in said or f"{raw} has " in said
    else:
        assert [x.shape for x in after] == [x.shape for x in before]
        assert not archives or all(torch.equal(x, y) for x, y in zip(before, after, strict=True))


def test_other_labels_than_the_archives_are_told(root):
    raw = root / "MNIST" / "raw"
    labels = (raw / "train-labels-idx1-ubyte").read_bytes()
    (raw / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    load(root)
    (raw / "train-labels-idx1-ubyte").write_bytes(labels[:-1] + bytes([(labels[-1] + 1) % 10]))
    with pytest.raises(UserError, match=r"labels-idx1-ubyte is damaged .it is not what .*\.gz beside"):
        load(root)


def test_labels_that_are_no_classes_or_too_few_are_told(root):
    path = root / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    path.write_bytes(idx_bytes(np.full(64, 11, dtype=np.uint8)))
    with pytest.raises(UserError, match=r"there are labels up to 11: set data\.classes to more than the 10 given"):
        load(root)
    path.write_bytes(idx_bytes(np.zeros(63, dtype=np.uint8)))
    with pytest.raises(UserError, match="has 64 images and 63 labels"):
        load(root)


# --- the user's own pictures

CLASSES = ("black", "white")
KINDS = {".png": {}, ".jpg": {"quality": 95}}


def picture(label: int, suffix: str) -> bytes:
    """A picture whose grey tells its class, and its own number in that class."""
    buffer = BytesIO()
    Image.new("L", (20, 16), 255 * label).save(buffer, "JPEG" if suffix == ".jpg" else "PNG", **KINDS[suffix])
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label, name in enumerate(CLASSES):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(4):
            suffix = list(KINDS)[i % 2]
            (tmp_path / "pictures" / name / f"{i}{suffix}").write_bytes(picture(label, suffix))
    return tmp_path / "pictures"


def pictures_of(folder: Path, skip: bool) -> Pictures:
    paths = sorted(folder.rglob("*.*"))
    return Pictures(paths, [CLASSES.index(path.parent.name) for path in paths], 8, 1, skip)


@BOUNDED
@given(st.integers(0, 7), damages())
def test_a_damaged_picture_is_named_or_left_out_and_the_others_keep_their_labels(folder, which, damage):
    path = sorted(folder.rglob("*.*"))[which]
    whole = path.read_bytes()
    try:
        path.write_bytes(damaged(whole, damage))
        with in_time():
            first = pictures_of(folder, skip=False)[which]
            if first.image is None:
                assert list(first.broken) == [str(path)]
                assert f"the picture {path} cannot be read" in collate([first])
            stack = collate([pictures_of(folder, skip=True)[i] for i in range(8)])
    finally:
        path.write_bytes(whole)
    assert not isinstance(stack, str)
    images, labels, broken = stack
    assert list(broken) == ([str(path)] if first.image is None else [])
    assert images.shape == (8, 1, 8, 8)
    for i in range(8):
        if i != which or broken:  # also the one that has taken its place
            assert abs(images[i].float().mean().item() - 255 * labels[i].item()) < 3


def test_a_picture_that_has_taken_anothers_place_brings_its_own_class(folder):
    (folder / "black" / "3.jpg").write_bytes(b"broken")
    settings = [f"data.root={folder}", "data.image_size=8", "data.channels=1", "data.classes=2", "data.labelled=true"]
    data = instantiate(compose_config("data=image_folder", *settings, "data.on_broken=skip").data)
    data.setup("fit")
    images, names = data.examples([2, 3])
    assert names == ["black", "white"]
    assert images.float().mean(dim=(1, 2, 3)).tolist() == [0, 255]


def train_on(dcgan_train, folder: Path, *overrides: str):
    return dcgan_train(
        *TINY, "trainer=cpu", "hydra.run.dir=run", "max_epochs=2", "data=image_folder", f"data.root={folder}",
        "data.image_size=8", "data.channels=1", "data.batch_size=4", "samples.steps=[0]", *overrides,
    )  # fmt: skip


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_pictures_are_left_out_counted_and_named(dcgan_train, folder, workers):
    for name in ("black/0.png", "white/3.jpg"):
        (folder / name).write_bytes(b"broken")
    (folder / "white" / "gone.png").symlink_to("nowhere")
    outcome = train_on(dcgan_train, folder, "data.on_broken=skip", f"data.workers={workers}")
    assert outcome.code == 0, outcome.err
    broken = json.loads(Path("run/summary.json").read_text())["broken_files"]
    assert sorted(broken) == [str(folder / name) for name in ("black/0.png", "white/3.jpg", "white/gone.png")]
    assert outcome.err.count("\n") == 3
    for path in broken:
        assert outcome.err.count(f"note: left out {path}, which cannot be read (") == 1
    resumed = dcgan_train("ckpt_path=run/checkpoints/last.ckpt", f"data.root={folder}")
    assert resumed.code == 0, resumed.err  # nothing is left to do
    assert json.loads(Path("run/summary.json").read_text())["broken_files"] == broken
    shutil.rmtree("run")
    outcome = train_on(dcgan_train, folder, f"data.workers={workers}")
    assert outcome.code == 1
    assert "cannot be read" in outcome.err
    assert "mend or remove it, or set data.on_broken=skip" in outcome.err


def test_a_folder_of_broken_pictures_is_no_picture_folder(dcgan_train, folder):
    for path in folder.rglob("*.*"):
        path.write_bytes(b"broken")
    outcome = train_on(dcgan_train, folder, "data.on_broken=skip", "data.workers=0")
    assert outcome.code == 1
    assert f"none of 8 pictures from {folder}/black/0.png on can be read (" in outcome.err


def test_pipes_and_folders_are_no_pictures_and_bombs_are_broken_ones(folder):
    os.mkfifo(folder / "black" / "pipe.png")
    (folder / "black" / "folder.png").mkdir()
    bomb = bytearray(picture(0, ".png"))
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2  # its size, in a header whose checksum is wrong then, which Pillow
    (folder / "black" / "bomb.png").write_bytes(bomb)  # looks at later, or not at all
    data = instantiate(compose_config("data=image_folder", f"data.root={folder}", "data.image_size=8").data)
    with in_time():
        data.setup("fit")
        names = [path.name for path in data.pictures.paths]
        assert len(names) == 9
        assert "pipe.png" not in names
        assert "folder.png" not in names
        assert data.pictures[names.index("bomb.png")].image is None


def test_a_link_to_a_pipe_is_no_picture_and_postscript_is_not_run(folder, monkeypatch):
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was started"))
    os.mkfifo(folder / "pipe")
    (folder / "black" / "link.png").symlink_to(folder / "pipe")
    (folder / "black" / "script.png").write_text(
        "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 16\n%%EndComments\nshowpage\n%%EOF\n"
    )
    data = instantiate(compose_config("data=image_folder", f"data.root={folder}", "data.image_size=8").data)
    with in_time():
        data.setup("fit")
        names = [path.name for path in data.pictures.paths]
        assert "link.png" not in names
        script = data.pictures[names.index("script.png")]
        assert script.image is None
        assert "cannot identify image file" in next(iter(script.broken.values()))


def test_an_unknown_wish_for_broken_pictures_is_refused(folder):
    with pytest.raises(Exception, match=r"data\.on_broken must be one of raise, skip, got 'ignore'"):
        instantiate(compose_config("data=image_folder", "data.on_broken=ignore").data)
