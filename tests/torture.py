"""`make torture`: kill a training or a search at random and resume it, many times; it must end as an uninterrupted one.

`python -m tests.torture --help` lists the options.
"""

import argparse
import csv
import json
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dcgan.checkpoints.io import read_checkpoint
from dcgan.common.command import PACKAGE
from dcgan.common.errors import UserError
from tests.processes import ERR, PythonProcess, members

EXIT_SECONDS = 60  # within which all processes of a killed job must end
MAX_DELAY = 2.0  # seconds from the first sign of a training to its kill
RUN = ["hydra.run.dir=run", "ckpt_path=auto"]
SEARCH = ["-m", "search=fast", "hydra.sweeper.n_trials=6", "sweep.name=search", "checkpoints.best=true"]
# small and fast, with all parts that have a state
SETTINGS = [
    "data.limit=200", "data.batch_size=16", "model.base_channels=4", "model.hidden_width=32", "model.latent_dim=8",
    "samples.n=4", "ema.decay=0.9", "discriminator.dropout=0.3", "log.every_n_steps=7", "log.activity_every_n_steps=50",
    "metrics.every_n_steps=90", "metrics.n=100", "checkpoints.every_n_steps=4",
]  # fmt: skip


@dataclass
class Report:
    """The kills of a run and the checks that it passed."""

    kills: Counter[str] = field(default_factory=Counter)  # by activity and rank of the killed process
    resumed_steps: list[int] = field(default_factory=list)
    files_read: int = 0
    slowest_exit: float = 0.0  # seconds from the kill of one process to the end of the others


def run_folders(folder: Path) -> dict[str, Path]:
    """Return the run folders in a folder: itself, that of a training, or one per trial of a search."""
    paths = [folder, folder / "run", *sorted(folder.glob("runs/sweeps/*/trial_*"))]
    return {str(path.relative_to(folder)): path for path in paths if (path / "metrics.csv").exists()}


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def modified_time(folder: Path, name: str) -> int:
    """Return the time of the last change of a file of this name in nanoseconds, 0 if there is none."""
    paths = (run / name for run in run_folders(folder).values())
    return max((path.stat().st_mtime_ns for path in paths if path.exists()), default=0)


def wait_for(folder: Path, name: str, process: PythonProcess, seconds: float = 120) -> bool:
    """Wait until a file of this name changes or is written. Return False if the process ends before."""
    before, end = modified_time(folder, name), time.monotonic() + seconds
    while modified_time(folder, name) == before:
        if process.poll() is not None:
            return False
        assert time.monotonic() < end, f"the training has not written {name}"
        time.sleep(0.01)
    return True


def is_saving(folder: Path) -> bool:
    runs = run_folders(folder).values()
    return any(path.suffix == ".tmp" for run in runs for path in (run / "checkpoints").glob(".*"))


def kill(process: PythonProcess, folder: Path, rng: random.Random, report: Report) -> None:
    """Send SIGKILL to a random rank, in half of the cases while a checkpoint is written. Wait until all ranks end."""
    victims = members(process.pid)
    victim = rng.choice(victims)
    if rng.random() < 0.5:
        end = time.monotonic() + 10
        while not is_saving(folder) and process.poll() is None and time.monotonic() < end:
            pass
    else:
        time.sleep(rng.uniform(0, MAX_DELAY))
    os.kill(victim, signal.SIGKILL)
    killed_at = time.monotonic()
    process.wait(EXIT_SECONDS)
    while members(process.pid):
        assert time.monotonic() - killed_at < EXIT_SECONDS, f"processes {members(process.pid)} have not ended"
        time.sleep(0.05)
    report.slowest_exit = max(report.slowest_exit, time.monotonic() - killed_at)
    activity = "saving" if is_saving(folder) else "training"
    report.kills[f"{activity}, rank {victims.index(victim)}" if len(victims) > 1 else activity] += 1


def check_files(folder: Path, report: Report) -> None:
    """Raise UserError, AssertionError or ValueError unless all checkpoints, samples and summaries are complete."""
    for run in run_folders(folder).values():
        for path in (run / "checkpoints").glob("*.ckpt"):
            read_checkpoint(path)
            report.files_read += 1
        for path in (run / "samples").glob("*.png"):
            assert path.read_bytes().endswith(b"IEND\xaeB`\x82"), path
            report.files_read += 1
        if (run / "summary.json").exists():
            json.loads((run / "summary.json").read_text())


def newest_step(folder: Path) -> int:
    """Return the step of the checkpoint that was written last, 0 if there is none."""
    paths = [run / "checkpoints" / "last.ckpt" for run in run_folders(folder).values()]
    path = max((path for path in paths if path.exists()), key=lambda path: path.stat().st_mtime_ns, default=None)
    return 0 if path is None else read_checkpoint(path)["step"]


