"""Distributed helpers: ranks before Lightning knows them, collectives, and the cleanup of orphaned processes."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from dcgan.common.launcher import LAUNCHER, launcher_rank

if TYPE_CHECKING:
    import lightning as L

PARENT_CHECK_SECONDS = 2
GRACE_SECONDS = 10  # until a process whose parent has died is killed
TERMINATED = 128 + signal.SIGTERM  # exit code
SWEEP_WATCHER = "sweep watcher"  # thread name
LOST_CONNECTION = ("gloo", "NCCL", "TCPStore", "Connection", "Broken pipe")  # in torch's error messages


def has_several_processes(cfg: DictConfig) -> bool:
    """Return True if the trainer of this config runs several processes (devices=-1 means all devices)."""
    devices = cfg.trainer.devices
    return cfg.trainer.strategy != "auto" or (devices != 1 and not (OmegaConf.is_list(devices) and len(devices) == 1))


def rank(cfg: DictConfig) -> int:
    """Return this process's rank in its run, before Lightning knows it."""
    launched_as = launcher_rank()  # also of a run of one process: Lightning reads the variables, too
    return launched_as if has_several_processes(cfg) else 0


def all_gather(trainer: "L.Trainer", value: Any) -> list[Any]:
    """Gather each rank's picklable value, in the order of the ranks. A collective operation."""
    if trainer.world_size == 1:
        return [value]
    from torch import distributed

    values: list[Any] = [None] * trainer.world_size
    distributed.all_gather_object(values, value)
    return values


def is_lost_connection(error: Exception) -> bool:
    """Return True if the error means that another rank has died."""
    return isinstance(error, RuntimeError) and any(word in str(error) for word in LOST_CONNECTION)


@contextmanager
def exit_with_launcher() -> Iterator[None]:
    """Within the context, end this process if rank 0, which started it, dies: it could block for half an hour."""
    finished = threading.Event()
    if launcher_rank() > 0 and "RANK" not in os.environ and LAUNCHER in os.environ:
        launcher = int(os.environ[LAUNCHER])
        threading.Thread(target=watch_launcher, args=(launcher, finished), daemon=True).start()
    else:
        os.environ[LAUNCHER] = str(os.getpid())  # rank 0 may be gone before a process that it starts gets here
    try:
        yield
    finally:
        finished.set()


def watch_launcher(launcher: int, finished: threading.Event) -> None:
    while os.getppid() == launcher:
        if finished.wait(PARENT_CHECK_SECONDS):
            return
    if not finished.wait(GRACE_SECONDS):
        print(f"error: rank 0 of this run (process {launcher}) has died, so this rank ends", file=sys.stderr)
        sys.stderr.flush()
        os._exit(1)


@contextmanager
def exit_with_sweep() -> Iterator[None]:
    """Within the context, end a worker process of a parallel sweep when the sweep's own process ends.

    The job in the context gets SIGTERM, so that it saves its state. The process starts no further job. A process that
    is no such worker is not affected.
    """
    parent = multiprocessing.parent_process()
    if parent is None or parent.pid is None:
        yield
        return
    sweep = parent.pid
    if not any(thread.name == SWEEP_WATCHER for thread in threading.enumerate()):
        end_after(lambda: os.getppid() != sweep)
    try:
        yield
    finally:
        if os.getppid() != sweep:
            os._exit(TERMINATED)


def end_after(has_ended: Callable[[], bool]) -> None:
    """End this process, which gets SIGTERM first, when the function that is called every few seconds returns True."""

    def watch() -> None:
        while not has_ended():
            time.sleep(PARENT_CHECK_SECONDS)
        signal.raise_signal(signal.SIGTERM)
        time.sleep(GRACE_SECONDS)
        os._exit(TERMINATED)

    threading.Thread(target=watch, name=SWEEP_WATCHER, daemon=True).start()


def is_running(pid: int) -> bool:
    """Return True if there is a process with this ID."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
