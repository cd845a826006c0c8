"""Batcher: joins whatever waits while the engine is busy. No timer: an idle engine starts at once.

The engine has lanes: so many calls may run side by side (one, unless the model says more). A model with several says
which of those that wait it answers best in one call; else they are taken as they came, up to a cost.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.errors import BackendError, InvalidInput, KeepfitError, Overloaded
from keepfit.tasks.task import Model, Output, Prepared, SideBySide
from keepfit.traces import OFF, Tracer

log = logging.getLogger(__name__)

BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
"""Upper bounds of the batch-size histogram."""

DEAD_AFTER = 3
"""So many engine calls in a row that fail for every content make the batcher report itself unfit."""


class TimedOut(BackendError):
    """The engine gave no answer in time."""


class ClosedError(KeepfitError):
    """The version was unloaded between routing and asking; route again."""


@dataclass(eq=False)
class Waiting:
    """One call's contents, and their answers as they come in."""

    prepared: Prepared
    done: threading.Event = field(default_factory=threading.Event)
    scores: NDArray[np.float32] | None = None
    embeddings: NDArray[np.float32] | None = None
    details: list[Any] | None = None
    missing: int = 0
    error: BaseException | None = None
    over: bool = False
    """Nobody waits for this any more."""
    filling: threading.Lock = field(default_factory=threading.Lock)
    """A long call may have answers in the batches of both threads."""
    asked: float = field(default_factory=time.time)
    taken: float | None = None
    """When the engine began with the first of its contents."""

    def note(self, place: int, detail: Any) -> None:
        """Take what else the model says of the content at `place`; before `fill`, which may wake the caller."""
        with self.filling:
            if self.details is None:
                self.details = [None] * len(self.prepared.items)
            self.details[place] = detail

    def fill(self, place: int, scores: NDArray[np.float32], embedding: NDArray[np.float32]) -> None:
        """Take the answer of the content at `place`; the last one wakes the caller."""
        n = len(self.prepared.items)
        with self.filling:
            if self.scores is None or self.embeddings is None:
                self.scores = np.empty((n, *scores.shape), np.float32)
                self.embeddings = np.empty((n, *embedding.shape), np.float32)
            self.scores[place], self.embeddings[place] = scores, embedding
            self.missing -= 1
            if self.missing == 0:
                self.done.set()

    def output(self) -> Output:
        """The answers, once done without an error."""
        if self.scores is None or self.embeddings is None:
            raise BackendError("the engine lost this call; try again")
        return Output(self.scores, self.embeddings, self.details)

    def fail(self, error: BaseException) -> None:
        """Give up on the whole call."""
        self.error, self.over = error, True
        self.done.set()


Place = tuple[Waiting, int]


@dataclass(frozen=True)
class BatchCounts:
    """What the engine did since the start; counts only grow."""

    contents: int
    calls: int
    seconds: float
    by_size: Mapping[int, int]
    """Calls by the first of BUCKETS that holds their size; larger ones are in none."""
    cpu_seconds: float = 0.0
    """Processor time of the whole process during the calls; what other threads did meanwhile is in it."""


SPARE = 1
"""Threads beyond the lanes: one hands out what the engine said while the others ask it again."""
LOOK = 256
"""So many of those that wait are looked at for the next call."""

Said = list[tuple[list[Place], Output | BaseException]]
"""What came of a batch: of the whole of it, or of its calls one by one."""


