"""Standard output and error whose reader may go away, as `head` does: what comes later is written for nobody.

Python would raise BrokenPipeError wherever something is said next, and Rich would end the thread that says it: in the
midst of a step of a training, which then neither ends nor fails. The work goes on, and its exit code stays.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class Pipe(io.FileIO):
    """A file descriptor that becomes the null device when nobody reads it any more."""

    gone = False

    def write(self, data: ReadableBuffer, /) -> int:
        """As of any file."""
        try:
            return super().write(data)
        except BrokenPipeError:
            self.gone = True
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            return memoryview(data).nbytes


class Spoken(io.TextIOWrapper):
    """A standard stream over such a pipe."""

    def __init__(self, stream: TextIO) -> None:
        stream.flush()
        self.pipe = Pipe(stream.fileno(), "w", closefd=False)
        super().__init__(
            io.BufferedWriter(self.pipe), stream.encoding, stream.errors, None, bool(stream.line_buffering)
        )


def survive_readers() -> None:
    """From now on this process outlives whoever reads its standard output and error. For the command line only."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed by the caller: a database that is opened must not get this number
            os.open(os.devnull, os.O_RDWR)
    sys.stdout, sys.stderr = over(sys.stdout), over(sys.stderr)


def over(stream: TextIO) -> TextIO:
    """The stream over a pipe; as it is where it is no file, or none at all."""
    try:
        return Spoken(stream)
    except (AttributeError, OSError):
        return stream


def nobody_listens() -> bool:
    """Whether the reader of standard output is known to be gone: what has no end but its reader's ends then."""
    return isinstance(sys.stdout, Spoken) and sys.stdout.pipe.gone
