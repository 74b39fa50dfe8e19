"""Real processes: distributed training, SLURM tasks, the wheel, the demo."""

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

from dcgan import train
from tests.conftest import TINY, idx_bytes
from tests.processes import ERR, OUT, ROOT, run_forked, run_two_ranks, two_nodes
from tests.run_files import copy_run_at, different_tensors, weights
from tests.torture import differences


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


# the real command, and each rank writes its final state to a file
SPY = """
import os, torch
from dcgan import train
from dcgan.gan import GAN

noise = []
def on_train_batch_start(self, batch, batch_idx):
    self.seen = getattr(self, "seen", []) + [batch[0].clone()]
def on_train_end(self):
    rank = os.environ.get("LOCAL_RANK", "0")
    (evaluation,) = [c for c in self.trainer.callbacks if type(c).__name__ == "EvaluationCallback"]
    best = (evaluation.best, evaluation.best_step)
    state = {"state": self.state_dict(), "seen": self.seen, "noise": noise, "best": best, "sent": sent}
    torch.save(state, f"rank{rank}.pt")
GAN.on_train_batch_start, GAN.on_train_end = on_train_batch_start, on_train_end
from dcgan.models.generator import Generator
forward = Generator.forward
def patched(self, z, label=None):
    if self.training:
        if z.device.type != "meta":  # not those of the estimate of the memory
            noise.append(z.clone())
    return forward(self, z, label)
Generator.forward = patched

sent = []  # collectives of tensors: name and number of values
def record(name):
    function = getattr(torch.distributed, name)
    def call(tensor, *args, **kwargs):
        sent.append((name, tensor.numel()))
        return function(tensor, *args, **kwargs)
    setattr(torch.distributed, name, call)
record("all_reduce")
record("broadcast")
if __name__ == "__main__":
    train.main()
"""


SETTINGS = ["trainer=ddp_cpu", "max_epochs=1", "ema.decay=0.9", "conditional=concat"]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory, mnist_root):
    """Two gloo ranks, one epoch of a conditional model: 64 images, a batch of 8 per rank, 4 steps."""
    folder = tmp_path_factory.mktemp("ddp")
    (folder / "spy.py").write_text(SPY)
    command = ["spy.py", *TINY, *SETTINGS, "hydra.run.dir=run"]
    done = run_forked(*command, folder=folder, DCGAN_DATA_DIR=str(mnist_root))
    assert done.returncode == 0, done.stderr
    return folder, done, [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


def test_ranks_end_with_bit_identical_parameters(ranks):
    _, _, (first, second) = ranks
    names = different_tensors(first["state"], second["state"])
    assert names  # each rank has its own images and so its own running statistics
    assert all("running_" in name for name in names)


def test_ranks_exchange_weights_once_and_gradients_once_per_update(ranks):
    """Lightning's own broadcast at each batch, which waits for the device, is switched off."""
    _, _, (first, _) = ranks
    d, g = (
        sum(
            value.numel()
            for name, value in first["state"].items()
            if name.startswith(f"{network}.") and not any(word in name for word in ("running_", "num_", "prior"))
        )
        for network in ("discriminator", "generator")
    )
    assert [name for name, _ in first["sent"]].count("broadcast") == 1
    assert [n for name, n in first["sent"] if name == "all_reduce" and n > 100] == [d, g] * 4


def test_ranks_agree_with_penalty_spectral_norm_and_two_d_updates(tmp_path, mnist_root):
    (tmp_path / "spy.py").write_text(SPY)
    settings = ["penalty=r1", "discriminator_normalization=none", "discriminator.spectral_norm=true"]
    settings += ["discriminator_steps=2", "max_epochs=1", "evaluator=none", "hydra.run.dir=run"]
    command = ["spy.py", *TINY, "trainer=ddp_cpu", *settings]
    run_two_ranks(*command, folder=tmp_path, DCGAN_DATA_DIR=str(mnist_root)).check_returncode()
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)["state"] for rank in range(2))
    assert all("running_" in name for name in different_tensors(first, second))


