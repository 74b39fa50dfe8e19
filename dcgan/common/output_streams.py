"""Standard output and standard error that cannot end a command.

The reader of a pipe may exit, the disk of a log may be full, a terminal may be closed.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any, TextIO


class LenientStream:
    """A text stream that drops what cannot be written."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.failed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        try:
            return self.stream.write(text)
        except OSError:
            self.failed = True
            return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        try:
            self.stream.flush()
        except OSError:
            self.failed = True

    def discard_if_failed(self) -> None:
        """Redirect the file descriptor to the null device if a write failed: flushing at exit would fail again."""
        self.flush()
        if self.failed:
            with suppress(OSError, ValueError):  # an in-memory stream has no descriptor
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self.stream.fileno())
                os.close(null)


@contextmanager
def lenient_output() -> Iterator[None]:
    """Within the context, sys.stdout and sys.stderr never raise OSError, nor does Python when it flushes them at exit.

    Otherwise rich would turn a broken pipe into SystemExit, which ends a training without a checkpoint.
    """
    stdout, stderr = (stream and LenientStream(stream) for stream in (sys.stdout, sys.stderr))  # None if closed: >&-
    with redirect_stdout(stdout), redirect_stderr(stderr):
        try:
            yield
        finally:
            for stream in filter(None, (stdout, stderr)):
                stream.discard_if_failed()
