"""RecordWriter: predictions reach the store aside, in groups, so that answers do not wait for the disk."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import groupby, islice

from keepfit.data.records import Example, Prediction
from keepfit.data.store import RecordStore
from keepfit.errors import BackendError
from keepfit.serving.discretion import ALL, Discretion, tell_of_masks
from keepfit.serving.tally import Tally

log = logging.getLogger(__name__)

Record = tuple[str, Example, Prediction]

GROUP = 250
"""Records in one transaction at most, so that nobody waits long for the database."""

PATIENCE_S = 5.0
"""So long a caller is held back at most by a slow store."""

RETRY_S = 0.5
"""Pause before a failed write is tried again, so that a store in trouble is not stormed."""


class RecordWriter:
    """Bounded memory between answering and the store.

    What is added is committed within `linger_s` and the time of a commit. While the store is slower than the answers,
    `add` holds its callers back. While it fails, records wait here and are written again and again; when more than
    `capacity` wait, the newest are lost, counted in `lost`, and `ready` says so for as long as the store fails. A
    killed process loses what waits; `close` writes it.
    """

    def __init__(
        self, store: RecordStore, capacity: int = 20_000, linger_s: float = 0.05,
        discretion: Mapping[str, Discretion] | None = None,
    ) -> None:  # fmt: skip
        """`discretion` says of a model's records what of them may be stored; all of those of other models."""
        self._discretion = discretion or {}
        self._store, self._capacity, self._linger_s = store, capacity, linger_s
        self._waiting: deque[Record] = deque()
        self._change = threading.Condition()
        self._accepted = 0
        self._written = 0
        self._hurry = 0
        self._closing = False
        self._trouble: str | None = None
        self.lost = 0
        self.tally = Tally()
        self._thread = threading.Thread(target=self._run, name="record writer", daemon=True)
        self._thread.start()

    def add(self, model: str, pairs: Sequence[tuple[Example, Prediction]]) -> None:
        """Take records in. Waits for room while the store is merely slow; never raises for a store in trouble."""
        self.tally.note(model, (prediction for _, prediction in pairs))
        with self._change:
            self._change.wait_for(lambda: self._has_room(len(pairs)), PATIENCE_S)
            room = max(self._capacity - len(self._waiting), 0)
            kept = pairs[:room]
            self.lost += len(pairs) - len(kept)
            first = not self._waiting
            self._waiting.extend((model, example, prediction) for example, prediction in kept)
            self._accepted += len(kept)
            if first:
                self._change.notify_all()

    def _has_room(self, n: int) -> bool:
        """Room, or no use in waiting for it."""
        well = self._trouble is None and not self._closing and self._thread.is_alive()
        return len(self._waiting) + n <= self._capacity or not self._waiting or not well

    def waiting(self) -> int:
        """Records not yet in the store."""
        return len(self._waiting)

    def flush(self, timeout_s: float = 10.0) -> None:
        """Return when everything added before is in the store. Raises BackendError when that takes too long."""
        with self._change:
            goal = self._accepted
            if self._written >= goal:
                return
            self._hurry = max(self._hurry, goal)
            self._change.notify_all()
            self._change.wait_for(lambda: self._written >= goal or not self._thread.is_alive(), timeout_s)
            if self._written < goal:
                reason = self._trouble or "the store is slow"
                raise BackendError(f"the latest predictions are not stored yet ({reason}); try again in a moment")

    def ready(self) -> str | None:
        """Why predictions are not being recorded; None when they are."""
        if not self._thread.is_alive() and not self._closing:
            return "the thread that records predictions died; restart the server"
        if self._trouble is not None:
            return f"predictions wait to be recorded: {self._trouble} ({self.lost} lost so far)"
        return None

    def close(self, timeout_s: float = 10.0) -> None:
        """Write what waits, then stop. What cannot be written in time is counted as lost and logged."""
        with self._change:
            self._closing = True
            self._change.notify_all()
        self._thread.join(timeout_s)
        left = len(self._waiting)
        if left:
            self.lost += left
            log.error("%d predictions could not be recorded before the end: %s", left, self._trouble or "no time left")

    def _run(self) -> None:
        while group := self._next_group():
            started = time.monotonic()
            try:
                self._write(group)
            except BackendError as error:
                if not self._put_off(error):
                    return
                continue
            except Exception:
                log.exception("a group of predictions is not storable; each is tried alone")
                try:
                    self._write_each(group)
                except BackendError as error:
                    if not self._put_off(error):
                        return
                    continue
            self._advance(len(group))
            self._give_way(time.monotonic() - started)

    def _advance(self, n: int) -> None:
        with self._change:
            for _ in range(n):
                self._waiting.popleft()
            self._written += n
            self._trouble = None
            self._change.notify_all()

    def _give_way(self, seconds: float) -> None:
        """Leave the database to others for as long as it was ours: SQLite has one writer, and its locks are not fair.

        A deployment or a label would else wait long behind a busy server's predictions.
        """
        with self._change:
            if self._waiting and not self._closing:
                self._change.wait_for(
                    lambda: self._closing or self._hurry > self._written, min(seconds, self._linger_s)
                )

    def _write_each(self, group: Sequence[Record]) -> None:
        """One record that no store can take must not hold up the others for ever: it is lost, and counted.

        Raises BackendError when the store fails meanwhile; the group is then tried again from its beginning.
        """
        lost = 0
        for record in group:
            try:
                self._write([record])
            except BackendError:
                raise
            except Exception as error:
                lost += 1
                log.error("prediction %s could not be recorded: %s", record[2].id, error)
        with self._change:
            self.lost += lost

    def _next_group(self) -> list[Record]:
        """Wait until something is due; the group stays in the queue until it is stored. Empty: closed and done."""
        with self._change:
            while not self._waiting and not self._closing:
                self._change.wait()
            until = time.monotonic() + self._linger_s
            while not self._due() and (left := until - time.monotonic()) > 0:
                self._change.wait(left)
            return list(islice(self._waiting, GROUP))

    def _due(self) -> bool:
        return self._closing or self._hurry > self._written or len(self._waiting) >= GROUP

    def _write(self, group: Sequence[Record]) -> None:
        for model, records in groupby(group, key=lambda record: record[0]):
            discretion = self._discretion.get(model, ALL)
            pairs = [discretion.kept(example, prediction) for _, example, prediction in records]
            self._store.add_predictions(model, pairs)
            tell_of_masks(self._store, model, discretion)

    def _put_off(self, error: BackendError) -> bool:
        """Note the trouble and pause; false when the process is closing and must not wait any longer."""
        with self._change:
            if self._trouble is None:
                log.error("predictions cannot be recorded, they wait in memory: %s", error)
            self._trouble = str(error)
            self._change.notify_all()
            if self._closing:
                return False
            self._change.wait(RETRY_S)
            return True
