"""Standard output and standard error that cannot end a command.

The reader of a pipe may exit, the disk of a log may be full, a terminal may be closed.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
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


@contextmanager
def lenient_output() -> Iterator[None]:
    """Within the context, sys.stdout and sys.stderr never raise OSError, nor does Python when it flushes them at exit.

    Otherwise rich would turn a broken pipe into SystemExit, which ends a training without a checkpoint.
    """
    streams = []
    with ExitStack() as stack:
        for stream, redirect in ((sys.stdout, redirect_stdout), (sys.stderr, redirect_stderr)):
            if stream is not None:  # the shell may have closed it: >&-
                streams.append(LenientStream(stream))
                stack.enter_context(redirect(streams[-1]))
        try:
            yield
        finally:
            for lenient in streams:
                lenient.flush()
                if lenient.failed:
                    discard_buffer(lenient.stream)


def discard_buffer(stream: TextIO) -> None:
    """Redirect the stream's file descriptor to the null device, so that flushing its buffer does not fail again."""
    with suppress(OSError, ValueError):  # an in-memory stream has no descriptor
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
