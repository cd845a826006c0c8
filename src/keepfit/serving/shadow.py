"""Shadow: versions that are asked after the answer was given; what they say is recorded and never heard."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keepfit.data.records import Example

log = logging.getLogger(__name__)

AT_ONCE = 16
"""Examples in one call of a shadow's engine at most, so that live answers wait for little."""

Ask = Callable[[Any, Sequence[Example]], None]
"""(version as it is served, examples): ask it, and record what it says; raises nothing."""


class Shadow:
    """A queue of at most `capacity` examples and one thread; what finds no room is counted in `dropped`."""

    def __init__(self, ask: Ask, capacity: int, name: str) -> None:
        self._ask, self._capacity, self._name = ask, capacity, name
        self._waiting: deque[tuple[Any, Example]] = deque()
        self._change = threading.Condition()
        self._closing = False
        self._busy = False
        self._thread: threading.Thread | None = None
        self.dropped = 0
        self.asked = 0

    def offer(self, turns: Mapping[Any, Sequence[Example]]) -> None:
        """Let each version be asked about these examples, when there is time."""
        with self._change:
            if self._closing:
                return
            for served, examples in turns.items():
                room = max(self._capacity - len(self._waiting), 0)
                self._waiting.extend((served, example) for example in examples[:room])
                self.dropped += max(len(examples) - room, 0)
            if self._thread is None and self._waiting:
                self._thread = threading.Thread(target=self._run, name=f"shadow {self._name}", daemon=True)
                self._thread.start()
            self._change.notify_all()

    def waiting(self) -> int:
        """Examples that wait."""
        return len(self._waiting)

    def drain(self, timeout_s: float = 10.0) -> bool:
        """Wait until everything offered before was asked; false when that took too long."""
        with self._change:
            return self._change.wait_for(lambda: not self._waiting and not self._busy, timeout_s)

    def clear(self) -> None:
        """Forget what waits."""
        with self._change:
            self._waiting.clear()
            self._change.notify_all()

    def close(self) -> None:
        """Ask nothing more; waits for the call under way."""
        with self._change:
            self._closing = True
            self._waiting.clear()
            self._change.notify_all()
        if self._thread is not None:
            self._thread.join(10)

    def _run(self) -> None:
        while True:
            with self._change:
                self._busy = False
                self._change.notify_all()
                self._change.wait_for(lambda: bool(self._waiting) or self._closing)
                if self._closing:
                    return
                self._busy = True
                served, group = self._next()
            try:
                self._ask(served, group)
            except Exception:
                log.exception("a shadow of %s could not be asked", self._name)
            self.asked += len(group)

    def _next(self) -> tuple[Any, list[Example]]:
        """The examples at the head of the queue that are for one version."""
        served, first = self._waiting.popleft()
        group = [first]
        while self._waiting and len(group) < AT_ONCE and self._waiting[0][0] is served:
            group.append(self._waiting.popleft()[1])
        return served, group
