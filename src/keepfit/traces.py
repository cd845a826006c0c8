"""Tracer: where time goes, as spans; the contract, the one that does nothing, and the fake that remembers.

What every tracer keeps to (`tests/contracts/test_tracer.py` holds each to it):

* A span opened inside another one of the same thread is its child; it ends with its block, also when that raises.
* `past` adds a child that was measured before.
* Nothing a tracer does fails its caller; facts are ids, names and numbers, never contents.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

Fact = str | int | float | bool


class Span(Protocol):
    """A stretch of time that is under way."""

    def note(self, **facts: Fact) -> None:
        """Say more of it."""
        ...


class Tracer(Protocol):
    """Where spans go."""

    def span(self, name: str, headers: Mapping[str, str] | None = None, **facts: Fact) -> AbstractContextManager[Span]:
        """The block is a span; `headers` of a caller may name the trace that it belongs to."""
        ...

    def past(self, name: str, began: float, ended: float, **facts: Fact) -> None:
        """A span of before, by `time.time()`."""
        ...

    def close(self) -> None:
        """Send what waits."""
        ...


class Unheard:
    """A span that nobody keeps."""

    def note(self, **facts: Fact) -> None:
        """Nothing."""


class NoTraces:
    """Does nothing, at the price of a call."""

    def __init__(self) -> None:
        self._span = nullcontext(Unheard())

    def span(self, name: str, headers: Mapping[str, str] | None = None, **facts: Fact) -> AbstractContextManager[Span]:
        """No span."""
        return self._span

    def past(self, name: str, began: float, ended: float, **facts: Fact) -> None:
        """No span."""

    def close(self) -> None:
        """Nothing waits."""


OFF = NoTraces()


@dataclass
class Remembered:
    """A span of the fake."""

    name: str
    parent: str | None
    began: float
    ended: float | None = None
    facts: dict[str, Fact] = field(default_factory=dict)
    error: str | None = None
    """What the block raised."""

    def note(self, **facts: Fact) -> None:
        """Say more of it."""
        self.facts.update(facts)


class MemoryTracer:
    """Remembers spans in the order in which they began; for tests and for trying out.

    >>> tracer = MemoryTracer()
    >>> with tracer.span("request"), tracer.span("infer", n=2):
    ...     pass
    >>> [(span.name, span.parent) for span in tracer.spans]
    [('request', None), ('infer', 'request')]
    """

    def __init__(self) -> None:
        self.spans: list[Remembered] = []
        self._here = threading.local()

    @property
    def _open(self) -> list[str]:
        if not hasattr(self._here, "names"):
            self._here.names = []
        names: list[str] = self._here.names
        return names

    @contextmanager
    def span(self, name: str, headers: Mapping[str, str] | None = None, **facts: Fact) -> Iterator[Remembered]:
        """The block is a span; the caller's `traceparent` is its parent where there is one."""
        parent = self._open[-1] if self._open else (headers or {}).get("traceparent")
        span = Remembered(name, parent, time.time(), None, dict(facts))
        self.spans.append(span)
        self._open.append(name)
        try:
            yield span
        except BaseException as error:
            span.error = f"{type(error).__name__}: {error}"
            raise
        finally:
            self._open.pop()
            span.ended = time.time()

    def past(self, name: str, began: float, ended: float, **facts: Fact) -> None:
        """A span of before."""
        parent = self._open[-1] if self._open else None
        self.spans.append(Remembered(name, parent, began, ended, dict(facts)))

    def close(self) -> None:
        """Nothing waits."""
