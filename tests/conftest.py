"""Shared fixtures: small data, and the commands run in this process, as a new one takes ten seconds to import."""

import gc
import logging
import math
import os
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict
from torchvision.datasets import MNIST

from dcgan import evaluate, export, sample, train
from dcgan.common.command import CONF
from dcgan.data.mnist import MNISTDataModule
from dcgan.data.pixel_range import PixelRange
from dcgan.runs import sweeps as sweeps
from dcgan.training.run import train as train_run
from tests import fast_hydra
from tests.hub_server import TOKEN, HubServer, serve_hub
from tests.run_files import RUN

# no bfloat16 in this process and those that it starts: trainer.precision=auto is 32-true on all machines
os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX512_CORE"
REAL_DATA = Path(os.environ.get("DCGAN_DATA_DIR") or Path(__file__).parent.parent / "data")

SMALL = ["model.base_channels=4", "model.latent_dim=8", "data.batch_size=8", "samples.n=4"]
TINY = [*SMALL, "hidden_width=16"]


def idx_bytes(array: np.ndarray) -> bytes:
    """Return the array in the format of MNIST's files."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.tobytes()


def pytest_collection_finish() -> None:
    """Take the objects of the imported packages out of garbage collection, which would go through them many times."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Undo `pytest_collection_finish`."""
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def _fast_hydra():
    """Patch Hydra in this process."""
    with pytest.MonkeyPatch.context() as patch:
        fast_hydra.install(patch)
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_fsync():
    """Do not wait for the disk, to which each run flushes 30 files and folders. The processes of tests do wait."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session")
def mnist_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with 64 training and 16 test images in MNIST's format; training image i has i in its corner."""
    root = tmp_path_factory.mktemp("data")
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, n in (("train", 64), ("t10k", 16)):
        images = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        images[:, 0, 0] = np.arange(n) if name == "train" else 255
        (raw / f"{name}-images-idx3-ubyte").write_bytes(idx_bytes(images))
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(idx_bytes(rng.integers(0, 10, n, dtype=np.uint8)))
    return root


@pytest.fixture(scope="session")
def real_mnist() -> MNISTDataModule:
    """The original MNIST, from data/ or $DCGAN_DATA_DIR, for tests of calibrated metrics."""
    if not (REAL_DATA / "MNIST" / "raw").is_dir():
        pytest.skip(f"MNIST is not in {REAL_DATA}: copy its archives to {REAL_DATA}/MNIST/raw")
    data = MNISTDataModule(
        dataset=MNIST, root=str(REAL_DATA), image_size=28, channels=1, pixels=PixelRange(-1), batch_size=1
    )
    data.prepare_data()
    return data


