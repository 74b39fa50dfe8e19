"""`python -m dcgan.sample`: output formats of all modes, conditional models and errors."""

import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from imageio_ffmpeg import read_frames
from PIL import Image
from torchvision.datasets import MNIST

from dcgan.common.command import CONF
from dcgan.common.image_grid import enlarge, image_grid
from dcgan.sampling.trained_generator import load_generator
from dcgan.sampling.writers import write_mp4
from tests.conftest import options, tiny_run

# these have tests of their own: they need digits or a picture
MODES = [mode for mode in options("mode") if mode not in ("arithmetic", "project")]


def size(path: str) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


# --- outputs


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("out", ["a.png", "a.gif", "a.mp4", "a.npy", "a.pt", "folder"])
def test_mode_writes_all_formats(dcgan_sample, plain_run, mode, out):
    outcome = dcgan_sample(f"checkpoint={plain_run}", f"mode={mode}", f"out={out}", "n=2")
    assert outcome.code == 0, outcome.err
    assert outcome.out.split() == [mode, out]
    assert [path.name for path in Path().iterdir()] == [out]  # no run folder, nothing temporary


def test_formats_hold_the_same_images(dcgan_sample, plain_run):
    expected = load_generator(plain_run).sample(5, seed=7)
    for out in ("a.npy", "a.pt", "folder"):
        assert dcgan_sample(f"checkpoint={plain_run}", "n=5", "seed=7", f"out={out}").code == 0
    array = np.load("a.npy")
    assert array.shape == (5, 28, 28)
    assert array.dtype == np.uint8
    assert np.array_equal(array, expected[:, 0].numpy())
    assert torch.equal(torch.load("a.pt", weights_only=True), expected)
    files = sorted(Path("folder").iterdir())
    assert [file.name for file in files] == [f"{i:05d}.png" for i in range(5)]
    for file, image in zip(files, expected, strict=True):
        with Image.open(file) as picture:
            assert picture.mode == "L"
            assert np.array_equal(np.array(picture), image[0].numpy())


def test_grid_is_written_as_a_picture(dcgan_sample, plain_run):
    dcgan_sample(f"checkpoint={plain_run}", "n=6", "nrow=3", "scale=4", "out=a.png")
    images = load_generator(plain_run).sample(6)
    with Image.open("a.png") as picture:
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    assert torch.equal(pixels, enlarge(image_grid(images, 3), 4))
    dcgan_sample(f"checkpoint={plain_run}", "out=b.png")
    assert size("b.png") == (484, 484)  # 8 x 8 of 30 and a border of 2, twice
    dcgan_sample(f"checkpoint={plain_run}", "n=1")
    assert size(plain_run.parent / "grid.png") == (32 * 16, 32 * 16)
    (plain_run.parent / "grid.png").unlink()


def test_animation_has_n_frames_and_loops(dcgan_sample, plain_run):
    for mode in ("grid", "interpolate", "traverse"):
        dcgan_sample(f"checkpoint={plain_run}", f"mode={mode}", "n=12", "fps=5", "out=a.gif")
        with Image.open("a.gif") as gif:
            assert gif.n_frames == 12
            assert gif.info["loop"] == 0
            assert gif.info["duration"] == 200


unclosed_pipes = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # imageio-ffmpeg's


@unclosed_pipes
def test_video_has_the_frames_of_the_animation(dcgan_sample, plain_run):
    arguments = [f"checkpoint={plain_run}", "mode=interpolate", "n=6", "nrow=1", "fps=5", "scale=3"]
    for out in ("a.mp4", "a.gif"):
        outcome = dcgan_sample(*arguments, f"out={out}")
        assert outcome.code == 0, outcome.err
    frames = read_frames("a.mp4")
    facts = next(frames)
    assert (facts["fps"], facts["size"], facts["codec"]) == (5, (96, 96), "h264")
    video = [np.frombuffer(frame, np.uint8).reshape(96, 96, 3).astype(int) for frame in frames]
    with Image.open("a.gif") as gif:
        assert len(video) == gif.n_frames == 6
        for i, frame in enumerate(video):
            gif.seek(i)
            assert np.abs(frame - np.array(gif.convert("RGB"))).mean() < 8


