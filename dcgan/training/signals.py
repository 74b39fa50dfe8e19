"""Handle Ctrl-C, SIGTERM, a closed terminal and a cluster's warning: finish the step, save, report how to resume."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch

from dcgan.common.errors import CollectiveError
from dcgan.common.launcher import is_one_job
from dcgan.training.lightning_internals import after_signal_registration

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
WARNING_SIGNAL = signal.SIGUSR1  # sent by SLURM some time before it ends a job
SYNC_EVERY_N_STEPS = 10  # ranks agree on a signal; each time all wait for each other


class Interrupted(CollectiveError):
    """The run was stopped by a signal. Exit code: 128 plus the signal's number, as shells expect.

    130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


class SignalHandler:
    """Remembers the signal that arrived in `received`, None before. A second Ctrl-C ends the process at once."""

    def __init__(self) -> None:
        self.received: int | None = None
        self.requeue_handler: Any = None  # submitit's or Lightning's, which would act in the middle of a step

    @contextmanager
    def handling(self) -> Iterator[None]:
        """Within the context, signals are remembered instead of ending the process."""
        before = {number: signal.getsignal(number) for number in (*STOP_SIGNALS, WARNING_SIGNAL)}
        self.install()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def install_after_lightning(self, trainer: L.Trainer) -> None:
        """Install the handlers again whenever Lightning has installed its own.

        Those would act in the middle of a step, and let one rank wait for others that have not received the signal.
        """
        after_signal_registration(trainer, self.install)

    def install(self) -> None:
        for number in STOP_SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores it
                signal.signal(number, self.remember)
        handler = signal.getsignal(WARNING_SIGNAL)
        if callable(handler) and handler != self.remember:  # Lightning's or submitit's, in a job of a cluster
            self.requeue_handler = handler
            signal.signal(WARNING_SIGNAL, self.remember)

    def remember(self, number: int, frame: object) -> None:
        if number == signal.SIGINT and self.received in STOP_SIGNALS:
            os.write(2, b"\nerror: ended at once, without saving; the last checkpoint is valid\n")
            os._exit(128 + number)
        if self.received not in STOP_SIGNALS:
            self.received = number

    def synchronized(self, trainer: L.Trainer, step: int) -> int | None:
        """Return the signal that arrived on any rank, the same on all ranks at the same step. None if there is none."""
        if trainer.world_size == 1:
            return self.received
        if step % SYNC_EVERY_N_STEPS:
            return None
        number = torch.tensor(self.received or 0, device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(number, reduce_op="max")) or None

    def raise_if_interrupted(self) -> None:
        """Raise Interrupted if a signal arrived too late to stop the run, so that it stops what follows."""
        if self.received in STOP_SIGNALS:
            raise Interrupted("interrupted at the end of the run: it is finished", self.received)

    def requeue(self) -> None:
        """After a warning signal, let submitit requeue the job, or Lightning, which saves a checkpoint of its own."""
        if self.received == WARNING_SIGNAL:  # unless a stop signal has arrived since
            self.received = None
        if self.requeue_handler is not None:
            self.requeue_handler(WARNING_SIGNAL, None)
            if is_one_job():  # submitit's handler has ended rank 0
                sys.exit(128 + WARNING_SIGNAL)
