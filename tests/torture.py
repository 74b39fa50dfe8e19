"""`make torture`: a training is killed again and again and gone on with by the same command; it must end as one that
nobody has disturbed. `python -m tests.torture --help` for how often, with how many processes, and for other settings.
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

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dcgan.checks import UserError
from dcgan.cli import PACKAGE
from dcgan.trained import read_checkpoint

PATIENCE = 60  # seconds in which what is left of a job must have ended
LONGEST_LIFE = 2.0  # seconds after the first step
# small and quick, with all that has a state of its own
SETTINGS = [
    "data.limit=200", "data.batch_size=16", "model.base_channels=4", "model.hidden_width=32", "model.latent_dim=8",
    "samples.n=4", "ema.decay=.9", "discriminator.dropout=.3", "log.every_n_steps=7", "log.activity_every_n_steps=50",
    "metrics.every_n_steps=90", "metrics.n=100", "checkpoints.every_n_steps=4",
]  # fmt: skip


@dataclass
class Story:
    """What happened to a run."""

    kills: Counter[str] = field(default_factory=Counter)  # by where they hit
    resumed: list[int] = field(default_factory=list)  # the steps that were gone on from
    files_read: int = 0
    longest_end: float = 0.0  # seconds from the kill of one process to the end of the others


def start(folder: Path, overrides: list[str]) -> subprocess.Popen[str]:
    """The training, in a process group of its own."""
    with (folder / "out.txt").open("a") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "dcgan.train", *overrides, "hydra.run.dir=run", "ckpt_path=auto"],
            cwd=folder, stdout=out, stderr=out, text=True, start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip


def members(group: int) -> list[int]:
    """The living processes of a process group; the launched ones have the training's name in their command line."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(pgrp) == group and state != "Z":
            found.append(int(stat.parent.name))
    return sorted(found)


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def changed(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def wait_for(path: Path, process: subprocess.Popen[str], seconds: float = 120) -> bool:
    """Until the file is new; False where the process ends before."""
    before, end = changed(path), time.monotonic() + seconds
    while changed(path) == before:
        if process.poll() is not None:
            return False
        assert time.monotonic() < end, "the run does nothing"
        time.sleep(0.01)
    return True


def half_written(run: Path) -> bool:
    return any(path.suffix == ".tmp" for path in (run / "checkpoints").glob(".*"))


def kill(process: subprocess.Popen[str], run: Path, chance: random.Random, story: Story) -> None:
    """SIGKILL to one of its processes, half of the times while a checkpoint is being written."""
    victims = members(process.pid)
    victim = chance.choice(victims)
    if chance.random() < 0.5:
        end = time.monotonic() + 10
        while not half_written(run) and process.poll() is None and time.monotonic() < end:
            pass
    else:
        time.sleep(chance.uniform(0, LONGEST_LIFE))
    os.kill(victim, signal.SIGKILL)
    hit = time.monotonic()
    process.wait(PATIENCE)
    while members(process.pid):
        assert time.monotonic() - hit < PATIENCE, f"processes {members(process.pid)} are left"
        time.sleep(0.05)
    story.longest_end = max(story.longest_end, time.monotonic() - hit)
    place = "while saving" if half_written(run) else "elsewhere"
    story.kills[f"{place}, rank {victims.index(victim)}" if len(victims) > 1 else place] += 1


def inspect(run: Path, story: Story) -> None:
    """Every file that a person or a program may open is whole."""
    for path in (run / "checkpoints").glob("*.ckpt"):
        read_checkpoint(path)
        story.files_read += 1
    for path in (run / "samples").glob("*.png"):
        assert path.read_bytes().endswith(b"IEND\xaeB`\x82"), path
        story.files_read += 1
    if (run / "summary.json").exists():
        json.loads((run / "summary.json").read_text())


def torture(folder: Path, kills: int, seed: int, overrides: list[str]) -> Story:
    """Train in folder/run to the end, killed `kills` times before; AssertionError for a hang or a broken file."""
    story, chance, run = Story(), random.Random(seed), folder / "run"
    while True:
        process = start(folder, overrides)
        # mostly when it has come further, sometimes as soon as it does anything
        sign = run / ("metrics.csv" if chance.random() < 0.2 else "checkpoints/last.ckpt")
        if story.kills.total() >= kills or not wait_for(sign, process):
            break
        kill(process, run, chance, story)
        inspect(run, story)
        last = run / "checkpoints" / "last.ckpt"
        story.resumed.append(read_checkpoint(last)["step"] if last.exists() else 0)
    assert process.wait(600) == 0, (folder / "out.txt").read_text()[-2000:]
    inspect(run, story)
    assert not list(run.rglob("*.tmp")), "a kill has left something behind"
    return story


def differences(one: Path, other: Path) -> list[str]:
    """What differs between two run folders that should hold the same."""
    found = []
    names = {path.name for run in (one, other) for path in (run / "checkpoints").iterdir()}
    for name in names:
        a, b = (flat(read_checkpoint(run / "checkpoints" / name)) for run in (one, other))
        found += [f"{name}: {key}" for key in a.keys() | b.keys() if not same(a.get(key), b.get(key))]
    pictures = {path.name for run in (one, other) for path in (run / "samples").iterdir()}
    found += [name for name in pictures if content(one / "samples" / name) != content(other / "samples" / name)]
    speed = "train/images_per_second"
    a_rows, b_rows = ([{k: v for k, v in row.items() if k != speed} for row in rows(run)] for run in (one, other))
    found += [] if a_rows == b_rows else ["metrics.csv"]
    a_curves, b_curves = curves(one), curves(other)
    found += [
        f"TensorBoard: {tag}" for tag in a_curves.keys() | b_curves.keys() if a_curves.get(tag) != b_curves.get(tag)
    ]
    return found


# what may differ: how long it took, and Lightning's count of epochs that were begun
TIMES = ("seconds", "images_per_second", "ckpt_path", "started", "ready")


def flat(node: object, name: str = "") -> dict[str, object]:
    if isinstance(node, dict | list):
        items = node.items() if isinstance(node, dict) else enumerate(node)
        return {key: value for k, part in items for key, value in flat(part, f"{name}.{k}").items()}
    return {} if name.endswith(TIMES) else {name: node}


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return torch.equal(a, b)
    return a == b or (a != a and b != b)  # NaN


def content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def curves(run: Path) -> dict[str, list[tuple[int, str]]]:
    """TensorBoard's, without what was written by a run that was gone on from earlier."""
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it tells of each resumption
    board = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    tags = (tag for tag in board.Tags()["scalars"] if not tag.endswith(TIMES))
    return {tag: [(event.step, repr(event.value)) for event in board.Scalars(tag)] for tag in tags}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("overrides", nargs="*", default=["trainer=cpu"], help="such as trainer=ddp_cpu loss=hinge")
    given = parser.parse_args()
    os.environ.setdefault("DCGAN_DATA_DIR", str(PACKAGE.parent / "data"))
    overrides = [*SETTINGS, f"max_steps={given.steps}", *given.overrides]
    with tempfile.TemporaryDirectory() as name:
        tortured, whole = Path(name, "tortured"), Path(name, "whole")
        for folder in (tortured, whole):
            folder.mkdir()
        began = time.monotonic()
        try:
            story = torture(tortured, given.kills, given.seed, overrides)
            torture(whole, 0, 0, overrides)
        except (AssertionError, UserError, subprocess.TimeoutExpired) as error:
            print((tortured / "out.txt").read_text()[-3000:], file=sys.stderr)
            sys.exit(f"failed: {error}")
        found = differences(tortured / "run", whole / "run")
        print(f"kills survived   {story.kills.total()}: {dict(story.kills)}")
        print(f"gone on from     steps {story.resumed}")
        print(f"files read       {story.files_read}, all whole")
        print(f"others ended     within {story.longest_end:.1f} s of a kill")
        print(f"differences      {len(found)} from the undisturbed run {found[:5] if found else ''}")
        print(f"took             {time.monotonic() - began:.0f} s")
        sys.exit(1 if found or story.kills.total() < given.kills else 0)


if __name__ == "__main__":
    main()