class Batcher:
    """One model version and the threads that ask its engine, as many at a time as it has lanes.

    `ask` may be called from any thread. The oldest content is in the next batch, with those that the model would have
    beside it; without a word of the model, with the next oldest, as far as the cost stays within `batch_cost`. When a
    batch fails, its calls are tried one by one, so that only the culprit's caller hears of it.
    """

    def __init__(self, model: Model, batch_cost: int, queue_items: int, name: str = "") -> None:
        self._model, self._batch_cost, self._queue_items = model, batch_cost, queue_items
        self._queue: deque[Place] = deque()
        self._wake = threading.Condition()
        self._closed = False
        self._dead: BaseException | None = None
        self._failures = 0
        self._together = model.together if isinstance(model, SideBySide) else self._within_cost
        self._lanes = model.lanes if isinstance(model, SideBySide) else 1
        self._contents, self._calls, self._seconds, self._cpu_seconds = 0, 0, 0.0, 0.0
        self._running, self._used = 0, 0.0
        """Calls under way, and the processor time of the process when it was last counted."""
        self._by_size: dict[int, int] = {}
        self._turn = threading.Semaphore(self._lanes)
        """A lane: held by the thread that forms a batch and asks the engine, and not while answers are handed out."""
        name = f"engine {name}".strip()
        self.threads = [threading.Thread(target=self._run, name=name, daemon=True) for _ in range(self._lanes + SPARE)]
        for thread in self.threads:
            thread.start()

    def ask(self, prepared: Prepared, timeout_s: float, tracer: Tracer = OFF) -> Output:
        """The answers, in the order of the items.

        Raises Overloaded when too many contents wait already, ClosedError after `close`, BackendError when the
        engine failed, died, or was not done in time, InvalidInput when only the engine's thread saw that a content is
        none (a video is decoded there).
        """
        if not prepared.items:
            return self._model.infer(prepared)
        waiting = Waiting(prepared, missing=len(prepared.items))
        with self._wake:
            self._admit(len(prepared.items))
            self._queue.extend((waiting, place) for place in range(len(prepared.items)))
            self._wake.notify()
        if not waiting.done.wait(timeout_s):
            waiting.over = True
            raise TimedOut(f"no answer within {timeout_s:g} s; try again, or send less in one call")
        trace(tracer, waiting)
        if waiting.error is not None:
            raise failure(waiting.error) from waiting.error
        return waiting.output()

    def trouble(self) -> str | None:
        """Why this version cannot answer; None when it can."""
        if self._dead is not None:
            return f"the engine's thread died ({self._dead}); restart the server"
        if self._failures >= DEAD_AFTER:
            return f"the engine failed {self._failures} times in a row; see the server's log"
        return None

    def waiting(self) -> int:
        """Contents in the queue."""
        return len(self._queue)

    def counts(self) -> BatchCounts:
        """What was done so far."""
        with self._wake:
            return BatchCounts(self._contents, self._calls, self._seconds, dict(self._by_size), self._cpu_seconds)

    @property
    def device(self) -> str:
        """Where the model runs, as far as it tells: cpu, cuda, ..."""
        describe = getattr(self._model, "describe", None)
        return "cpu" if describe is None else str(describe().get("device", "cpu"))

    def close(self) -> None:
        """Answer what waits already, then end the threads; later calls get ClosedError. Does not wait."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()

    def join(self, timeout_s: float) -> None:
        """Wait for the threads to end, so long altogether."""
        until = time.monotonic() + timeout_s
        for thread in self.threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _admit(self, n: int) -> None:
        if self._dead is not None:
            raise failure(self._dead) from self._dead
        if self._closed:
            raise ClosedError("this version is not served any more")
        if self._queue and len(self._queue) + n > self._queue_items:
            raise Overloaded(
                f"{len(self._queue)} texts wait already, the limit is {self._queue_items}; try again later",
                self._drain_time(),
            )

    def _drain_time(self) -> float:
        """Seconds until what waits is done, from the mean so far; 1 to 60."""
        each = self._seconds / self._contents / self._lanes if self._contents else 0.0
        return min(max(1.0, each * len(self._queue)), 60.0)

    def _run(self) -> None:
        batch: list[Place] = []
        try:
            while True:
                with self._turn:
                    if not (batch := self._take()):
                        return
                    said = self._ask_engine(batch)
                hand_out(said)
        except BaseException as error:
            log.exception("the engine's thread died")
            self._die(error, batch)

    def _die(self, error: BaseException, batch: list[Place]) -> None:
        with self._wake:
            self._dead = error
            stranded = {id(waiting): waiting for waiting, _ in [*batch, *self._queue]}
            self._queue.clear()
            self._wake.notify_all()
        for waiting in stranded.values():
            if not waiting.done.is_set():
                waiting.fail(error)

    def _take(self) -> list[Place]:
        """The next batch; empty when closed and drained, or dead."""
        with self._wake:
            while self._dead is None:
                while not self._queue and not self._closed and self._dead is None:
                    self._wake.wait()
                if (batch := self._next_batch()) or (self._closed and not self._queue):
                    return batch
            return []

    def _next_batch(self) -> list[Place]:
        """One engine call, the oldest content in it; what was given up leaves the queue."""
        looked = [self._queue.popleft() for _ in range(min(LOOK, len(self._queue)))]
        waits = [(waiting, place) for waiting, place in looked if not waiting.over]
        if not waits:
            return []
        try:
            chosen = set(self._together([waiting.prepared.costs[place] for waiting, place in waits]))
        except BaseException:
            self._queue.extendleft(reversed(waits))  # so that they hear of it when this thread dies of it
            raise
        self._queue.extendleft(reversed([one for number, one in enumerate(waits) if number not in chosen]))
        batch = [one for number, one in enumerate(waits) if number in chosen]
        for waiting, _ in batch:
            waiting.taken = waiting.taken or time.time()
        if self._queue:
            self._wake.notify()  # another lane may be idle
        return batch

    def _within_cost(self, costs: Sequence[int]) -> range:
        """As they came, up to the cost of a batch; the first in any case."""
        total, count = costs[0], 1
        while count < len(costs) and (total := total + costs[count]) <= self._batch_cost:
            count += 1
        return range(count)

    def _ask_engine(self, batch: list[Place]) -> Said:
        """The answers to a batch; where it fails, those of its calls, each asked alone."""
        try:
            output = self._infer(batch)
            self._failures = 0
            return [(batch, output)]
        except Exception as error:
            calls = {id(waiting): waiting for waiting, _ in batch}
            if len(calls) == 1:
                if not isinstance(error, InvalidInput):  # the engine is well, the content is none
                    self._failures += 1
                return [(batch, error)]
            alone = ([(waiting, place) for waiting, place in batch if waiting is call] for call in calls.values())
            return [one for part in alone for one in self._ask_engine(part)]

    def _infer(self, batch: list[Place]) -> Output:
        started = time.perf_counter()
        self._begin()
        try:
            output = self._model.infer(joined(batch))
        finally:
            self._end()
        parts = [output.scores, output.embeddings, *([] if output.details is None else [output.details])]
        if any(len(part) != len(batch) for part in parts) or not np.isfinite(output.scores).all():
            raise BackendError("the engine gave no usable scores for this batch")
        self._count(len(batch), time.perf_counter() - started)
        return output

    def _begin(self) -> None:
        with self._wake:
            if not self._running:
                self._used = time.process_time()
            self._running += 1

    def _end(self) -> None:
        """Processor time is that of the whole process, so calls side by side count it once."""
        with self._wake:
            used, self._used = self._used, time.process_time()
            self._cpu_seconds += self._used - used
            self._running -= 1

    def _count(self, size: int, seconds: float) -> None:
        with self._wake:
            self._contents += size
            self._calls += 1
            self._seconds += seconds
            bucket = next((b for b in BUCKETS if size <= b), None)
            if bucket is not None:
                self._by_size[bucket] = self._by_size.get(bucket, 0) + 1


def hand_out(said: Said) -> None:
    """Give each caller its answers, or the error that its call ended with."""
    for batch, output in said:
        if isinstance(output, BaseException):
            for waiting, _ in batch:
                waiting.fail(output)
            continue
        if output.details is not None:
            for (waiting, place), detail in zip(batch, output.details, strict=True):
                waiting.note(place, detail)
        for row, (waiting, place) in enumerate(batch):
            waiting.fill(place, output.scores[row], output.embeddings[row])


def trace(tracer: Tracer, waiting: Waiting) -> None:
    """How long a call waited for the engine, and how long the engine took, as spans of the caller."""
    done = time.time()
    taken = done if waiting.taken is None else waiting.taken
    contents = len(waiting.prepared.items)
    tracer.past("queue", waiting.asked, taken, contents=contents)
    tracer.past("infer", taken, done, contents=contents)


def joined(batch: list[Place]) -> Prepared:
    """The contents of several calls as one."""
    items: list[Any] = [waiting.prepared.items[place] for waiting, place in batch]
    costs = [waiting.prepared.costs[place] for waiting, place in batch]
    measures = [waiting.prepared.measures[place] for waiting, place in batch]
    return Prepared(items, costs, measures)


def failure(error: BaseException) -> KeepfitError:
    """A fresh error for one caller (an exception object must not be raised in several threads)."""
    if isinstance(error, InvalidInput):
        return type(error)(str(error), error.field)
    return BackendError(f"the model could not answer: {error}")
