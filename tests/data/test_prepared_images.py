"""Prepared images in the cache: damaged, shared by parallel jobs, on full disks, and larger than the memory."""

import json
import os
import resource
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dcgan.common.errors import UserError
from dcgan.data import decoding_pool, prepared_images
from dcgan.data.decoding_pool import start_decoding_process
from dcgan.data.prepared_images import FACTS, array_header, hash_fraction, open_prepared
from tests.behaviour.test_disk import small_disk
from tests.data.building import batches, build_data, set_up_data


@pytest.fixture
def settings(tmp_path: Path) -> list[str]:
    """The settings of a folder of 40 flat pictures, and of an empty cache."""
    (tmp_path / "images").mkdir()
    for i in range(40):
        Image.new("L", (8, 8), 6 * i).save(tmp_path / "images" / f"{i}.png")
    folders = [f"data.root={tmp_path / 'images'}", f"data.cache_dir={tmp_path / 'cache'}"]
    return ["data=image_folder", *folders, "data.image_size=8", "data.channels=1"]


def cut(folder: Path) -> None:
    content = (folder / "train.npy").read_bytes()
    (folder / "train.npy").write_bytes(content[:-1])


def empty(folder: Path) -> None:
    (folder / "test.npy").write_bytes(b"")


def change_version(folder: Path) -> None:
    facts = json.loads((folder / FACTS).read_text())
    (folder / FACTS).write_text(json.dumps(facts | {"version": 0}))


def cut_facts(folder: Path) -> None:
    (folder / FACTS).write_text("{")


def remove_images(folder: Path) -> None:
    (folder / "train.npy").unlink()


def change_facts(**changes: object) -> Callable[[Path], None]:
    """Return a function that changes the facts of a folder."""

    def change(folder: Path) -> None:
        (folder / FACTS).write_text(json.dumps(json.loads((folder / FACTS).read_text()) | changes))

    return change


def resize(folder: Path) -> None:
    """Replace the images by valid ones of another size."""
    shape = (4, 1, 16, 16)
    np.save(folder / "train.npy", np.zeros(shape, dtype=np.uint8))
    change_facts(shapes=json.loads((folder / FACTS).read_text())["shapes"] | {"train": shape})(folder)


@pytest.mark.parametrize(
    "damage",
    [
        *(cut, empty, change_version, cut_facts, remove_images, resize),
        *(change_facts(shapes=None), change_facts(has_labels=5), change_facts(broken=[1]), change_facts(content=5)),
    ],
)
def test_damaged_folder_is_prepared_again_with_a_note(settings, damage, capsys):
    data = set_up_data(*settings)
    assert capsys.readouterr().err == ""
    damage(data.prepared_dir())
    again = set_up_data(*settings)
    err = capsys.readouterr().err
    assert err.startswith(f"note: {data.prepared_dir()} is damaged (")
    assert err.endswith("): the images are prepared again\n")
    assert err.count("\n") == 1
    assert again.fingerprint == data.fingerprint
    set_up_data(*settings)
    assert capsys.readouterr().err == ""


def test_images_are_decoded_once(settings, monkeypatch):
    first = set_up_data(*settings)
    monkeypatch.setattr(decoding_pool, "decode_chunk", None)
    assert set_up_data(*settings, "data.limit=20", "output=sigmoid").n_images == 20
    assert set_up_data(*settings).train_images.equal(first.train_images)


def test_leftovers_of_a_killed_process_are_removed(settings, tmp_path):
    leftover = tmp_path / "cache" / ".images-0123.1.tmp"
    leftover.mkdir(parents=True)
    set_up_data(*settings)
    assert not leftover.exists()


def test_parallel_jobs_prepare_once(settings, monkeypatch):
    calls, write = [], prepared_images.write_prepared
    monkeypatch.setattr("dcgan.data.prepared_datamodule.write_prepared", lambda *args: (calls.append(1), write(*args)))
    modules = [build_data(*settings) for _ in range(4)]
    threads = [threading.Thread(target=module.prepare_data) for module in modules]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert all(len(module.prepared.images["train"]) == len(modules[0].prepared.images["train"]) for module in modules)


