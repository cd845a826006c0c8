"""Times of other systems, read strictly: what names no zone is told apart from what does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

from keepfit.data.stored_types import EPOCH

MILLISECONDS = 1e11
"""Numbers above it count milliseconds, as seconds they would lie in the year 5138."""
MICROSECONDS = 1e14
NANOSECONDS = 1e17


def read_time(text: str) -> datetime | None:
    """ISO 8601, with or without a zone ("Z", "UTC", "+02:00"), or a number since 1970; None when it is neither.

    What names a zone, and every number, comes in UTC; what names none comes without one.

    >>> read_time("2024-03-01 12:00:00+02:00").isoformat(), read_time("2024-03-01T12:00").tzinfo
    ('2024-03-01T10:00:00+00:00', None)
    """
    text = text.strip()
    if text.isdigit() and len(text) != len("20240301"):  # else 13 digits may pass for a day and an hour
        return from_number(text)
    if text.endswith((" UTC", " GMT")):
        text = text[:-4] + "+00:00"
    try:
        moment = datetime.fromisoformat(text)
        return moment if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        return None
    except ValueError:
        return from_number(text)


def parse_time(text: str) -> datetime | None:
    """The same, where what names no zone is UTC.

    >>> parse_time("2018-02-28").isoformat(), parse_time("1712011000000").isoformat()
    ('2018-02-28T00:00:00+00:00', '2024-04-01T22:36:40+00:00')
    """
    found = read_time(text)
    return found.replace(tzinfo=UTC) if found is not None and found.tzinfo is None else found


def from_number(text: str) -> datetime | None:
    """Seconds, milliseconds, microseconds or nanoseconds since 1970, by their size."""
    try:
        number = float(text)
        size = abs(number)
        unit = 1e9 if size > NANOSECONDS else 1e6 if size > MICROSECONDS else 1e3 if size > MILLISECONDS else 1.0
        return EPOCH + timedelta(seconds=number / unit)
    except (ValueError, OverflowError):
        return None


def in_zone(moment: datetime, zone: tzinfo) -> datetime:
    """A time without a zone as one of this zone, in UTC; of an hour that comes twice the first one."""
    return moment.replace(tzinfo=zone).astimezone(UTC)


def is_ambiguous(moment: datetime, zone: tzinfo) -> bool:
    """Whether a time without a zone lies in an hour that comes twice in this zone, or never."""
    return moment.replace(tzinfo=zone).utcoffset() != moment.replace(tzinfo=zone, fold=1).utcoffset()
