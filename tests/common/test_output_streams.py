"""Output that cannot be written does not end a command."""

import os
import sys
from pathlib import Path

from dcgan.common.output_streams import lenient_output


def test_write_to_a_closed_pipe_is_dropped_and_flushing_at_exit_does_not_fail(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", buffering=1) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with lenient_output():
            print("lost")
            sys.stdout.writelines(["lost", "lost\n"])
            sys.stdout.flush()
            assert sys.stdout.fileno() == writer
        assert sys.stdout is stream
        stream.flush()
        assert os.path.samestat(os.fstat(writer), Path(os.devnull).stat())
        monkeypatch.undo()


def test_stream_that_can_be_written_is_left_alone(capfd):
    with lenient_output():
        print("out")
        print("err", file=sys.stderr)
    assert capfd.readouterr() == ("out\n", "err\n")


def test_closed_stdout_is_accepted(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)  # as after >&-
    with lenient_output():
        print("lost")
    assert sys.stdout is None