def test_many_files_are_decoded_in_processes(settings, monkeypatch):
    expected = set_up_data(*settings).train_images.clone()
    shutil.rmtree(build_data(*settings).prepared_dir())
    monkeypatch.setattr(prepared_images, "MIN_FILES_OF_PROCESSES", 10)
    monkeypatch.setattr(prepared_images, "CHUNK_SIZE", 5)
    monkeypatch.setattr(decoding_pool, "decode_chunk", None)
    assert set_up_data(*settings).train_images.equal(expected)


def test_killed_process_is_a_clear_error(settings, monkeypatch, tmp_path):
    def start_and_kill() -> subprocess.Popen:
        process = start_decoding_process()
        process.kill()
        process.wait()
        return process

    monkeypatch.setattr(prepared_images, "MIN_FILES_OF_PROCESSES", 10)
    monkeypatch.setattr(decoding_pool, "start_decoding_process", start_and_kill)
    with pytest.raises(UserError, match="decoding the images has ended: it may have needed more memory"):
        set_up_data(*settings)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["images.lock"]


@pytest.mark.parametrize("in_processes", [False, True])
def test_full_disk_is_a_clear_error(settings, tmp_path, monkeypatch, in_processes):
    monkeypatch.setattr(prepared_images, "MIN_FILES_OF_PROCESSES", 10 if in_processes else 1000)
    with small_disk(tmp_path / "cache") as shrink:
        shrink(100_000)
        with pytest.raises(
            UserError, match=r"cache cannot be written \((No space left|File too large).*data.cache_dir"
        ):
            set_up_data(*settings, "data.image_size=128")


def test_cache_folder_that_cannot_be_written_is_a_clear_error(settings, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written \(.*choose another data.cache_dir"):
        set_up_data(*settings, f"data.cache_dir={tmp_path / 'file' / 'cache'}")


def test_pictures_in_a_read_only_folder_are_prepared_elsewhere(settings, tmp_path):
    before = sorted((tmp_path / "images").iterdir())
    (tmp_path / "images").chmod(0o555)
    try:
        assert set_up_data(*settings).n_images > 20
    finally:
        (tmp_path / "images").chmod(0o755)
    assert sorted((tmp_path / "images").iterdir()) == before


def test_hash_does_not_depend_on_the_machine():
    assert hash_fraction("cat/1.png") == pytest.approx(0.5, abs=0.5)
    fractions = [hash_fraction(str(i)) for i in range(1000)]
    assert np.mean(fractions) == pytest.approx(0.5, abs=0.05)


def test_training_images_may_be_larger_than_the_memory(settings):
    """A sparse file of 3 GB, in a process that may allocate 200 MB."""
    data = set_up_data(*settings, "data.image_size=64", "data.channels=3", "data.batch_size=64")
    folder, n = data.prepared_dir(), 250_000
    facts = json.loads((folder / FACTS).read_text())
    facts["shapes"]["train"][0] = n
    (folder / FACTS).write_text(json.dumps(facts))
    header = array_header(n, 64, 3)
    with (folder / "train.npy").open("r+b") as file:
        file.write(header)
        file.truncate(len(header) + n * 3 * 64 * 64)
    data.__dict__.pop("prepared")

    pid = os.fork()
    if pid == 0:
        try:
            used = int(Path("/proc/self/status").read_text().split("VmData:")[1].split()[0]) * 1024
            resource.setrlimit(resource.RLIMIT_DATA, (used + 200_000_000, resource.RLIM_INFINITY))
            data.setup("fit")
            assert data.n_images == n
            assert sum(len(images) for (images, _), _ in zip(batches(data), range(10), strict=False)) == 640
            try:
                data.train_images.clone()
            except (RuntimeError, MemoryError):
                os._exit(0)  # the limit works
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0


def test_missing_folder_is_not_an_error(tmp_path):
    assert open_prepared(tmp_path / "nowhere", 8, 1) is None
