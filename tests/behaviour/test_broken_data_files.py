"""Damaged data files are rejected with a clear error or skipped and reported; no hang and no wrong label."""

import gzip
import json
import os
import shutil
import signal
import zlib
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
from dcgan.data.decoding import FileReader, ImageArrayFile, decode_chunk
from dcgan.data.mnist import MNISTDataModule
from dcgan.data.pixel_range import PixelRange
from dcgan.data.prepared_images import create_array_file
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
    data = MNISTDataModule(
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


# --- the user's own pictures

CLASSES = ("black", "white")
SAVE_OPTIONS = {".png": {}, ".jpg": {"quality": 95}}


def image_bytes(label: int, suffix: str) -> bytes:
    """Return a black (label 0) or white (label 1) image file."""
    buffer = BytesIO()
    Image.new("L", (20, 16), 255 * label).save(buffer, "JPEG" if suffix == ".jpg" else "PNG", **SAVE_OPTIONS[suffix])
    return buffer.getvalue()


def with_png_size(png: bytes, size: int) -> bytes:
    """Return a PNG file whose header has another height and width."""
    header = b"IHDR" + size.to_bytes(4, "big") * 2 + png[24:29]
    return png[:12] + header + zlib.crc32(header).to_bytes(4, "big") + png[33:]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label, name in enumerate(CLASSES):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(4):
            suffix = list(SAVE_OPTIONS)[i % 2]
            (tmp_path / "images" / name / f"{i}{suffix}").write_bytes(image_bytes(label, suffix))
    return tmp_path / "images"


def folder_settings(folder: Path) -> list[str]:
    size = ["data.image_size=8", "data.channels=1"]
    return ["data=image_folder", f"data.root={folder}", "data.test_fraction=0", "data.classes=2", *size]


@pytest.fixture
def output(tmp_path: Path) -> ImageArrayFile:
    return create_array_file(tmp_path / "images.npy", 8, 8, 1)


@BOUNDED
@given(st.integers(0, 7), damages())
def test_damaged_picture_is_named_and_the_others_keep_their_labels(folder, output, index, damage):
    paths = sorted(folder.rglob("*.*"))
    original = paths[index].read_bytes()
    read = FileReader(str(folder), {"black": 0, "white": 1})
    try:
        paths[index].write_bytes(apply_damage(original, damage))
        with time_limit():
            names = [path.relative_to(folder).as_posix() for path in paths]
            labels, broken = decode_chunk(read, names, 0, output)
    finally:
        paths[index].write_bytes(original)
    assert list(broken) in ([], [index])
    images = np.load(output.path)
    for i in range(8):
        if i != index:
            assert abs(images[i].mean() - 255 * labels[i]) < 3


def test_broken_picture_leaves_no_gap(folder):
    (folder / "black" / "3.jpg").write_bytes(b"broken")
    data = set_up_data(*folder_settings(folder), "data.labelled=true", "data.on_broken=skip", "data.batch_size=7")
    images, names = data.examples(list(range(7)))
    assert sorted(names) == ["black"] * 3 + ["white"] * 4
    assert images.float().mean(dim=(1, 2, 3)).tolist() == [255.0 * (name == "white") for name in names]


def train_on(dcgan_train, folder: Path, *overrides: str):
    return dcgan_train(
        *TINY, "trainer=cpu", "hydra.run.dir=run", "max_epochs=2", *folder_settings(folder), "data.batch_size=4",
        "samples.steps=[0]", *overrides,
    )  # fmt: skip


def test_broken_pictures_are_rejected_or_skipped_and_reported(dcgan_train, folder, monkeypatch):
    for name in ("black/0.png", "white/3.jpg"):
        (folder / name).write_bytes(b"broken")
    (folder / "white" / "gone.png").symlink_to("nowhere")
    outcome = train_on(dcgan_train, folder)
    assert outcome.code == 1
    assert f"error: 3 of 9 pictures in {folder} cannot be read (" in outcome.err
    assert f"{folder}/white/gone.png: No such file or directory" in outcome.err
    assert f"{folder}/black/0.png: it is not a valid JPEG, PNG, WebP, BMP or TIFF picture" in outcome.err
    assert "fix or remove them, or set data.on_broken=skip to leave them out" in outcome.err
    # they are prepared: nothing is decoded again
    monkeypatch.setattr("dcgan.data.decoding_pool.decode_chunk", None)
    outcome = train_on(dcgan_train, folder, "data.on_broken=skip")
    assert outcome.code == 0, outcome.err
    broken = json.loads(Path("run/summary.json").read_text())["broken_files"]
    assert sorted(broken) == [str(folder / name) for name in ("black/0.png", "white/3.jpg", "white/gone.png")]
    assert outcome.err.count("\n") == 1
    assert f"note: 3 of 9 pictures in {folder} cannot be read (" in outcome.err
    assert all(path in outcome.err for path in broken)
    assert "): they are left out" in outcome.err
    resumed = dcgan_train("ckpt_path=run/checkpoints/last.ckpt", f"data.root={folder}")
    assert resumed.code == 0, resumed.err  # the run is already at its last step
    assert json.loads(Path("run/summary.json").read_text())["broken_files"] == broken


def test_folder_of_broken_pictures_is_rejected(dcgan_train, folder):
    for path in folder.rglob("*.*"):
        path.write_bytes(b"broken")
    outcome = train_on(dcgan_train, folder, "data.on_broken=skip")
    assert outcome.code == 1
    assert f"8 of 8 pictures in {folder} cannot be read (" in outcome.err
    assert "; and 5 more): fix or remove them\n" in outcome.err


def test_reasons_of_broken_pictures(folder):
    """Bombs, animations and 32-bit pixels are found; pipes, and links to them, are left out."""
    os.mkfifo(folder / "black" / "pipe.png")
    (folder / "black" / "link.png").symlink_to(folder / "black" / "pipe.png")
    (folder / "black" / "folder.png").mkdir()
    for name, size in (("bomb.png", 60_000), ("large.png", 10_000)):
        (folder / "black" / name).write_bytes(with_png_size(image_bytes(0, ".png"), size))
    (folder / "black" / "empty.jpg").write_bytes(b"")
    (folder / "black" / "cut.jpg").write_bytes(image_bytes(0, ".jpg")[:-40])
    frames = [Image.new("L", (8, 8), i) for i in (0, 255)]
    frames[0].save(folder / "black" / "moving.webp", save_all=True, append_images=frames[1:])
    Image.new("F", (8, 8)).save(folder / "black" / "float.tiff")
    (folder / "black" / "script.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 16\nshowpage\n%%EOF\n")
    with time_limit():
        data = set_up_data(*folder_settings(folder), "data.on_broken=skip")
    reasons = {Path(name).name: reason for name, reason in data.broken_files.items()}
    assert data.n_images == 8
    assert "decompression bomb" in reasons.pop("bomb.png")
    assert "it has 100,000,000 pixels, more than Pillow's limit" in reasons.pop("large.png")
    assert "truncated" in reasons.pop("cut.jpg").lower()
    assert reasons == {
        "empty.jpg": "it is empty",
        "moving.webp": "it is animated or has pages (2)",
        "float.tiff": "its pixels are floats or have 32 bits: save it with 8 or 16 bits",
        "script.png": "it is not a valid JPEG, PNG, WebP, BMP or TIFF picture",
    }


def test_note_about_broken_pictures_is_short(folder, capsys):
    for i in range(12):
        (folder / "black" / f"1{i}.jpg").write_bytes(b"broken")
    data = set_up_data(*folder_settings(folder), "data.on_broken=skip")
    (note,) = capsys.readouterr().err.splitlines()
    assert note.startswith(f"note: 12 of 20 pictures in {folder} cannot be read (")
    assert note.endswith("; and 9 more): they are left out")
    assert len(data.broken_files) == 12
