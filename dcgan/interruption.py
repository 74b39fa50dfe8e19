"""Ctrl-C and SIGTERM: finish the step, save, say how to go on."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from dcgan.checks import UserError


class Interrupted(UserError):
    """The run was told to stop. Exit code 130 after Ctrl-C and 143 after SIGTERM, as shells expect."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


class Interruption:
    """`number` is the signal that came, None before. A second Ctrl-C ends the process at once."""

    def __init__(self) -> None:
        self.number: int | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Signals in here are remembered instead of ending the process."""

        def remember(number: int, frame: object) -> None:
            if self.number is not None:
                raise KeyboardInterrupt
            self.number = number

        before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
