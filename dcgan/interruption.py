"""Ctrl-C, SIGTERM, a closed terminal and a cluster's warning: finish the step, save, say how to go on."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch

from dcgan.checks import SharedError

STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
WARNING = signal.SIGUSR1  # SLURM's, some time before it ends a job
AGREE_EVERY_N_STEPS = 10  # processes; each time one waits for the others


class Interrupted(SharedError):
    """The run was told to stop. Exit code 128 and the signal's number, as shells expect: 130 after Ctrl-C, 143 after
    SIGTERM, 129 after SIGHUP."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


class Interruption:
    """`number` is the signal that came, None before. A second Ctrl-C ends the process at once."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.on_warning: Any = None  # what Lightning would do in the middle of a step

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Signals in here are remembered instead of ending the process."""
        before = {number: signal.getsignal(number) for number in (*STOP, WARNING)}
        self.listen()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def come_last(self, trainer: L.Trainer) -> None:
        """Listen again as soon as Lightning has installed its own handlers: they would act in the middle of a step,
        and let one process wait for others that have not heard the signal."""
        connector = trainer._signal_connector  # no public name for it
        register = connector.register_signal_handlers

        def registered() -> None:
            register()
            self.listen()

        connector.register_signal_handlers = registered  # type: ignore[method-assign]

    def listen(self) -> None:
        for number in STOP:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup means what it says
                signal.signal(number, self.remember)
        handler = signal.getsignal(WARNING)
        if callable(handler) and handler != self.remember:  # Lightning's, where it finds SLURM
            self.on_warning = handler
            signal.signal(WARNING, self.remember)

    def remember(self, number: int, frame: object) -> None:
        if number == signal.SIGINT and self.number in STOP:
            os.write(2, b"\nerror: ended at once and without saving; the last checkpoint is whole\n")
            os._exit(128 + number)
        if self.number not in STOP:
            self.number = number

    def agreed(self, trainer: L.Trainer, step: int) -> int | None:
        """The signal that came, the same for all processes at the same step."""
        if trainer.world_size == 1:
            return self.number
        if step % AGREE_EVERY_N_STEPS:
            return None
        number = torch.tensor(self.number or 0, device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(number, reduce_op="max")) or None

    def refuse_to_go_on(self) -> None:
        """Raise Interrupted where a signal came too late to stop the run: what comes after it is stopped."""
        if self.number in STOP:
            raise Interrupted("interrupted when the run was at its end: it is finished", self.number)

    def requeue(self) -> None:
        """After a warning: what Lightning does then, a checkpoint of its own and a word to SLURM."""
        if self.number == WARNING:  # and no stop since
            self.number = None
        if self.on_warning is not None:
            self.on_warning(WARNING, None)
