"""Several nodes: end this rank if another one is gone, where collectives would wait for it for half an hour.

A killed process closes its connections, and collectives fail at once. A node that loses its power or its network does
not close them.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from dcgan.common.distributed import GRACE_SECONDS
from dcgan.common.errors import UserError, first_line
from dcgan.common.launcher import launcher_rank

NOTE_SECONDS = 30  # until this rank says that it waits for others
CONNECT_SECONDS = 300  # from the start of the training until the ranks are connected
PERIOD_SECONDS = 2  # between two messages of the ranks to each other
ANSWER_SECONDS = 30  # the longest that a rank may take to answer


@contextmanager
def exit_if_alone(address: str) -> Iterator[None]:
    """Within the context, end this process if the other ranks do not connect in time. Before, say what it waits for.

    Raises:
        UserError: They cannot connect at the address, HOST:PORT.
    """
    reason = f"is not connected with all other ranks at {address}"
    end = f"error: rank {launcher_rank()} {reason} after {CONNECT_SECONDS} s"
    note = f"note: rank {launcher_rank()} {reason} yet, and waits {CONNECT_SECONDS} s: have all been started?"
    timers = [threading.Timer(NOTE_SECONDS, print_error, [note]), threading.Timer(CONNECT_SECONDS, exit_rank, [end])]
    for timer in timers:
        timer.daemon = True
        timer.start()
    try:
        yield
    except distributed.DistError as error:
        raise UserError(f"the ranks cannot be connected at {address}: {first_line(error)}") from error
    finally:
        for timer in timers:
            timer.cancel()


class RankWatch:
    """A thread that exchanges messages with the other ranks. It ends this process if one of them does not answer.

    Long work of one rank, such as the preparation of images, delays no answer.
    """

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self.group: Any = distributed.new_group(backend="gloo", timeout=timedelta(seconds=ANSWER_SECONDS))
        self.thread = threading.Thread(target=self.exchange, name="rank watch", daemon=True)
        self.thread.start()

    def exchange(self) -> None:
        any_stopped = torch.zeros(1)
        try:
            while not any_stopped:
                any_stopped.fill_(self.stopped.wait(PERIOD_SECONDS))
                distributed.all_reduce(any_stopped, group=self.group)
        except RuntimeError:
            # the training itself may notice it, and end with a better message
            if not self.stopped.wait(GRACE_SECONDS):
                lost = f"rank {launcher_rank()} has lost another rank, whose node has failed or cannot be reached"
                exit_rank(f"error: {lost}: resume with ckpt_path=auto")

    def stop(self) -> None:
        """End the threads of all ranks, before this rank ends."""
        self.stopped.set()
        self.thread.join()


def exit_rank(message: str) -> None:
    print_error(message)
    os._exit(1)


def print_error(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
