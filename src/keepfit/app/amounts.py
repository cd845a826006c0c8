"""Amounts for people: bytes, and the times of tables."""

from __future__ import annotations

from datetime import datetime


def size(count: int) -> str:
    """Bytes.

    >>> size(512), size(3_500_000)
    ('512 bytes', '3.5 MB')
    """
    for unit, big in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if abs(count) >= big:
            return f"{count / big:.1f} {unit}"
    return f"{count} bytes"


def minute(value: datetime) -> str:
    """A time, to the minute."""
    return value.strftime("%Y-%m-%d %H:%M")
