"""Damaged data files are rejected with a clear error or skipped and reported; no hang and no wrong label."""

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
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets import MNIST

from dcgan.common.errors import UserError
from dcgan.data.image_folder import ImageDataset, collate
from dcgan.data.pixel_range import PixelRange
from dcgan.data.torchvision import TorchvisionDataModule
from tests.conftest import TINY, idx_bytes
from tests.data.building import set_up_data

BOUNDED = settings(
    max_examples=400, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@contextmanager
def time_limit(seconds: int = 10) -> Iterator[None]:
    """Raise AssertionError if the context takes too long."""

    def fail(*_: object) -> None:
        raise AssertionError(f"more than {seconds} seconds")

    handler = signal.signal(signal.SIGALRM, fail)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)


@st.composite
def damages(draw: st.DrawFn) -> list[tuple[str, float, bytes]]:
    """Generate edits of a file: their kind, their position as a fraction of its length, and bytes."""
    kinds = st.sampled_from(("cut", "overwrite", "insert", "remove"))
    positions = st.one_of(st.floats(0, 1), st.floats(0, 0.02))  # more often in the header
    return draw(st.lists(st.tuples(kinds, positions, st.binary(min_size=1, max_size=12)), min_size=1, max_size=4))


def apply_damage(content: bytes, damage: list[tuple[str, float, bytes]]) -> bytes:
    for kind, position, data in damage:
        i = int(position * len(content))
        match kind:
            case "cut":
                content = content[:i]
            case "overwrite":
                content = content[:i] + data + content[i + len(data) :]
            case "insert":
                content = content[:i] + data + content[i:]
            case "remove":
                content = content[:i] + content[i + len(data) :]
    return content


# --- MNIST's format, through torchvision

NAMES = [f"{part}-{kind}" for part in ("train", "t10k") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]


@pytest.fixture
def root(mnist_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(mnist_root, tmp_path / "data"))


def load(root: Path) -> list[torch.Tensor]:
    data = TorchvisionDataModule(
        dataset=MNIST, root=str(root), image_size=28, channels=1, pixels=PixelRange(-1), batch_size=8, classes=10
    )
    with time_limit():
        data.prepare_data()
        return [*data.load(train=True), *data.load(train=False)]


HUGE_SIZES = b"\0\0\x08\x03" + 12 * b"\xff"


@BOUNDED
@given(st.sampled_from(NAMES), damages(), st.booleans())
@example("train-labels-idx1-ubyte", [("overwrite", 0.5, b"\x01\x02\x03")], True)
@example("train-images-idx3-ubyte", [("overwrite", 0.0, HUGE_SIZES)], False)
@example("train-images-idx3-ubyte", [("overwrite", 0.0, b"\0\0\x08\xff")], False)
def test_damaged_idx_file_is_rejected_or_its_content_is_unchanged(root, name, damage, archives):
    """Without its archive, only the length of a file can be checked."""
    raw = root / "MNIST" / "raw"
    originals = {file: (raw / file).read_bytes() for file in NAMES}
    before, after, message = load(root), None, ""
    try:
        for file in NAMES:
            if archives:
                (raw / f"{file}.gz").write_bytes(gzip.compress(originals[file], 1))
        (raw / name).write_bytes(apply_damage(originals[name], damage))
        try:
            after = load(root)
        except UserError as error:
            message = str(error)
    finally:
        for file in NAMES:
            (raw / file).write_bytes(originals[file])
            (raw / f"{file}.gz").unlink(missing_ok=True)
    if after is None:
        assert any(part in message for part in (f"{raw / name} is damaged", "data.classes must be", f"{raw} has "))
    else:
        assert [x.shape for x in after] == [x.shape for x in before]
        assert not archives or all(torch.equal(x, y) for x, y in zip(before, after, strict=True))


