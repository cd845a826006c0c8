"""Cycles: the hours and weekdays of moments as smooth columns, in which a risk may go up and down."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import ArrayLike, NDArray

Doubles = NDArray[np.float64]
Cycle = Literal["hour", "weekday"]
CYCLES: tuple[Cycle, ...] = ("hour", "weekday")
WAVES = {"hour": 2, "weekday": 1}
"""Harmonics of each cycle: a day has a night and office hours, a week has a weekend."""


def waves(phases: ArrayLike, harmonics: int) -> Doubles:
    """Cosines and sines of phases (n,) in [0, 1), shape (n, 2 * harmonics); each has mean 0 over a whole cycle.

    >>> waves([0.0, 0.25], 1).round(3).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    turns = 2 * np.pi * np.asarray(phases, np.float64)[:, None] * np.arange(1, harmonics + 1)
    return np.stack([np.cos(turns), np.sin(turns)], axis=-1).reshape(len(turns), 2 * harmonics)


def season(moments: Sequence[datetime], cycles: Sequence[Cycle] = CYCLES, timezone: str = "UTC") -> Doubles:
    """The columns of moments, shape (n, columns of the cycles); read in local time, as people's habits are."""
    zone = ZoneInfo(timezone)
    local = [moment.astimezone(zone) for moment in moments]
    days = np.array([(at.hour * 3600 + at.minute * 60 + at.second) / 86400 for at in local], np.float64)
    weeks = np.array([(at.weekday() + day) / 7 for at, day in zip(local, days, strict=True)], np.float64)
    phases = {"hour": days, "weekday": weeks}
    columns = [waves(phases[cycle], WAVES[cycle]) for cycle in cycles]
    return np.hstack([np.empty((len(local), 0)), *columns])


def width(cycles: Sequence[Cycle]) -> int:
    """How many columns `season` gives."""
    return sum(2 * WAVES[cycle] for cycle in cycles)
