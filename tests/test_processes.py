"""Real processes: distributed training, the wheel, the demo."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import venv
from pathlib import Path

import pytest
import torch

from tests.conftest import TINY
from tests.runs import differing, weights

ROOT = Path(__file__).parent.parent


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


# what each rank ends with, written by the rank itself: an exported file for every rank of the real command
SPY = """
import os, torch
import lightning as L
from dcgan import train
from dcgan.gan import GAN

noise, teardown = [], L.LightningModule.on_train_end
def on_train_batch_start(self, batch, batch_idx):
    self.seen = getattr(self, "seen", []) + [batch[0].clone()]
def on_train_end(self):
    rank = os.environ.get("LOCAL_RANK", "0")
    (validation,) = [c for c in self.trainer.callbacks if type(c).__name__ == "Validation"]
    best = (validation.best, validation.best_step)
    torch.save({"state": self.state_dict(), "seen": self.seen, "noise": noise, "best": best}, f"rank{rank}.pt")
GAN.on_train_batch_start, GAN.on_train_end = on_train_batch_start, on_train_end
from dcgan.networks import Generator
forward = Generator.forward
def spied(self, z, label):
    if self.training:
        noise.append(z.clone())
    return forward(self, z, label)
Generator.forward = spied
if __name__ == "__main__":
    train.main()
"""


@pytest.fixture(scope="module")
def ranks(tmp_path_factory, mnist_root):
    """Two gloo processes, one epoch of a conditional model: 64 images, batches of 8 on each, 4 steps."""
    folder = tmp_path_factory.mktemp("ddp")
    (folder / "spy.py").write_text(SPY)
    settings = ["trainer=ddp_cpu", "hydra.run.dir=run", "max_epochs=1", "ema.decay=.9", "conditional=concat"]
    command = [sys.executable, "spy.py", *TINY, *settings]
    done = run(*command, cwd=folder, DCGAN_DATA_DIR=str(mnist_root))
    return folder, done, [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


def test_both_ranks_end_with_the_same_parameters_bit_for_bit(ranks):
    _, _, (first, second) = ranks
    own = differing(first["state"], second["state"])
    assert own  # each rank has seen other images ...
    assert all("running_" in name for name in own)  # ... which shows in nothing but its own running statistics


def test_each_rank_draws_its_own_noise_and_its_own_shard(ranks):
    _, _, (first, second) = ranks
    assert len(first["seen"]) == len(second["seen"]) == 4

    def corner(batches):
        return ((torch.cat(batches)[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()

    assert sorted(corner(first["seen"]) + corner(second["seen"])) == list(range(64))
    assert len(first["noise"]) >= 4
    assert not any(torch.equal(a, b) for a, b in zip(first["noise"][1:], second["noise"][1:], strict=True))


def test_the_checkpoint_has_the_mean_statistics_and_those_of_each_rank(ranks):
    folder, _, (first, second) = ranks
    checkpoint = torch.load(folder / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["step"] == 4
    for name, saved in checkpoint["state_dict"].items():
        a, b = first["state"][name], second["state"][name]
        if "running_" in name:
            torch.testing.assert_close(saved, (a + b) / 2)
            assert torch.equal(checkpoint["rank_buffers"][0][name], a)
            assert torch.equal(checkpoint["rank_buffers"][1][name], b)
        else:
            assert torch.equal(saved, a)


def test_two_processes_share_the_work_of_a_measurement_and_agree_on_it(ranks, dcgan_evaluate, monkeypatch):
    """What they found together at the last step is what one process finds in their checkpoint."""
    folder, _, (first, second) = ranks
    monkeypatch.chdir(folder)
    assert first["best"] == second["best"]
    assert torch.load("run/checkpoints/best.ckpt", weights_only=True)["step"] == first["best"][1]
    assert dcgan_evaluate("checkpoint=run/checkpoints/last.ckpt", "evaluator=light").code == 0
    alone = json.loads(Path("run/checkpoints/last.evaluation.json").read_text())["metrics"]
    together = json.loads(Path("run/summary.json").read_text())["metrics"]
    assert "label_agreement" in alone
    for name, value in alone.items():
        assert together[name] == (value if value is None else pytest.approx(value, rel=1e-5, abs=1e-6)), name


def test_two_processes_write_one_clean_run_folder(ranks):
    folder, done, _ = ranks
    assert done.stderr == ""
    assert done.stdout.count("step 4/4") == 1
    assert len(list((folder / "run").glob("events.out.tfevents.*"))) <= 2
    assert (folder / "run" / "summary.json").exists()
    assert not (folder / "runs").exists()


def test_a_run_of_one_process_goes_on_with_two(tmp_path, mnist_root):
    train = [sys.executable, "-m", "dcgan.train"]
    settings = [*TINY, "trainer=cpu", "hydra.run.dir=run", "max_steps=5", "samples.steps=[]"]
    run(*train, *settings, cwd=tmp_path, DCGAN_DATA_DIR=str(mnist_root))
    resumed = ["ckpt_path=run/checkpoints/last.ckpt", "trainer=ddp_cpu", "max_steps=7"]
    run(*train, *resumed, cwd=tmp_path, DCGAN_DATA_DIR=str(mnist_root))
    assert torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["step"] == 7


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_saves_and_says_how_to_go_on(tmp_path, mnist_root, number, code):
    command = [sys.executable, "-m", "dcgan.train", *TINY, "trainer=cpu", "hydra.run.dir=run", "max_epochs=100000"]
    process = subprocess.Popen(
        [*command, "log.every_n_steps=1"],
        cwd=tmp_path,
        env=os.environ | {"DCGAN_DATA_DIR": str(mnist_root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    pictures = tmp_path / "run" / "samples" / "step_000010.png"
    for _ in range(600):
        if pictures.exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    step = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["step"]
    assert step >= 10
    assert f"interrupted at step {step}: go on with ckpt_path=" in err
    assert err.count("\n") == 1


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> tuple[Path, Path]:
    """The wheel, built from this checkout and installed into an environment elsewhere; the folder of its commands."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("dcgan", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source, cwd=folder)
    (wheel,) = folder.glob("dcgan-*.whl")
    venv.create(folder / "venv", with_pip=False)
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    # the locked packages are borrowed from here; this checkout, installed here as editable, is not
    borrowed = next(path for path in map(Path, sys.path) if path.name == "site-packages")
    (site / "borrowed.pth").write_text(f"{borrowed}\n")
    python = folder / "venv" / "bin" / "python"
    run(sys.executable, "-m", "pip", f"--python={python}", "install", "--no-deps", "--no-index", wheel, cwd=folder)
    return folder, python.parent