@unclosed_pipes
def test_video_of_odd_size_is_padded(tmp_path):
    pictures = [torch.full((3, 33, 51), 20 * i, dtype=torch.uint8) for i in range(4)]
    write_mp4(tmp_path / "a.mp4", pictures, fps=2.5)
    facts = next(read_frames(tmp_path / "a.mp4"))
    assert (facts["size"], facts["fps"], facts["duration"]) == ((52, 34), 2.5, 1.6)


def test_missing_video_library_is_reported_first(dcgan_sample, plain_run, monkeypatch):
    monkeypatch.setattr("dcgan.sampling.writers.find_spec", lambda name: None)
    outcome = dcgan_sample(f"checkpoint={plain_run}", "n=1000000", "out=a.mp4")
    assert outcome.code == 1
    assert "error: a video needs imageio-ffmpeg: pip install 'dcgan[video]'" in outcome.err


def test_truncation_is_passed_to_the_generator(dcgan_sample, plain_run):
    g = load_generator(plain_run)
    assert dcgan_sample(f"checkpoint={plain_run}", "n=9", "truncation=0.3", "out=a.npy").code == 0
    assert np.array_equal(np.load("a.npy"), g.sample(9, truncation=0.3)[:, 0].numpy())
    ends = g.z(4, 0, 0.3)
    dcgan_sample(f"checkpoint={plain_run}", "mode=interpolate", "n=4", "nrow=2", "truncation=0.3", "out=b.npy")
    expected = torch.cat(list(g.generate(ends)))
    assert np.abs(np.load("b.npy").astype(int) - expected[:, 0].int().numpy()).max() <= 1


def test_color_is_preserved(dcgan_sample, tmp_path, mnist_root):
    run = tiny_run(tmp_path / "run", mnist_root, "max_steps=1", "data.channels=3", "data.image_size=32")
    for out in ("a.npy", "a.png", "a.gif", "folder"):
        assert dcgan_sample(f"checkpoint={run}", "n=4", f"out={out}").code == 0
    array = np.load("a.npy")
    assert array.shape == (4, 32, 32, 3)
    with Image.open("folder/00003.png") as picture:
        assert np.array_equal(np.array(picture), array[3])


def test_batch_size_does_not_change_the_images(dcgan_sample, plain_run):
    for i, batch_size in enumerate((1, 64, 64)):
        dcgan_sample(f"checkpoint={plain_run}", "n=100", f"batch_size={batch_size}", f"out={i}.npy")
    one, many, again = (np.load(f"{i}.npy").astype(int) for i in range(3))
    assert np.array_equal(many, again)
    assert np.abs(one - many).max() <= 1


# --- conditional models