def torture(
    folder: Path, kills: int, seed: int, overrides: list[str], kind: type[PythonProcess] = PythonProcess
) -> Report:
    """Run `dcgan.train OVERRIDES` in the folder to its end, and kill it `kills` times before.

    Raises:
        AssertionError: The training blocks or fails, or leaves an incomplete file.
    """
    report, rng = Report(), random.Random(seed)
    while True:
        process = kind(["-m", "dcgan.train", *overrides], folder, OMP_NUM_THREADS="1")
        # kill after one of the next checkpoints, of which the first is at the start, or sometimes earlier
        n = 0 if rng.random() < 0.2 else rng.randint(1, 4)
        signs = ["checkpoints/last.ckpt"] * n or ["metrics.csv"]
        if report.kills.total() >= kills or not all(wait_for(folder, sign, process) for sign in signs):
            break
        kill(process, folder, rng, report)
        check_files(folder, report)
        report.resumed_steps.append(newest_step(folder))
    assert process.wait(600) == 0, (folder / ERR).read_text()[-2000:]
    check_files(folder, report)
    assert not list(folder.rglob("*.tmp")), "a kill has left temporary files"
    return report


def differences(one: Path, other: Path) -> list[str]:
    """Return the checkpoint keys, files and curves that differ between the runs in two folders."""
    ones, others = run_folders(one), run_folders(other)
    assert ones, f"there is no run in {one}"
    different = [f"{name} exists once" for name in ones.keys() ^ others.keys()]
    for name in ones.keys() & others.keys():
        different += [str(Path(name, difference)) for difference in run_differences(ones[name], others[name])]
    return different


def run_differences(one: Path, other: Path) -> list[str]:
    different = []
    names = {path.name for run in (one, other) for path in (run / "checkpoints").iterdir()}
    for name in names:
        a, b = (flatten(read_checkpoint(run / "checkpoints" / name)) for run in (one, other))
        different += [f"{name}: {key}" for key in a.keys() | b.keys() if not is_equal(a.get(key), b.get(key))]
    samples = {path.name for run in (one, other) for path in (run / "samples").iterdir()}
    different += [name for name in samples if content(one / "samples" / name) != content(other / "samples" / name)]
    speed = "train/images_per_second"
    a_rows, b_rows = ([{k: v for k, v in row.items() if k != speed} for row in rows(run)] for run in (one, other))
    different += [] if a_rows == b_rows else ["metrics.csv"]
    a_curves, b_curves = curves(one), curves(other)
    different += [
        f"TensorBoard: {tag}" for tag in a_curves.keys() | b_curves.keys() if a_curves.get(tag) != b_curves.get(tag)
    ]
    return different


# may differ: durations, and Lightning's count of started epochs
NOT_COMPARED = ("seconds", "images_per_second", "ckpt_path", "started", "ready")


def flatten(node: object, name: str = "") -> dict[str, object]:
    """Return the leaves of nested containers by their dotted names."""
    if isinstance(node, dict | list):
        items = node.items() if isinstance(node, dict) else enumerate(node)
        return {key: value for k, part in items for key, value in flatten(part, f"{name}.{k}").items()}
    return {} if name.endswith(NOT_COMPARED) else {name: node}


def is_equal(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return torch.equal(a, b)
    return a == b or (a != a and b != b)  # NaN


def content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def curves(run: Path) -> dict[str, list[tuple[int, str]]]:
    """Return TensorBoard's curves, without the events of steps that were repeated after a resume."""
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it reports each resume
    board = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    tags = (tag for tag in board.Tags()["scalars"] if not tag.endswith(NOT_COMPARED))
    return {tag: [(event.step, repr(event.value)) for event in board.Scalars(tag)] for tag in tags}


def write_pictures(folder: Path) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(300):
        Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(folder / f"{i}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the times of the kills")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument(
        "overrides", nargs="*", default=["trainer=cpu"], help="of dcgan.train, such as trainer=ddp_cpu loss=hinge"
    )
    parser.add_argument("--pictures", action="store_true", help="train on a folder of pictures instead of MNIST")
    parser.add_argument("--search", action="store_true", help="kill a search of six trials instead of a training")
    args = parser.parse_args()
    os.environ.setdefault("DCGAN_DATA_DIR", str(PACKAGE.parent / "data"))
    overrides = [*SETTINGS, f"max_steps={args.steps}", *args.overrides, *(SEARCH if args.search else RUN)]
    with tempfile.TemporaryDirectory() as name:
        if args.pictures:
            write_pictures(Path(name, "pictures"))
            overrides += ["data=image_folder", f"data.root={name}/pictures", "data.image_size=32"]
        killed, uninterrupted = Path(name, "killed"), Path(name, "uninterrupted")
        for folder in (killed, uninterrupted):
            folder.mkdir()
        start_time = time.monotonic()
        try:
            report = torture(killed, args.kills, args.seed, overrides)
            torture(uninterrupted, 0, 0, overrides)
        except (AssertionError, UserError, subprocess.TimeoutExpired) as error:
            print((killed / ERR).read_text()[-3000:], file=sys.stderr)
            sys.exit(f"failed: {error}")
        different = differences(killed, uninterrupted)
        print(f"kills survived   {report.kills.total()}: {dict(report.kills)}")
        print(f"resumed at       steps {report.resumed_steps}")
        print(f"files read       {report.files_read}, all complete")
        print(f"slowest exit     {report.slowest_exit:.1f} s after a kill")
        print(f"differences      {len(different)} from the uninterrupted one {different[:5] or ''}")
        print(f"took             {time.monotonic() - start_time:.0f} s")
        sys.exit(1 if different or report.kills.total() < args.kills else 0)


if __name__ == "__main__":
    main()
