"""AnswerCache: the answers to texts that come again, least recently used ones leave first; bounded by bytes."""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

OVERHEAD = 700
"""Bytes that an entry takes besides its text and arrays: keys, objects, the measures (measured with tracemalloc)."""


@dataclass(frozen=True, eq=False)
class Cached:
    """One answer of one version."""

    scores: NDArray[np.float32]
    embedding: NDArray[np.float32]
    measures: Mapping[str, float]
    details: Any = None
    """What else the model said; see tasks.task.Output."""


class AnswerCache:
    """Thread-safe. Keyed by version and content, so that a new version never gives an old one's answer."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[tuple[int, Any], Cached] = OrderedDict()
        self._lock = threading.Lock()
        self.bytes = 0
        self.hits = 0
        self.misses = 0

    def get(self, version: int, content: Any) -> Cached | None:
        """The answer that this version gave to this very content, if it is still here."""
        if not self._max_bytes:
            return None
        with self._lock:
            entry = self._entries.get((version, content))
            if entry is None:
                self.misses += 1
                return None
            self.hits += 1
            self._entries.move_to_end((version, content))
            return entry

    def put(self, version: int, content: Any, answer: Cached) -> None:
        """Keep an answer; one that is larger than the whole cache is not kept."""
        size = size_of(content, answer)
        if size > self._max_bytes:
            return
        with self._lock:
            self._remove((version, content))
            self._entries[(version, content)] = answer
            self.bytes += size
            while self.bytes > self._max_bytes:
                self._remove(next(iter(self._entries)))

    def forget(self, version: int) -> None:
        """Drop what an unloaded version answered."""
        with self._lock:
            for key in [key for key in self._entries if key[0] == version]:
                self._remove(key)

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self._entries.clear()
            self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def _remove(self, key: tuple[int, Any]) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes -= size_of(key[1], entry)


def size_of(content: Any, answer: Cached) -> int:
    """Roughly the bytes that an entry holds (a character counts as up to four, details as the `nbytes` they state)."""
    parts = content if isinstance(content, tuple) else (content,)
    text = sum(len(part) * (1 if part.isascii() else 4) for part in parts if isinstance(part, str))
    details = 0 if answer.details is None else int(getattr(answer.details, "nbytes", sys.getsizeof(answer.details)))
    return text + answer.scores.nbytes + answer.embedding.nbytes + details + OVERHEAD
