"""Taking in labels that measure: each once, in an order that what they say has no part in.

Evidence that is added up, such as that of harm, is honest only if a label cannot choose by its value when it is looked
at. In the order of arrival that holds while being late has nothing to do with what a label says. Where it has, labels
are taken in the order of the answers, as far as everything is known: where silence confirms, up to where it has
(`Settled`); where questions count by days, up to the first day that is open, and a question that nobody answered counts
as right, which can hide harm and never feign it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from keepfit.data.arrivals import Arrival, Settled
from keepfit.data.records import Window
from keepfit.data.store import RecordStore
from keepfit.monitoring.cohorts import closed_until

CHUNK = 10_000
INSTANT = timedelta(microseconds=1)
Position = int | Settled
"""Labels above this number are new; or those of these answers."""


@dataclass(frozen=True)
class Days:
    """Questions of one day count together; see `watch.cohorts` in the settings."""

    share: float
    """Of the questions of a day that must be answered."""
    timezone: str = "UTC"
    patience: timedelta = timedelta(days=30)
    """A day that is older counts as it is."""

    def closed(self, store: RecordStore, model: str, now: datetime) -> datetime:
        """What was answered before this moment counts. Reads the questions of as many days as `patience` has."""
        drawn, given_up = store.asked_until(model), now - self.patience
        asked = store.asked(model, Window(given_up - timedelta(days=1), now + INSTANT))
        closed = closed_until(asked, self.share, self.timezone, given_up, now)
        return closed if drawn is None else min(closed, drawn)  # of the others nobody was asked yet


@dataclass(frozen=True)
class Taking:
    """The labels of one model, from a position on."""

    model: str
    store: RecordStore
    complete: bool = False
    """Every outcome becomes known, so each label stands for its own answer alone, also one that was asked for."""
    days: Days | None = None
    """None: each label counts as it arrives."""

    def position(self, after: int, start: datetime, now: datetime) -> Position:
        """What is to be taken in now: `after` is the number of the last label, `start` follows the last answer."""
        if self.complete:
            until = self.store.get(self.model, "settled_until")
            return Settled(start, start if until is None else datetime.fromisoformat(until))
        return after if self.days is None else Settled(start, self.days.closed(self.store, self.model, now))

    def newest(self, after: int) -> int:
        """The number of the newest label; whoever has taken in all until then need not look at them again."""
        return self.store.arrived(self.model, after)[0]

    def next(self, version: int, since: datetime, at: Position) -> list[Arrival]:
        """Some of the answers that a version gave from `since` on; nothing when all are taken in."""
        found = self.store.arrivals(self.model, version, since, at, CHUNK)
        if not isinstance(at, Settled):
            return found
        if self.complete:
            return [replace(one, chance=1.0) for one in found]
        window = Window(at.start, found[-1].answered + INSTANT if found else at.end)
        missing = self.missing(version, window, at.end)
        return sorted([*(replace(one, arrived=at.end) for one in found), *missing], key=lambda one: one.answered)

    def missing(self, version: int, window: Window, counted: datetime) -> list[Arrival]:
        """Questions that nobody has answered, as if the answer had been right."""
        asked = [] if window.start >= window.end else self.store.unanswered(self.model, window, version)
        alike = self.store.alike(self.model, [said.example_id for said, _ in asked]) if asked else {}
        return [
            Arrival(
                0, counted, said.time, alike[said.example_id], False, said.confidence, min(1.0, max(chance, 1e-9)),
                said.context, missing=True,
            )
            for said, chance in asked
        ]  # fmt: skip


def beyond(at: Position, taken: Sequence[Arrival]) -> Position:
    """The position behind these labels."""
    if isinstance(at, Settled):
        return Settled(taken[-1].answered + INSTANT, at.end)
    return max(at, *(one.seq for one in taken))