def test_conditional_grid_has_a_row_per_class(dcgan_sample, conditional_run):
    assert dcgan_sample(f"checkpoint={conditional_run}", "out=a.npy").code == 0
    g = load_generator(conditional_run)
    labels = torch.arange(10).repeat_interleave(10)
    expected = torch.cat(list(g.generate(g.z(100, 0), labels)))
    assert np.array_equal(np.load("a.npy"), expected[:, 0].numpy())
    assert np.load("a.labels.npy").tolist() == labels.tolist()
    dcgan_sample(f"checkpoint={conditional_run}", "out=a.png", "scale=1")
    assert size("a.png") == (302, 302)
    dcgan_sample(f"checkpoint={conditional_run}", "n=25", "out=folder")
    assert np.load("folder/labels.npy").tolist() == [i // 3 for i in range(25)]
    dcgan_sample(f"checkpoint={conditional_run}", "n=24", "nrow=2", "out=b.pt")
    assert np.load("b.labels.npy").tolist() == [i // 2 % 10 for i in range(24)]


def test_label_is_used_for_all_images(dcgan_sample, conditional_run):
    dcgan_sample(f"checkpoint={conditional_run}", "n=9", "label=7", "out=a.npy")
    expected = load_generator(conditional_run).sample(9, label=7)
    assert np.array_equal(np.load("a.npy"), expected[:, 0].numpy())
    assert np.load("a.labels.npy").tolist() == [7] * 9


@pytest.mark.parametrize("mode", ["interpolate", "traverse"])
def test_conditional_walk_keeps_its_label(dcgan_sample, conditional_run, mode):
    for out in ("a.gif", "a.png"):
        assert dcgan_sample(f"checkpoint={conditional_run}", f"mode={mode}", f"out={out}").code == 0
    dcgan_sample(f"checkpoint={conditional_run}", f"mode={mode}", "n=20", "out=a.npy")
    first, second = np.load("a.labels.npy").reshape(2, 10)
    assert len(set(first)) == len(set(second)) == 1
    dcgan_sample(f"checkpoint={conditional_run}", f"mode={mode}", "n=20", "label=3", "out=b.npy")
    assert set(np.load("b.labels.npy")) == {3}


# --- errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["out=a.png"], "give checkpoint=RUN/checkpoints/last.ckpt"),
        (["checkpoint=nowhere.ckpt"], "there is no checkpoint nowhere.ckpt"),
        (["checkpoint=text.ckpt"], "text.ckpt cannot be read as a checkpoint"),
        (["CKPT", "out=nowhere/a.png"], "there is no folder nowhere: make it"),
        (["CKPT", "out=a.jpeg"], "out must end in .png, .gif, .mp4, .npy, .pt, or none for a folder, got a.jpeg"),
        (["CKPT", "truncation=0"], "truncation must be a number in (0, inf), got 0"),
        (["CKPT", "truncation=1e-9"], "truncation=1e-09 is below almost all values of the prior: raise it"),
        (["CKPT", "out=full"], "full is a folder with files in it"),
        (["CKPT", "out=full.png"], "full.png is a folder: choose another out="),
        (["CKPT", "out=plain"], "plain is a file"),
        (["CKPT", "n=0"], "n must be an integer >= 1, got 0"),
        (["CKPT", "n=x"], "n must be an integer >= 1, got 'x'"),
        (["CKPT", "n=100000000"], "n must be an integer <= 10,000,000, got 100,000,000"),
        (["checkpoint=", "out=a.png"], "give checkpoint=RUN/checkpoints/last.ckpt"),
        (["checkpoint=full"], "there is no model.safetensors in full"),
        (["checkpoint=full", "mode=data"], "there is no model.safetensors in full"),
        (["checkpoint=mnist", "mode=nearest"], "the export mnist has no data config: leave out checkpoint="),
        (["checkpoint=full", "mode=progression", "grids=checkpoints"], "no checkpoint found at full"),
        (["CKPT", "mode=traverse", "directions=[]"], "directions must be null or a list of at least one index"),
        (["CKPT", "mode=traverse", "directions=3"], "directions must be a list"),
        (["CKPT", "mode=progression", "steps=3"], "steps must be a list"),
        (["CKPT", "seed=-1"], "seed must be an integer >= 0"),
        (["CKPT", "nrow=0"], "nrow must be an integer >= 1"),
        (["CKPT", "scale=0"], "scale must be an integer >= 1"),
        (["CKPT", "fps=0", "out=a.gif"], "fps must be a number in [0.01, 100]"),
        (["CKPT", "scale=1000"], "scale must be an integer <= 64"),
        (["CKPT", "out=."], "out must be the name of a file or a new folder"),
        (["CKPT", "out=.png"], "out must be the name of a file or a new folder"),
        (["CKPT", "-m", "seed=0,1"], "this command runs once: leave -m out"),
        (["checkpoint=nothing.ckpt", "mode=progression", "grids=checkpoints"], "no checkpoint found at nothing.ckpt"),
        (["checkpoint=5"], "there is no checkpoint 5"),
        (["checkpoint=\u00e9t\u00e9/it's (1).ckpt"], "there is no checkpoint \u00e9t\u00e9/it's (1).ckpt"),
        (["CKPT", "mode=arithmetic", "n=10"], "n must be an integer <= 9"),
        (["CKPT", "mode=arithmetic", "expression=12-12+12"], "there is no digit 12"),
        (["CKPT", "batch_size=0"], "batch_size must be an integer >= 1"),
        (["CKPT", "label=1"], "the model is unconditional: train one with conditional=concat"),
        (["CONDITIONAL", "label=12"], "label must be one of 0 to 9, got 12"),
        (["CKPT", "mode=film"], "there is no mode=film: options: arithmetic"),
        (["CKPT", "path=linear"], "there is no key path"),
        (["CKPT", "mode=interpolate", "path=round"], "path must be one of spherical, linear, got 'round'"),
        (["CKPT", "mode=interpolate", "n=21", "nrow=5"], "n must be a multiple of nrow=5, got 21"),
        (["CKPT", "mode=interpolate", "z=nowhere.npy"], "there is no file nowhere.npy"),
        (["CKPT", "mode=interpolate", "z=text.ckpt"], "text.ckpt cannot be read as an .npy file"),
        (["CKPT", "mode=interpolate", "z=odd.npy"], "z must be an even number of vectors of 8 numbers"),
        (["CKPT", "mode=interpolate", "z=nan.npy"], "nan.npy has NaN or infinite numbers"),
        (["CKPT", "mode=interpolate", "z=two.npy", "n=20"], "2 walks need 4 vectors, but two.npy has 2"),
        (["CKPT", "mode=traverse", "along=time"], "along must be one of principal, coordinate"),
        (["CKPT", "mode=traverse", "extent=0"], "extent must be a number in (0, inf)"),
        (["CKPT", "mode=traverse", "directions=[8]"], "directions must be from 0 to 7, got 8"),
        (["CKPT", "mode=traverse", "n=90", "nrow=10"], "directions must be from 0 to 7, got 8"),
        (["CKPT", "mode=traverse", "directions=[1]", "n=20"], "2 walks need 2 directions, got 1"),
        (["CKPT", "mode=progression", "grids=memory"], "grids must be one of samples, checkpoints"),
        (["CKPT", "mode=progression", "steps=[x]"], "steps must be an integer >= 0"),
        (["checkpoint=alone.ckpt", "mode=progression"], "has no samples/step_*.png"),
        (["CKPT", "device=cuda"], "this machine has no GPU"),
        (["CKPT", "mode=arithmetic", "expression=7+1"], "expression must be like 'thick 7 - thin 7 + thin 1'"),
        (["CKPT", "mode=arithmetic", "pool=20"], "of 20 images are thick 7"),
        (["mode=data", "data.root=nowhere"], "MNIST is not in nowhere/MNIST/raw and cannot be downloaded"),
    ],
)
def test_invalid_arguments_are_rejected_and_nothing_is_written(
    dcgan_sample, plain_run, conditional_run, arguments, message, monkeypatch
):
    monkeypatch.setattr(MNIST, "mirrors", [])
    monkeypatch.delenv("DCGAN_DATA_DIR")
    Path("text.ckpt").write_text("no checkpoint")
    Path("alone.ckpt").write_bytes(plain_run.read_bytes())
    for folder in ("full", "full.png"):
        Path(folder).mkdir()
        Path(folder, "file").touch()
    Path("plain").touch()
    for name, shape in (("odd", (3, 8)), ("two", (2, 8))):
        np.save(f"{name}.npy", np.zeros(shape))
    np.save("nan.npy", np.full((2, 8), np.nan))
    before = sorted(Path().rglob("*"))
    paths = {"CKPT": f"checkpoint={plain_run}", "CONDITIONAL": f"checkpoint={conditional_run}"}
    outcome = dcgan_sample(*(paths.get(a, a) for a in arguments))
    assert outcome.code == 1
    assert message in outcome.err
    assert "Traceback" not in outcome.err
    written = [path for path in sorted(Path().rglob("*")) if path not in before and "nowhere" not in str(path)]
    assert not written