@pytest.mark.parametrize("command", [["dcgan-train"], ["python", "-m", "dcgan.train"]], ids=["script", "module"])
def test_the_wheel_trains_from_another_folder(installed, mnist_root, command):
    folder, commands = installed
    elsewhere = folder / command[0]
    elsewhere.mkdir()
    where = run(commands / "python", "-c", "import dcgan; print(dcgan.__file__)", cwd=elsewhere).stdout
    assert str(folder / "venv") in where
    run(
        commands / command[0], *command[1:], *TINY, "trainer=cpu", "max_steps=2", "hydra.run.dir=run",
        cwd=elsewhere, DCGAN_DATA_DIR=str(mnist_root),
    )  # fmt: skip
    assert torch.load(elsewhere / "run" / "checkpoints" / "last.ckpt", weights_only=True)["step"] == 2
    assert (elsewhere / "run" / "checkpoints" / "best.ckpt").exists()  # the judge has come along


def test_the_demo_takes_the_embedded_digits_where_mnist_cannot_be_had(tmp_path):
    settings = [*TINY, "max_steps=2", "hydra.run.dir=run", "samples.steps=[0]"]
    blocked = {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    done = run(
        sys.executable, "-m", "dcgan.demo", *settings, cwd=tmp_path, DCGAN_DATA_DIR=str(tmp_path / "no"), **blocked
    )
    assert "cannot be downloaded: data=digits" in done.stdout
    assert "on digits" in done.stdout
    assert "tensorboard --logdir run" in done.stdout
    assert (tmp_path / "run" / "samples" / "step_000002.png").exists()
    assert weights(tmp_path / "run")
