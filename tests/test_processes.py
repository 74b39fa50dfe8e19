"""Real processes: distributed training, the wheel, the demo."""

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import TINY, idx_bytes
from tests.runs import differing, weights
from tests.torture import differences

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


SETTINGS = ["trainer=ddp_cpu", "max_epochs=1", "ema.decay=.9", "conditional=concat"]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory, mnist_root):
    """Two gloo processes, one epoch of a conditional model: 64 images, batches of 8 on each, 4 steps."""
    folder = tmp_path_factory.mktemp("ddp")
    (folder / "spy.py").write_text(SPY)
    command = [sys.executable, "spy.py", *TINY, *SETTINGS, "hydra.run.dir=run"]
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


def test_torchrun_does_what_the_built_in_launcher_does(ranks, mnist_root):
    """Into one run folder, although each process has a clock of its own to name it by."""
    folder, _, _ = ranks
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [*torchrun, "-m", "dcgan.train", *TINY, *SETTINGS]
    run(*command, cwd=folder, DCGAN_DATA_DIR=str(mnist_root), OMP_NUM_THREADS="1")
    (found,) = folder.glob("runs/*/*")
    assert differing(weights(folder / "run"), weights(found)) == []
    assert sorted(path.name for path in folder.iterdir()) == ["rank0.pt", "rank1.pt", "run", "runs", "spy.py"]


KEEP = """
from tests.runs import keep_states
from dcgan import train
keep_states(3, 4)
if __name__ == "__main__":
    train.main()
"""


def test_two_processes_that_were_killed_end_as_if_they_had_not_been(tmp_path, mnist_root):
    """In the middle and at the end of an epoch of four steps."""
    (tmp_path / "keep.py").write_text(KEEP)
    settings = ["trainer=ddp_cpu", "max_epochs=2", "ema.decay=.9", "discriminator.dropout=.3", "log.every_n_steps=3"]
    often = ["checkpoints.every_n_steps=1", "metrics.every_n_steps=3", "hydra.run.dir=whole"]
    environment = {"DCGAN_DATA_DIR": str(mnist_root), "PYTHONPATH": str(ROOT)}
    run(sys.executable, "keep.py", *TINY, *settings, *often, cwd=tmp_path, **environment)
    for step in (4,):  # make torture has the other places
        killed = tmp_path / f"whole_at_{step}"
        command = [sys.executable, "-m", "dcgan.train", f"ckpt_path={killed}/checkpoints/last.ckpt"]
        command.append("trainer=ddp_cpu")
        run(*command, cwd=tmp_path, **environment)
        assert differences(tmp_path / "whole", killed) == []


OTHER_DATA = """
import os
from dcgan import train
os.environ["DCGAN_DATA_DIR"] = "data/" + os.environ.get("LOCAL_RANK", "0")
if __name__ == "__main__":
    train.main()
"""


def test_processes_that_see_other_data_are_told_and_do_not_wait_for_each_other(tmp_path, mnist_root):
    (tmp_path / "other.py").write_text(OTHER_DATA)
    for rank, n in enumerate((64, 40)):
        raw = Path(shutil.copytree(mnist_root, tmp_path / "data" / str(rank))) / "MNIST" / "raw"
        (raw / "train-images-idx3-ubyte").write_bytes(idx_bytes(np.zeros((n, 28, 28), dtype=np.uint8)))
        (raw / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(n, dtype=np.uint8)))
    done = subprocess.run(
        [sys.executable, "other.py", *TINY, "trainer=ddp_cpu", "hydra.run.dir=run", "evaluator=none"], cwd=tmp_path,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "error: the processes differ in their images (64, 40): give all of them the same data" in done.stderr
    assert done.stderr.count("\n") == 1


def test_another_number_of_processes_goes_on_with_the_rest_of_the_epoch(tmp_path, mnist_root):
    """64 images: 8 steps of one process or 4 of two are an epoch; it stops after half of the second one."""
    before, after, half, end = "cpu", "ddp_cpu", 12, 12 + 2 + 4
    (tmp_path / "keep.py").write_text(KEEP.replace("3, 4", str(half)))
    settings = [*TINY, "evaluator=none", "samples.steps=[]", "max_epochs=3", "checkpoints.every_n_steps=1"]
    environment = {"DCGAN_DATA_DIR": str(mnist_root), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "keep.py", *settings, f"trainer={before}", "hydra.run.dir=run"]
    run(*command, cwd=tmp_path, **environment)
    killed = f"run_at_{half}"
    command = [sys.executable, "-m", "dcgan.train", f"ckpt_path={killed}/checkpoints/last.ckpt", f"trainer={after}"]
    done = run(*command, cwd=tmp_path, **environment)
    assert torch.load(tmp_path / killed / "checkpoints" / "last.ckpt", weights_only=True)["step"] == end
    assert "what comes is not, bit for bit, what it would have been" in done.stderr


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


def test_the_wheel_trains_from_another_folder(installed, mnist_root):
    folder, commands = installed
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    where = run(commands / "python", "-c", "import dcgan; print(dcgan.__file__)", cwd=elsewhere).stdout
    assert str(folder / "venv") in where
    run(
        commands / "dcgan-train", *TINY, "trainer=cpu", "max_steps=2", "hydra.run.dir=run",
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