def test_labels_that_differ_from_the_archive_are_rejected(root):
    raw = root / "MNIST" / "raw"
    labels = (raw / "train-labels-idx1-ubyte").read_bytes()
    (raw / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    load(root)
    (raw / "train-labels-idx1-ubyte").write_bytes(labels[:-1] + bytes([(labels[-1] + 1) % 10]))
    with pytest.raises(UserError, match=r"labels-idx1-ubyte is damaged .its checksum is not that of .*\.gz"):
        load(root)


def test_labels_out_of_range_and_missing_labels_are_rejected(root):
    path = root / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    path.write_bytes(idx_bytes(np.full(64, 11, dtype=np.uint8)))
    with pytest.raises(UserError, match=r"data\.classes must be > 11, the highest label, got 10"):
        load(root)
    path.write_bytes(idx_bytes(np.zeros(63, dtype=np.uint8)))
    with pytest.raises(UserError, match="has 64 images and 63 labels"):
        load(root)


# --- the user's own images

CLASSES = ("black", "white")
SAVE_OPTIONS = {".png": {}, ".jpg": {"quality": 95}}


def image_bytes(label: int, suffix: str) -> bytes:
    """Return a black (label 0) or white (label 1) image file."""
    buffer = BytesIO()
    Image.new("L", (20, 16), 255 * label).save(buffer, "JPEG" if suffix == ".jpg" else "PNG", **SAVE_OPTIONS[suffix])
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label, name in enumerate(CLASSES):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(4):
            suffix = list(SAVE_OPTIONS)[i % 2]
            (tmp_path / "images" / name / f"{i}{suffix}").write_bytes(image_bytes(label, suffix))
    return tmp_path / "images"


def build_dataset(folder: Path, skip: bool) -> ImageDataset:
    paths = sorted(folder.rglob("*.*"))
    return ImageDataset(paths, [CLASSES.index(path.parent.name) for path in paths], 8, 1, skip)


@BOUNDED
@given(st.integers(0, 7), damages())
def test_damaged_image_is_rejected_or_skipped_and_the_others_keep_their_labels(folder, index, damage):
    path = sorted(folder.rglob("*.*"))[index]
    original = path.read_bytes()
    try:
        path.write_bytes(apply_damage(original, damage))
        with time_limit():
            loaded = build_dataset(folder, skip=False)[index]
            if loaded.image is None:
                assert list(loaded.broken_files) == [str(path)]
                assert f"the image {path} cannot be read" in collate([loaded])
            batch = collate([build_dataset(folder, skip=True)[i] for i in range(8)])
    finally:
        path.write_bytes(original)
    assert not isinstance(batch, str)
    images, labels, broken_files = batch
    assert list(broken_files) == ([str(path)] if loaded.image is None else [])
    assert images.shape == (8, 1, 8, 8)
    for i in range(8):
        if i != index or broken_files:  # a replacement has its own label
            assert abs(images[i].float().mean().item() - 255 * labels[i].item()) < 3


def test_replacement_of_a_broken_image_has_its_own_class(folder):
    (folder / "black" / "3.jpg").write_bytes(b"broken")
    settings = [f"data.root={folder}", "data.image_size=8", "data.channels=1", "data.classes=2", "data.labelled=true"]
    data = set_up_data("data=image_folder", *settings, "data.on_broken=skip")
    images, names = data.examples([2, 3])
    assert names == ["black", "white"]
    assert images.float().mean(dim=(1, 2, 3)).tolist() == [0, 255]


def train_on(dcgan_train, folder: Path, *overrides: str):
    return dcgan_train(
        *TINY, "trainer=cpu", "hydra.run.dir=run", "max_epochs=2", "data=image_folder", f"data.root={folder}",
        "data.image_size=8", "data.channels=1", "data.batch_size=4", "samples.steps=[0]", *overrides,
    )  # fmt: skip


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_images_are_skipped_and_reported(dcgan_train, folder, workers):
    for name in ("black/0.png", "white/3.jpg"):
        (folder / name).write_bytes(b"broken")
    (folder / "white" / "gone.png").symlink_to("nowhere")
    outcome = train_on(dcgan_train, folder, "data.on_broken=skip", f"data.workers={workers}")
    assert outcome.code == 0, outcome.err
    broken = json.loads(Path("run/summary.json").read_text())["broken_files"]
    assert sorted(broken) == [str(folder / name) for name in ("black/0.png", "white/3.jpg", "white/gone.png")]
    assert outcome.err.count("\n") == 3
    for path in broken:
        assert outcome.err.count(f"note: skipped {path}, which cannot be read (") == 1
    resumed = dcgan_train("ckpt_path=run/checkpoints/last.ckpt", f"data.root={folder}")
    assert resumed.code == 0, resumed.err  # the run is already at its last step
    assert json.loads(Path("run/summary.json").read_text())["broken_files"] == broken
    shutil.rmtree("run")
    outcome = train_on(dcgan_train, folder, f"data.workers={workers}")
    assert outcome.code == 1
    assert "cannot be read" in outcome.err
    assert "fix or remove it, or set data.on_broken=skip" in outcome.err


def test_folder_of_broken_images_is_rejected(dcgan_train, folder):
    for path in folder.rglob("*.*"):
        path.write_bytes(b"broken")
    outcome = train_on(dcgan_train, folder, "data.on_broken=skip", "data.workers=0")
    assert outcome.code == 1
    assert f"8 images in a row, from {folder}/black/0.png on, cannot be read (" in outcome.err


def test_pipes_and_folders_are_ignored_and_decompression_bombs_are_broken(folder):
    os.mkfifo(folder / "black" / "pipe.png")
    (folder / "black" / "folder.png").mkdir()
    bomb = bytearray(image_bytes(0, ".png"))
    # the size in the header, whose checksum is then wrong; Pillow checks it later or not at all
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    (folder / "black" / "bomb.png").write_bytes(bomb)
    settings = ["data=image_folder", f"data.root={folder}", "data.image_size=8", "data.workers=0"]
    with time_limit():
        dataset = set_up_data(*settings).dataset
        names = [path.name for path in dataset.paths]
        assert len(names) == 9
        assert "pipe.png" not in names
        assert "folder.png" not in names
        assert dataset[names.index("bomb.png")].image is None


def test_link_to_a_pipe_is_ignored_and_postscript_is_not_run(folder, monkeypatch):
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was started"))
    os.mkfifo(folder / "pipe")
    (folder / "black" / "link.png").symlink_to(folder / "pipe")
    (folder / "black" / "script.png").write_text(
        "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 16\n%%EndComments\nshowpage\n%%EOF\n"
    )
    settings = ["data=image_folder", f"data.root={folder}", "data.image_size=8", "data.workers=0"]
    with time_limit():
        dataset = set_up_data(*settings).dataset
        names = [path.name for path in dataset.paths]
        assert "link.png" not in names
        script = dataset[names.index("script.png")]
        assert script.image is None
        assert "cannot identify image file" in next(iter(script.broken_files.values()))
