"""Standard output and standard error that cannot end a command: the reader of a pipe may go away, the disk of a log may
be full, a terminal may be closed."""

import os
import sys
from collections.abc import Iterator
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

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        try:
            self.stream.flush()
        except OSError:
            self.failed = True


@contextmanager
def lenient_output() -> Iterator[None]:
    """Within the context, sys.stdout and sys.stderr never raise OSError, nor does Python when it flushes them at its
    end. rich turns a broken pipe into SystemExit, which would end a training without a checkpoint."""
    out, err = LenientStream(sys.stdout), LenientStream(sys.stderr)
    with ExitStack() as stack:
        for stream, redirect in ((out, redirect_stdout), (err, redirect_stderr)):
            if stream.stream is not None:  # closed by the shell: >&-
                stack.enter_context(redirect(stream))
        try:
            yield
        finally:
            for stream in (out, err):
                if stream.stream is not None:
                    stream.flush()
                if stream.failed:
                    discard(stream.stream)


def discard(stream: TextIO) -> None:
    """Point the stream's file descriptor to the null device, so that what is still buffered does not fail again."""
    with suppress(OSError, ValueError):  # a stream of Python's own has no descriptor
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
