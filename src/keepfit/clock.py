"""Time as an argument, so that a test can move it. All times are aware and in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol

SKEW = timedelta(minutes=5)
"""By so much another machine's clock may be ahead of ours."""


class Clock(Protocol):
    """Where `now` comes from."""

    def now(self) -> datetime:
        """The present moment, timezone-aware, in UTC."""
        ...


def spelt(stretch: timedelta) -> str:
    """A stretch of time for people: its two largest units, in whole seconds, never rounded up.

    >>> spelt(timedelta(days=30)), spelt(timedelta(hours=1, minutes=5)), spelt(timedelta(seconds=90.7))
    ('30 days', '1 hour 5 minutes', '1 minute 30 seconds')
    >>> spelt(timedelta(days=2, seconds=5)), spelt(timedelta(seconds=0.2))
    ('2 days', '0 seconds')
    """
    rest, parts = max(0, int(stretch.total_seconds())), []
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        count, rest = divmod(rest, size)
        parts.append(f"{count} {unit}{'' if count == 1 else 's'}" if count else "")
    first = next((place for place, part in enumerate(parts) if part), 3)
    return " ".join(filter(None, parts[first : first + 2])) or "0 seconds"


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class ManualClock:
    """A clock that moves only when told to.

    >>> clock = ManualClock()
    >>> clock.advance(timedelta(hours=1))
    >>> clock.now().isoformat()
    '2025-01-01T01:00:00+00:00'
    """

    def __init__(self, start: datetime = datetime(2025, 1, 1, tzinfo=UTC)) -> None:
        self._now = start

    def now(self) -> datetime:
        return self._now

    def advance(self, by: timedelta) -> None:
        self._now += by
