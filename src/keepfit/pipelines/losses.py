"""The champion's mistakes since the last attempt to retrain, as a running summary: each label is read once."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from keepfit.data.arrivals import Settled
from keepfit.data.store import RecordStore
from keepfit.pipelines.taking import INSTANT, Taking, beyond
from keepfit.triggers.facts import MOST, Losses, Stretch

VALUE = "losses"
"""Under this name the store keeps the summary."""
LONGEST = timedelta(days=90)
"""Older answers are left out: a long good past would weigh up what is going wrong."""
LATE = timedelta(minutes=10)
"""Answers may be written so late, so their number is final only after that."""
DAY = timedelta(days=1)


@dataclass
class Part:
    """The labels of some answers that follow each other."""

    start: str
    end: str
    """The first and the last answer; moments in UTC, in an order that sorts."""
    labels: int = 0
    weight: float = 0.0
    wrong: float = 0.0
    squares: float = 0.0

    def take(self, answered: str, wrong: bool, weight: float) -> None:
        """One more label."""
        self.start, self.end = min(self.start, answered), max(self.end, answered)
        self.labels += 1
        self.weight += weight
        self.wrong += weight * wrong
        self.squares += weight**2

    def joined(self, other: Part) -> Part:
        """With the labels of the part behind it."""
        sums = (self.labels + other.labels, self.weight + other.weight, self.wrong + other.wrong)
        return Part(self.start, max(self.end, other.end), *sums, self.squares + other.squares)


@dataclass
class Summary:
    """What is kept between two checks; it has at most `MOST` parts and some 90 numbers of answers."""

    of: str
    """A hash of what it rests on: version, beginning, who is set apart, names of classes, how labels count."""
    after: int = 0
    """Labels up to this number were taken in,"""
    settled: str = ""
    """or, where labels count in the order of the answers, those of answers before this moment."""
    size: int = 1
    """Labels after which a new part begins."""
    largest: float = 1.0
    parts: list[Part] = field(default_factory=list)
    heard: dict[str, int] = field(default_factory=dict)
    """By day: answers that users saw."""
    counted: str = ""
    """Until when these are final."""

    def take(self, answered: datetime, wrong: bool, weight: float) -> None:
        """One label; of several in one call the order does not matter much, and that of the answers is best."""
        self.largest = max(self.largest, weight)
        moment = moment_of(answered)
        place = max(0, bisect_right([part.start for part in self.parts], moment) - 1)
        part = self.parts[place] if self.parts else None
        if part is None or (part.labels >= self.size and not part.start <= moment <= part.end):
            part = Part(moment, moment)
            self.parts.insert(place + (place < len(self.parts) and self.parts[place].start <= moment), part)
        part.take(moment, wrong, weight)
        if len(self.parts) > MOST:
            pairs = [self.parts[i : i + 2] for i in range(0, len(self.parts), 2)]
            self.parts = [pair[0].joined(pair[1]) if len(pair) == 2 else pair[0] for pair in pairs]
            self.size *= 2

    def forget(self, before: datetime) -> None:
        """Leave out what is older."""
        self.parts = [part for part in self.parts if part.end >= moment_of(before)]
        self.heard = {day: n for day, n in self.heard.items() if day >= moment_of(before)[:10]}
        while self.size > 1 and len(self.parts) < MOST // 4 and sum(part.labels for part in self.parts) < MOST:
            self.size //= 2

    def losses(self, since: datetime, now: datetime, heard: int) -> Losses:
        """As triggers look at them."""
        stretches = tuple(Stretch(part.labels, part.weight, part.wrong, part.squares) for part in self.parts)
        days = max((now - since).total_seconds(), 0.0) / 86_400
        return Losses(since, heard, stretches, self.largest, days)

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Summary:
        """What `asdict` gave."""
        return cls(**{**plain, "parts": [Part(**part) for part in plain["parts"]]})


@dataclass(frozen=True)
class Summing:
    """The losses of one model."""

    model: str
    store: RecordStore
    taking: Taking

    def losses(self, version: int, since: datetime, now: datetime) -> Losses:
        """The version's mistakes on labels that measure, of its answers from `since` on, the last 90 days at most."""
        kept, horizon = self.store.get(self.model, VALUE), day_of(now - LONGEST)
        summary = self.kept(kept, version, since)
        first = max(since, horizon)
        start = max(first, datetime.fromisoformat(summary.settled)) if summary.settled else first
        newest, at = self.taking.newest(summary.after), self.taking.position(summary.after, start, now)
        while fresh := self.taking.next(version, first, at):
            for one in sorted(fresh, key=lambda one: one.answered):
                summary.take(one.answered, one.wrong, 1 / one.chance)
            summary.settled, at = (max(one.answered for one in fresh) + INSTANT).isoformat(), beyond(at, fresh)
        summary.after = max([newest] if isinstance(at, Settled) else [newest, at])
        heard = self.heard(summary, version, first, now)
        summary.forget(horizon)
        if asdict(summary) != kept:
            self.store.put(self.model, VALUE, asdict(summary))
        return summary.losses(first, now, heard)

    def kept(self, kept: dict[str, Any] | None, version: int, since: datetime) -> Summary:
        """As it was left; from the record anew where something has changed that it rests on."""
        apart = sorted(one.actor for one in self.store.labellers(self.model) if one.apart)
        changes, how = len(self.store.classes(self.model).changes), (self.taking.complete, self.taking.days)
        of = hashlib.sha256(repr((version, since.isoformat(), apart, changes, how)).encode()).hexdigest()
        return Summary.from_json(kept) if kept is not None and kept["of"] == of else Summary(of)

    def heard(self, summary: Summary, version: int, since: datetime, now: datetime) -> int:
        """How many answers users saw; each is counted once, and those of the last minutes again at each check."""
        start = max(since, datetime.fromisoformat(summary.counted)) if summary.counted else since
        final = max(start, now - LATE)
        while start < final:
            end = min(final, day_of(start) + DAY)
            day = moment_of(start)[:10]
            heard = self.store.count_heard(self.model, version, start, end)
            summary.heard[day] = summary.heard.get(day, 0) + heard
            start = end
        summary.counted = final.isoformat()
        newest = self.store.count_heard(self.model, version, final)
        return sum(n for day, n in summary.heard.items() if day >= moment_of(since)[:10]) + newest


def moment_of(at: datetime) -> str:
    """In an order that sorts."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def day_of(at: datetime) -> datetime:
    """The last midnight in UTC."""
    return at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