def test_each_rank_has_its_own_noise_and_shard(ranks):
    _, _, (first, second) = ranks
    assert len(first["seen"]) == len(second["seen"]) == 4

    def indices(batches):
        return ((torch.cat(batches)[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()

    assert sorted(indices(first["seen"]) + indices(second["seen"])) == list(range(64))
    assert len(first["noise"]) >= 4
    assert not any(torch.equal(a, b) for a, b in zip(first["noise"][1:], second["noise"][1:], strict=True))


def test_checkpoint_has_the_mean_statistics_and_those_of_each_rank(ranks):
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


def test_evaluation_by_two_ranks_equals_that_by_one_process(ranks, dcgan_evaluate, monkeypatch):
    folder, _, (first, second) = ranks
    monkeypatch.chdir(folder)
    assert first["best"] == second["best"]
    assert torch.load("run/checkpoints/best.ckpt", weights_only=True)["step"] == first["best"][1]
    assert dcgan_evaluate("checkpoint=run/checkpoints/last.ckpt", "evaluator=light").code == 0
    by_one = json.loads(Path("run/checkpoints/last.evaluation.json").read_text())["metrics"]
    by_two = json.loads(Path("run/summary.json").read_text())["metrics"]
    assert "label_agreement" in by_one
    for name, value in by_one.items():
        assert by_two[name] == (value if value is None else pytest.approx(value, rel=1e-5, abs=1e-6)), name


def test_two_ranks_write_one_run_folder(ranks):
    folder, done, _ = ranks
    assert done.stderr == ""
    assert done.stdout.count("step 4/4") == 1
    assert len(list((folder / "run").glob("events.out.tfevents.*"))) <= 2
    assert (folder / "run" / "summary.json").exists()


def test_torchrun_is_equivalent_to_the_built_in_launcher(ranks, mnist_root):
    """Both ranks use one run folder, although its name contains the time."""
    folder, _, _ = ranks
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    torchrun += ["--start-method=fork", "--run-path", train.__file__]  # the ranks need no imports
    done = run_forked(*torchrun, *TINY, *SETTINGS, folder=folder, DCGAN_DATA_DIR=str(mnist_root), OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    (run_dir,) = folder.glob("runs/*/*")
    assert different_tensors(weights(folder / "run"), weights(run_dir)) == []
    assert {path.name for path in folder.iterdir()} == {"rank0.pt", "rank1.pt", "run", "runs", "spy.py", OUT, ERR}


def test_two_nodes_are_equivalent_to_one_with_two_ranks(ranks, mnist_root, tmp_path):
    overrides = [*TINY, *SETTINGS[1:], "hydra.run.dir=run"]
    with two_nodes(tmp_path, train.__file__, *overrides, DCGAN_DATA_DIR=str(mnist_root)) as nodes:
        codes = [node.wait(120) for node in nodes]
        errors = [node.communicate(10)[1] for node in nodes]
    assert codes == [0, 0], errors
    assert different_tensors(weights(ranks[0] / "run"), weights(tmp_path / "run")) == []


COPY = """
from tests.run_files import copy_run_at
from dcgan import train
copy_run_at(4)
if __name__ == "__main__":
    train.main()
"""


def test_killed_run_of_two_ranks_ends_as_an_uninterrupted_one(tmp_path, mnist_root):
    """It is killed at the end of an epoch. `make torture` kills at random."""
    (tmp_path / "copy_run.py").write_text(COPY)
    settings = ["trainer=ddp_cpu", "max_epochs=2", "ema.decay=0.9", "discriminator.dropout=0.3", "log.every_n_steps=3"]
    settings += ["checkpoints.every_n_steps=1", "metrics.every_n_steps=3", "hydra.run.dir=uninterrupted"]
    run_two_ranks("copy_run.py", *TINY, *settings, folder=tmp_path, DCGAN_DATA_DIR=str(mnist_root)).check_returncode()
    killed = tmp_path / "uninterrupted_at_4"
    command = ["-m", "dcgan.train", f"ckpt_path={killed}/checkpoints/last.ckpt", "trainer=ddp_cpu"]
    run_two_ranks(*command, folder=tmp_path, DCGAN_DATA_DIR=str(mnist_root)).check_returncode()
    assert differences(tmp_path / "uninterrupted", killed) == []


OTHER_DATA = """
import os
from dcgan import train
os.environ["DCGAN_DATA_DIR"] = "data/" + os.environ.get("LOCAL_RANK", "0")
if __name__ == "__main__":
    train.main()
"""


def test_ranks_with_different_data_are_rejected_instead_of_blocking(tmp_path, mnist_root):
    (tmp_path / "other.py").write_text(OTHER_DATA)
    for rank, n in enumerate((64, 40)):
        raw = Path(shutil.copytree(mnist_root, tmp_path / "data" / str(rank))) / "MNIST" / "raw"
        (raw / "train-images-idx3-ubyte").write_bytes(idx_bytes(np.zeros((n, 28, 28), dtype=np.uint8)))
        (raw / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(n, dtype=np.uint8)))
    done = run_two_ranks("other.py", *TINY, "trainer=ddp_cpu", "hydra.run.dir=run", "evaluator=none", folder=tmp_path)
    assert done.returncode == 1
    assert "error: the ranks differ in their images (64, 40): give all ranks the same data" in done.stderr
    assert done.stderr.count("\n") == 1


def test_run_can_be_resumed_with_another_number_of_ranks(dcgan_train, tmp_path, mnist_root):
    """An epoch of 64 images is 8 steps of one rank or 4 of two. The run is killed in the middle of the second epoch."""
    killed_at, last_step = 12, 12 + 2 + 4
    settings = [*TINY, "evaluator=none", "samples.steps=[]", "max_epochs=3", "checkpoints.every_n_steps=1"]
    undo = copy_run_at(killed_at)
    try:
        assert dcgan_train(*settings, "trainer=cpu", "hydra.run.dir=run").code == 0
    finally:
        undo()
    path = tmp_path / f"run_at_{killed_at}" / "checkpoints" / "last.ckpt"
    command = ["-m", "dcgan.train", f"ckpt_path={path}", "trainer=ddp_cpu"]
    done = run_two_ranks(*command, folder=tmp_path, DCGAN_DATA_DIR=str(mnist_root))
    assert done.returncode == 0, done.stderr
    assert torch.load(path, weights_only=True)["step"] == last_step
    note = "note: 2 processes after 1: the run is no longer bit-identical to an uninterrupted one\n"
    assert done.stderr == note


def test_run_of_one_process_writes_everything_in_each_slurm_task(tmp_path, mnist_root):
    """`srun -n2` may start two runs of one process each: both are rank 0 of their own run."""
    settings = [*TINY, "trainer=cpu", "max_steps=2", "samples.steps=[0]", "hydra.run.dir=run"]
    slurm = {"SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "1", "SLURM_JOB_NAME": "train"}
    done = run_forked("-m", "dcgan.train", *settings, folder=tmp_path, DCGAN_DATA_DIR=str(mnist_root), **slurm)
    assert done.returncode == 0, done.stderr
    assert "step 2/2" in done.stdout
    written = ("summary.json", "metrics.csv", ".hydra/config.yaml", "checkpoints/last.ckpt", "checkpoints/best.ckpt")
    for name in (*written, "samples/step_000000.png", "samples/step_000002.png"):
        assert (tmp_path / "run" / name).exists(), name
    assert list((tmp_path / "run").glob("events.out.tfevents.*"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> tuple[Path, Path]:
    """Install a wheel of this checkout into a new environment. Return its folder and that of its commands."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("dcgan", "hydra_plugins", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source, cwd=folder)
    (wheel,) = folder.glob("dcgan-*.whl")
    venv.create(folder / "venv", with_pip=False)
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    # the new environment uses the locked packages of this one, but not this checkout
    packages = next(path for path in map(Path, sys.path) if path.name == "site-packages")
    (site / "packages.pth").write_text(f"{packages}\n")
    python = folder / "venv" / "bin" / "python"
    run(sys.executable, "-m", "pip", f"--python={python}", "install", "--no-deps", "--no-index", wheel, cwd=folder)
    return folder, python.parent


def test_wheel_trains_in_another_folder(installed, mnist_root):
    folder, commands = installed
    other = folder / "other"
    other.mkdir()
    environment = {"DCGAN_DATA_DIR": str(mnist_root), "PYTHONPATH": ""}
    module = run(commands / "python", "-c", "import dcgan; print(dcgan.__file__)", cwd=other, **environment).stdout
    assert str(folder / "venv") in module
    run(commands / "dcgan-train", *TINY, "trainer=cpu", "max_steps=2", "hydra.run.dir=run", cwd=other, **environment)
    assert torch.load(other / "run" / "checkpoints" / "last.ckpt", weights_only=True)["step"] == 2
    assert (other / "run" / "checkpoints" / "best.ckpt").exists()  # the wheel contains the judge


def test_demo_uses_the_embedded_digits_if_mnist_cannot_be_downloaded(tmp_path):
    settings = [*TINY, "max_steps=2", "hydra.run.dir=run", "samples.steps=[0]"]
    blocked = {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    done = run_forked("-m", "dcgan.demo", *settings, folder=tmp_path, DCGAN_DATA_DIR=str(tmp_path / "no"), **blocked)
    assert done.returncode == 0, done.stderr
    assert "cannot be downloaded: using scikit-learn's digits (data=digits)" in done.stdout
    assert "on digits" in done.stdout
    assert "tensorboard --logdir run" in done.stdout
    assert (tmp_path / "run" / "samples" / "step_000002.png").exists()
    assert weights(tmp_path / "run")
