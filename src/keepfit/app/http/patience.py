"""Patience with slow clients: bodies that are on their way hold some of the threads, and never all of them.

The server cannot end a body that stops coming (a proxy before it can); what it can do is see to it that one caller
holds half of the threads at most, and that all of them together leave some for everyone else.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from keepfit.errors import Overloaded

WAIT_S = 1.0
"""Most bodies come with their headers, so that a turn comes within milliseconds unless somebody is very slow."""


class Bodies:
    """How many threads wait for bodies, altogether and for each caller."""

    def __init__(self, threads: int, wait_s: float = WAIT_S) -> None:
        self._each, self._all = max(1, threads // 2), max(1, threads - max(1, threads // 8))
        self._wait_s = wait_s
        self._reading: Counter[str] = Counter()
        self._change = threading.Condition()

    @contextmanager
    def turn(self, caller: str) -> Iterator[None]:
        """While this caller's body is read. Raises Overloaded where no thread may wait for it."""
        with self._change:
            if not self._change.wait_for(lambda: self._free(caller), self._wait_s):
                raise Overloaded("too many requests are arriving slowly; send each at once, and fewer at a time")
            self._reading[caller] += 1
        try:
            yield
        finally:
            with self._change:
                self._reading[caller] -= 1
                self._reading += Counter()  # forgets who reads nothing
                self._change.notify_all()  # each waits for something else

    def _free(self, caller: str) -> bool:
        return self._reading[caller] < self._each and self._reading.total() < self._all


class Body:
    """The body of one request, read in turns."""

    def __init__(self, stream: IO[bytes], bodies: Bodies, caller: str) -> None:
        self._stream, self._bodies, self._caller = stream, bodies, caller

    def read(self, size: int = -1) -> bytes:
        """So many bytes at most, or all."""
        with self._bodies.turn(self._caller):
            return self._stream.read(size)
