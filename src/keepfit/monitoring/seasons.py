"""Seasons: what each hour of a working day or a weekend usually looks like, learnt from whole quiet days."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from keepfit.monitoring.packing import packed, unpacked

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

BINS = 48
"""24 hours of working days, 24 of Saturdays and Sundays."""
UNKNOWN = 0.5
"""How far an hour of which nothing is known may be from the reference, in standard deviations of a column."""
SURE = 3.0
"""Standard errors of what was learnt of an hour that are allowed for."""
ENOUGH = 8
"""Blocks of an hour that make it known."""


def bin_of(moment: datetime, zone: ZoneInfo) -> int:
    """The hour and the kind of day, local.

    >>> from datetime import UTC
    >>> bin_of(datetime(2025, 1, 4, 23, 30, tzinfo=UTC), ZoneInfo("UTC"))
    47
    """
    local = moment.astimezone(zone)
    return local.hour + (24 if local.weekday() >= 5 else 0)


class Seasons:
    """The shape of a day, never its level.

    What is learnt of an hour is how it differs from the mean of all that was learnt; the level stays that of the
    reference. So a change that was there from the first day is found all the same, and only its daily shape is taken
    for normal. A day counts when it was watched from its start to its end and raised no alarm.
    """

    def __init__(self, deviation: Doubles) -> None:
        """`deviation`: of each column, shape (c,)."""
        self._deviation = deviation
        # by bin: the sums of the blocks, the sums of their squares, and in a last column their number
        self._known = np.zeros((BINS, 2 * len(deviation) + 1))
        self._today = np.zeros_like(self._known)
        self._day = ""
        self._whole = False
        self._table: tuple[Doubles, Doubles] | None = None

    def begin(self, day: str) -> None:
        """It is this local day now; the one before is learnt from if it was whole and quiet."""
        if day == self._day:
            return
        if self._whole:
            self._known += self._today
            self._table = None
        # watching began in the middle of the first day, so that one is never whole
        self._whole = self._day != ""
        self._day, self._today = day, np.zeros_like(self._today)

    def disturbed(self) -> None:
        """This day teaches nothing."""
        self._whole = False

    def add(self, values: Doubles, bins: Ints) -> None:
        """Take in blocks, shape (n, c), of these bins, shape (n,)."""
        for number in np.unique(bins):
            chosen = values[bins == number]
            self._today[number] += np.concatenate([chosen.sum(axis=0), (chosen**2).sum(axis=0), [len(chosen)]])

    def table(self) -> tuple[Doubles, Doubles]:
        """By bin how far its mean lies from the mean of all, and what that may be wrong by; each of shape (BINS, c)."""
        if self._table is None:
            number, columns = self._known[:, -1:], len(self._deviation)
            total, squares = self._known[:, :columns], self._known[:, columns : 2 * columns]
            count = np.maximum(number, 1.0)
            mean = total / count
            everywhere = total.sum(axis=0) / max(1.0, float(number.sum()))
            variance = np.maximum(squares / count - mean**2, 0.01 * self._deviation**2)
            known = number >= ENOUGH
            wide = UNKNOWN * self._deviation
            self._table = (
                np.where(known, mean - everywhere, 0.0),
                np.where(known, np.minimum(SURE * np.sqrt(variance / count), wide), wide),
            )
        return self._table

    @property
    def hours(self) -> int:
        """How many bins are known."""
        return int((self._known[:, -1] >= ENOUGH).sum())

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` goes on bit for bit."""
        arrays = {"known": packed(self._known), "today": packed(self._today)}
        return {"day": self._day, "whole": self._whole, **arrays}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any], deviation: Doubles) -> Seasons:
        """What `to_json` gave."""
        made = cls(deviation)
        made._known, made._today = unpacked(plain["known"]), unpacked(plain["today"])
        made._day, made._whole = str(plain["day"]), bool(plain["whole"])
        return made
