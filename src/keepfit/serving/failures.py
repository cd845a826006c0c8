"""Failures: what versions could not do, written aside, and versions that are asked no more by this process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from keepfit.data.records import Failure
from keepfit.data.store import RecordStore
from keepfit.errors import KeepfitError

log = logging.getLogger(__name__)

OUT = 3
"""After so many failures in a row a version with the smaller part of the traffic is asked no more."""

MOST = 1000
"""Kinds of failures that wait to be written at most."""

WORDS = 300
"""Characters of a message that are kept."""


def where(error: Exception) -> Exception | None:
    """What the log shows as a traceback: a failure that keepfit foresaw is told whole by its sentence."""
    return None if isinstance(error, KeepfitError) else error


class Failures:
    """Of one model in one process. `note` only remembers, `refresh` writes; from any thread."""

    def __init__(self, store: RecordStore, model: str, worker: str) -> None:
        self._store, self._model, self._worker = store, model, worker
        self._lock = threading.Lock()
        self._waiting: dict[tuple[int, str], Failure] = {}
        self._in_a_row: dict[int, int] = {}

    def note(self, version: int, kind: str, error: BaseException | str, at: datetime, count: int = 1) -> None:
        """Remember what a version could not do; the same again adds to the count."""
        with self._lock:
            self._add(version, kind, f"{error}"[:WORDS] or type(error).__name__, at, count)
            if kind == "load":
                return
            self._in_a_row[version] = self._in_a_row.get(version, 0) + 1
            if self._in_a_row[version] == OUT:
                self._add(version, "out", f"it failed {OUT} times in a row, the last time: {error}"[:WORDS], at, 1)

    def _add(self, version: int, kind: str, message: str, at: datetime, count: int) -> None:
        known = self._waiting.get((version, kind))
        if known is not None:
            self._waiting[version, kind] = replace(known, count=known.count + count, message=message)
        elif len(self._waiting) < MOST:
            self._waiting[version, kind] = Failure(version, at, kind, message, self._worker, count)

    def well(self, version: int) -> None:
        """It answered: what failed before was not in a row with what fails later."""
        if self._in_a_row.get(version):
            with self._lock:
                if self._in_a_row[version] < OUT:
                    self._in_a_row[version] = 0

    def out(self, version: int) -> bool:
        """Whether this process asks the version no more."""
        return self._in_a_row.get(version, 0) >= OUT

    def forget(self, versions: Sequence[int]) -> None:
        """Give these versions another chance: a new deployment wants them."""
        with self._lock:
            for version in versions:
                self._in_a_row.pop(version, None)

    def refresh(self) -> None:
        """Write what waits; while the store is away it goes on waiting."""
        with self._lock:
            waiting, self._waiting = list(self._waiting.values()), {}
        if not waiting:
            return
        try:
            self._store.add_failures(self._model, waiting)
        except KeepfitError as error:
            log.warning("failures of versions of %s wait to be written: %s", self._model, error)
            with self._lock:
                for one in waiting:
                    self._add(one.version, one.kind, one.message, one.at, one.count)
