"""Sweeps: where each job goes, and which of them failed."""

import hashlib
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from dcgan.run_folder import FAILURE

LONGEST_NAME = 120  # file systems stop at 255
WATCH = "watch of the sweep"
LOOK_SECONDS = 2
GRACE_SECONDS = 10  # in which a training whose sweep has ended may save its state
ENDED = 128 + signal.SIGTERM


def short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def job_name(overrides: list[str], swept: Iterable[str], params: dict[str, Any] | None = None) -> str:
    """A folder name made of a job's swept keys and values, cut with a hash where it is long or not path-safe.

    swept: keys swept on the command line; params: those of hydra.sweeper.params.
    """
    keys = {*swept, *(params or {})}
    name = ",".join(override for override in overrides if override.partition("=")[0] in keys) or "single"
    safe = re.sub(r"[^\w.,=+-]", "_", name)
    if safe == name and len(name) <= LONGEST_NAME:
        return name
    return f"{safe[:LONGEST_NAME]}-{short_hash(name)}"


OmegaConf.register_new_resolver("job_name", job_name, replace=True)


def add_overrides(arguments: list[str], added: list[str]) -> list[str]:
    """The command line with more overrides, beside the ones it has: between options, argparse takes no second group."""
    given = get_args_parser().parse_known_args(arguments)[0].overrides
    at = max((i + 1 for i, argument in enumerate(arguments) if argument in given), default=len(arguments))
    return [*arguments[:at], *added, *arguments[at:]]


def name_sweep(arguments: list[str]) -> list[str]:
    """The arguments of a multirun with the overrides that tell its jobs where to go: `sweep.keys`, and `sweep.hash`,
    of the command, which names the sweep where nobody else does: so the same command finds its folder again."""
    parsed = get_args_parser().parse_known_args(arguments)[0]
    overrides = OverridesParser.create().parse_overrides(parsed.overrides)
    swept = [o.get_key_element() for o in overrides if o.is_sweep_override()]
    counted = [o for o in overrides if not re.match(r"skip_finished$|hydra[./]", o.get_key_element())]
    said = [parsed.config_dir, parsed.config_name, *sorted(str(o.input_line) for o in counted)]
    keys = f"sweep.keys={swept}".replace("'", "").replace(" ", "")
    # in quotes, for 12e34567 would be infinity
    return add_overrides(arguments, [keys, f"sweep.hash='{short_hash(' '.join(filter(None, said)))}'"])


def rank() -> int:
    """Of this process among all of its run, before Lightning knows: as torchrun, SLURM or Lightning's launcher says."""
    return int(next((os.environ[name] for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK") if name in os.environ), 0))


def several_processes(cfg: DictConfig) -> bool:
    """Whether the trainer asks for more than one process; -1 devices are all there are."""
    devices = cfg.trainer.devices
    return cfg.trainer.strategy != "auto" or (devices != 1 and not (OmegaConf.is_list(devices) and len(devices) == 1))


@contextmanager
def bound_to_sweep() -> Iterator[None]:
    """A job in here, if it is in a process that a parallel sweep has started, ends when the sweep's own process does:
    it is told to save its state, and the process begins no further job."""
    parent = multiprocessing.parent_process()
    if parent is None or parent.pid is None:
        yield
        return
    if not any(thread.name == WATCH for thread in threading.enumerate()):
        threading.Thread(target=watch_sweep, args=(parent.pid,), name=WATCH, daemon=True).start()
    try:
        yield
    finally:
        if os.getppid() != parent.pid:
            os._exit(ENDED)


def watch_sweep(sweep: int) -> None:
    while os.getppid() == sweep:
        time.sleep(LOOK_SECONDS)
    signal.raise_signal(signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(ENDED)


class SweepReport(Callback):
    """Ends a sweep with what failed: jobs leave their reason in failure.txt, so those of other processes count too."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        for failure in Path(config.hydra.sweep.dir).glob(f"*/{FAILURE}"):
            failure.unlink()

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        failures = sorted(folder.glob(f"*/{FAILURE}"))
        print(f"sweep        {folder}; compare its jobs with tensorboard --logdir {folder}")
        if failures:
            for failure in failures:
                print(f"failed       {failure.parent.name}: {failure.read_text().strip()}", file=sys.stderr)
            sys.exit(1)
