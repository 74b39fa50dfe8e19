"""Several processes of one run: that they fit together, know of each other, and that none is left."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import lightning as L
from torch import distributed

from dcgan.checks import SharedError
from dcgan.sweeps import rank

if TYPE_CHECKING:
    from dcgan.gan import GAN  # which gathers with this module

LAUNCHER = "DCGAN_LAUNCHER"  # the process that starts the others
LOOK_SECONDS = 2
LOST = ("gloo", "NCCL", "TCPStore", "Connection", "Broken pipe")  # what torch says of it
GRACE_SECONDS = 10  # in which a process whose launcher has ended may end by itself


def gather(trainer: L.Trainer, own: Any) -> list[Any]:
    """What each process has, in the order of their ranks."""
    if trainer.world_size == 1:
        return [own]
    everybody: list[Any] = [None] * trainer.world_size
    distributed.all_gather_object(everybody, own)
    return everybody


class Agreement(L.Callback):
    """Before the first step, processes that would not do the same are told apart from those that would: where one has
    more batches than another, or comes from another step, they would wait for each other for ever."""

    def on_train_start(self, trainer: L.Trainer, gan: "GAN") -> None:
        own = {
            "images": trainer.datamodule.n_images,
            "batches an epoch": int(trainer.num_training_batches),
            "steps so far": gan.step,
        }
        everybody = gather(trainer, own)
        for name in own:
            counts = [facts[name] for facts in everybody]
            if len(set(counts)) > 1:
                raise SharedError(
                    f"the processes differ in their {name} ({', '.join(map(str, counts))}): give all of them the same "
                    "data and the same run folder"
                )


@contextmanager
def bound_to_launcher() -> Iterator[None]:
    """In here a process that the first one has started does not outlive it: where that is killed, this one could wait
    for it for half an hour."""
    launched = rank() > 0 and "RANK" not in os.environ and LAUNCHER in os.environ
    over = threading.Event()
    if launched:
        threading.Thread(target=watch, args=(int(os.environ[LAUNCHER]), over), daemon=True).start()
    else:
        os.environ[LAUNCHER] = str(os.getpid())  # which may be gone before a process that it starts gets here
    try:
        yield
    finally:
        over.set()


def watch(parent: int, over: threading.Event) -> None:
    while os.getppid() == parent:
        if over.wait(LOOK_SECONDS):
            return
    if not over.wait(GRACE_SECONDS):
        print(f"error: the first process of this run ({parent}) is gone: so is this one", file=sys.stderr)
        sys.stderr.flush()
        os._exit(1)


def said_by_the_first(value: Any) -> Any:
    """The first process's value, on all of them; one that waits for it hears in a RuntimeError that it has failed."""
    if not distributed.is_available() or not distributed.is_initialized():
        return value
    box = [value]
    distributed.broadcast_object_list(box, src=0)
    return box[0]


def is_lost(error: Exception) -> bool:
    """Whether an error says that another process has gone."""
    return isinstance(error, RuntimeError) and any(word in str(error) for word in LOST)
