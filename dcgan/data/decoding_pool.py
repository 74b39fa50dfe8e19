"""Decode pictures in parallel, in threads or in other processes."""

import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from dcgan.common.errors import UserError
from dcgan.data.decoding import TemporaryReadError, decode_chunk


@contextmanager
def pool(in_processes: bool) -> Iterator[Callable[..., Future]]:
    """Yield a function that submits a call of `decode_chunk` to as many threads as there are usable cores.

    After an error, calls that have not begun are given up.

    Args:
        in_processes: Each thread lets a process of its own decode.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    executor = ThreadPoolExecutor(cores)
    processes = [start_decoding_process() for _ in range(cores if in_processes else 0)]
    idle: SimpleQueue[subprocess.Popen] = SimpleQueue()
    for process in processes:
        idle.put(process)

    def decode_in_process(*arguments: Any) -> Any:
        process = idle.get()
        try:
            return decode_chunk_in(process, *arguments)
        finally:
            idle.put(process)

    decode: Callable[..., Any] = decode_in_process if in_processes else decode_chunk
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata
            yield partial(executor.submit, decode)
    except TemporaryReadError as error:
        raise UserError(f"{error}: check the disk or the network, and start again") from error
    except (EOFError, MemoryError) as error:
        raise UserError("decoding the images has ended: it may have needed more memory than there is") from error
    finally:
        executor.shutdown(cancel_futures=True)
        for process in processes:
            process.communicate()


# functions, not a class: a checkpoint's config may name the classes of this package, and must start no process


def start_decoding_process() -> subprocess.Popen:
    """Start a process for `decode_chunk_in`. It ends with this one, or when its stdin is closed.

    A pool of multiprocessing would import the main script in each process, and torch with it, which takes seconds.
    """
    path = os.pathsep.join(folder or str(Path.cwd()) for folder in sys.path)
    return subprocess.Popen(
        [sys.executable, "-c", "from dcgan.data.decoding import serve; serve()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
    )


def decode_chunk_in(process: subprocess.Popen, *arguments: Any) -> Any:
    """Return the result of `decode_chunk` in another process, or raise its error.

    Raises:
        EOFError: The process has been killed.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        pickle.dump(arguments, process.stdin)
        process.stdin.flush()
    except BrokenPipeError as error:
        raise EOFError from error
    result = pickle.load(process.stdout)
    if isinstance(result, Exception):
        raise result
    return result