@pytest.fixture(scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _data_dir(mnist_root: Path, _cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCGAN_DATA_DIR", str(mnist_root))
    monkeypatch.setenv("DCGAN_CACHE_DIR", str(_cache))


@pytest.fixture(autouse=True)
def _no_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out TensorBoard's graph, which takes a third of a short run. The test of the graph restores it."""
    monkeypatch.setattr("dcgan.training.callbacks.run_summary.log_graph", lambda *_: None)


@pytest.fixture(autouse=True)
def _restore_loggers():
    """Restore the log levels that a command changes."""
    levels = {name: logging.getLogger(name).level for name in ("lightning.pytorch", "lightning.fabric")}
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@cache
def _pickled_config(*overrides: str) -> bytes:
    """Compose a config once. Many tests use the same."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return pickle.dumps(compose("train", overrides=list(overrides), return_hydra_config=True))


def compose_with_choices(*overrides: str) -> tuple[DictConfig, dict[str, str]]:
    """Return `compose_config(*overrides)`, and the chosen option of each config group."""
    config = pickle.loads(_pickled_config(*overrides))
    choices = dict(config.hydra.runtime.choices)
    with open_dict(config):
        del config.hydra
    return config, choices


def compose_config(*overrides: str) -> DictConfig:
    """Return the config that `python -m dcgan.train OVERRIDES` would use."""
    return compose_with_choices(*overrides)[0]


def options(group: str) -> list[str]:
    """Return the options of a config group, from the files in its folder."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def options_with(group: str, key: str) -> list[str]:
    """Return the options of a config group whose configs have the key."""
    return [option for option in options(group) if key in compose_config(f"{group}={option}")[group]]


# the modules that take longest, most of it first
LONGEST = [
    "training/test_signals.py", "runs/test_launchers.py", "behaviour/test_lost_nodes.py", "test_tour.py",
    "behaviour/test_processes.py", "runs/test_sweeps.py", "behaviour/test_resume.py",
    "experiments/test_study.py", "exporting/test_formats.py", "training/test_optimizer_states.py",
    "training/test_cuda_graph.py",
]  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the modules that take longest, so that no worker has one of them left at the end."""
    order = {name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get("/".join(item.path.parts[-2:]), len(order)))


@dataclass
class Outcome:
    """Exit code, stdout and stderr of a command."""

    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Command:
    """Run `python -m MODULE ARGUMENTS` in an empty folder, in this process: command(module, *arguments)."""
    monkeypatch.chdir(tmp_path)
    # no note about a slow disk, which other programs may keep busy
    monkeypatch.setattr("dcgan.training.callbacks.checkpoints.SLOW_SECONDS", math.inf)

    def run(module: ModuleType, *arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", [module.__name__, *arguments])
        capfd.readouterr()
        try:
            module.main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        finally:
            HydraConfig.instance().cfg = None
        return Outcome(code, *capfd.readouterr())

    return run


@pytest.fixture
def dcgan_train(command: Command) -> Command:
    return partial(command, train)


@pytest.fixture(scope="session")
def _trained_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trained")


@pytest.fixture
def trained_run(dcgan_train: Command, _trained_runs: Path) -> Callable[..., Path]:
    """Return a function that puts a finished run into a new folder: trained_run(*overrides, folder="run").

    It trains with TINY, RUN and the overrides, or copies the run if an earlier test had the same overrides. So no patch
    that changes the run may be active.
    """

    def train_or_copy(*overrides: str, folder: str = "run") -> Path:
        original = _trained_runs / sha256(" ".join(overrides).encode()).hexdigest()
        if original.exists():
            shutil.copytree(original, folder)
        else:
            outcome = dcgan_train(*TINY, *RUN, *overrides, f"hydra.run.dir={folder}")
            assert outcome.code == 0, outcome.err
            shutil.copytree(folder, original)
        return Path(folder)

    return train_or_copy


@pytest.fixture
def dcgan_evaluate(command: Command) -> Command:
    return partial(command, evaluate)


@pytest.fixture
def dcgan_sample(command: Command) -> Command:
    return partial(command, sample)


@pytest.fixture
def dcgan_export(command: Command) -> Command:
    return partial(command, export)


@pytest.fixture
def hub_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """A local model hub with an empty cache, and a token for it, as HF_ENDPOINT, HF_HOME and HF_TOKEN set them."""
    constants = pytest.importorskip("huggingface_hub.constants")
    with serve_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        # huggingface_hub has read the variable on import
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        template = f"{server.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub_cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no_token"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


def tiny_run(folder: Path, mnist_root: Path, *overrides: str, sizes: list[str] = TINY) -> Path:
    """Train for a short time in `folder` and return last.ckpt."""
    arguments = [*sizes, "trainer=cpu", "evaluator=none", "samples.steps=[0,2]", f"data.root={mnist_root}", *overrides]
    config, choices = compose_with_choices(*arguments)
    train_run(config, folder, choices)
    return folder / "checkpoints" / "last.ckpt"


@pytest.fixture(scope="session")
def plain_run(tmp_path_factory: pytest.TempPathFactory, mnist_root: Path) -> Path:
    """The last.ckpt of a small unconditional run of 4 steps, with an average of the weights."""
    return tiny_run(tmp_path_factory.mktemp("plain"), mnist_root, "max_steps=4", "ema.decay=.5")


@pytest.fixture(scope="session")
def conditional_run(tmp_path_factory: pytest.TempPathFactory, mnist_root: Path) -> Path:
    """The last.ckpt of a small conditional run of 2 steps."""
    return tiny_run(tmp_path_factory.mktemp("conditional"), mnist_root, "max_steps=2", "conditional=concat")