def test_full_disk_keeps_the_old_file_and_leaves_no_partial_one(dcgan_sample, plain_run):
    for out in ("a.png", "a.gif", "a.mp4", "a.npy", "a.pt", "folder"):
        if "." in out:
            Path(out).write_text("old")
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (600, limits[1]))
        try:
            outcome = dcgan_sample(f"checkpoint={plain_run}", f"out={out}", "n=64")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert outcome.code == 1, out
        assert f"{out} cannot be written (" in outcome.err
        assert "Traceback" not in outcome.err
        if Path(out).suffix:
            assert Path(out).read_text() == "old"
    assert sorted(path.name for path in Path().iterdir()) == ["a.gif", "a.mp4", "a.npy", "a.png", "a.pt"]


def test_help_lists_all_modes_and_their_keys(dcgan_sample):
    outcome = dcgan_sample("--help")
    assert outcome.code == 0
    assert max(map(len, outcome.out.splitlines())) <= 120
    for mode in options("mode"):
        assert f"  {mode} " in outcome.out
        lines = (CONF / "mode" / f"{mode}.yaml").read_text().splitlines()
        for key in (line.partition(":")[0] for line in lines if line[:1].isalpha() and ":" in line):
            if key not in ("sampling_mode", "defaults"):
                assert f"{key}=" in outcome.out, f"{mode}: {key}"
