"""GPU leases: a job of a sweep holds a file lock for the GPU that it uses. A lock ends with its process."""

import gc
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from filelock import AcquireReturnProxy, FileLock, Timeout
from omegaconf import DictConfig

from dcgan.common.atomic_files import write_errors
from dcgan.common.cache import cache_dir
from dcgan.common.distributed import has_several_processes

POLL_SECONDS = 1


@contextmanager
def lease_gpu(cfg: DictConfig, run_dir: Path) -> Iterator[int | None]:
    """Within the context, this job and less than `jobs_per_gpu` others use the GPU with the yielded index.

    If all GPUs are in use, wait for one. None: the job uses no GPU, or those that its config names.

    The locks are in the user's cache, by the UUIDs of the GPUs. So each job may see other GPUs (CUDA_VISIBLE_DEVICES),
    and several machines may share the folder.

    Args:
        cfg: The config of the job.
        run_dir: The folder of the job. Jobs that wait print it.

    Raises:
        UserError: The cache cannot be written.
    """
    gpus = visible_gpus() if uses_one_gpu(cfg) else []
    if not gpus:
        yield None
        return
    folder = cache_dir() / "gpus"
    with write_errors(folder, "another DCGAN_CACHE_DIR", (OSError,)):
        folder.mkdir(parents=True, exist_ok=True)
    # each GPU gets its first job before any gets its second one
    places = [(gpu, folder / f"{gpus[gpu]}_{i}.lock") for i in range(cfg.jobs_per_gpu) for gpu in range(len(gpus))]
    gpu, path, lock = lock_first_free(places, run_dir)
    with lock:
        holder_file(path).write_text(f"{run_dir} in process {os.getpid()}")
        try:
            yield gpu
        finally:  # this process may live on, with a job on another GPU
            gc.collect()
            torch.cuda.empty_cache()


def uses_one_gpu(cfg: DictConfig) -> bool:
    """Return True if the trainer runs one process on one GPU of its choice."""
    trainer = cfg.trainer
    return not has_several_processes(cfg) and trainer.devices == 1 and trainer.accelerator in ("auto", "gpu", "cuda")


def visible_gpus() -> list[str]:
    """Return the UUIDs of the GPUs that this process sees, in the order of torch's indices."""
    return [str(torch.cuda.get_device_properties(i).uuid) for i in range(torch.cuda.device_count())]


def lock_first_free(places: list[tuple[int, Path]], run_dir: Path) -> tuple[int, Path, AcquireReturnProxy]:
    """Lock the first place that is free. If there is none, print one line and wait for one.

    Args:
        places: The index of a GPU and a lock file of it, for each job that may run.
        run_dir: The folder of the job that waits.
    """
    waiting = False
    while True:
        for gpu, path in places:
            with suppress(Timeout):
                return gpu, path, FileLock(path).acquire(timeout=0)
        if not waiting:
            holders = ", ".join(f"GPU {gpu} has {holder(path)}" for gpu, path in places)
            print(
                f"waiting      {run_dir.name}: no GPU is free ({holders}); jobs_per_gpu=N lets N share one", flush=True
            )
            waiting = True
        time.sleep(POLL_SECONDS)


def holder_file(lock: Path) -> Path:
    return lock.with_suffix(".txt")  # not the lock file itself, which old versions of filelock empty


def holder(lock: Path) -> str:
    """Return the run and the process that hold a lock, if they have said so."""
    return holder_file(lock).read_text() if holder_file(lock).exists() else "another job"
