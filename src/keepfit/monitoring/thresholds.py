"""Threshold: turns a number into a breach. Detectors measure, thresholds judge."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

ROUNDS = 400
"""Resampled windows; the 99 % point then rests on the four largest."""

MOST_DRAWN = 256


class Threshold(Protocol):
    """A limit that a measured interval may be beyond."""

    @property
    def limit(self) -> float:
        """The number compared with."""
        ...

    @property
    def note(self) -> str:
        """What the limit means, for people; empty where the number says it all."""
        ...

    def breached(self, low: float, high: float) -> bool:
        """True when the whole interval from `low` to `high` lies beyond the limit."""
        ...


@dataclass(frozen=True)
class Above:
    """Too much is bad.

    >>> Above(0.3).breached(0.31, 0.4)
    True
    """

    limit: float
    note: str = ""

    def breached(self, low: float, high: float) -> bool:
        return low > self.limit


@dataclass(frozen=True)
class Below:
    """Too little is bad.

    >>> Below(0.8).breached(0.7, 0.81)
    False
    """

    limit: float
    note: str = ""

    def breached(self, low: float, high: float) -> bool:
        return high < self.limit


def stated(false_alarms: float) -> str:
    """What a calibrated limit promises, for people."""
    return f"{false_alarms:.3g} of windows like the reference are beyond this limit"


def mean_limit(reference: NDArray[np.float64], size: int, value: float, false_alarms: float) -> Above | Below:
    """The limit on the side of `value` that a mean over `size` reference-like values is rarely beyond.

    Two-sided; normal approximation; the reference's own sampling error is counted, so that a small
    reference gives a wide limit and not false alarms.
    """
    centre, deviation = float(reference.mean()), float(reference.std())
    slack = NormalDist().inv_cdf(1 - false_alarms / 2) * deviation * (1 / max(size, 1) + 1 / len(reference)) ** 0.5
    # a constant reference would otherwise breach on rounding
    slack += 1e-6 * (1 + abs(centre))
    above = value >= centre
    return Above(centre + slack, stated(false_alarms)) if above else Below(centre - slack, stated(false_alarms))


def mix_limit(
    counts: NDArray[np.int64], size: int, false_alarms: float, rng: np.random.Generator, rounds: int = ROUNDS
) -> Above:
    """Limit of the total variation distance between `size` draws and a reference with these class counts.

    Both sides are drawn anew in each of the resampled windows, for the reference is a sample, too.
    """
    total = int(counts.sum())
    shares = counts / max(total, 1)
    reference = rng.multinomial(total, shares, rounds) / max(total, 1)
    window = rng.multinomial(size, shares, rounds) / max(size, 1)
    return _above(0.5 * np.abs(reference - window).sum(axis=1), false_alarms)


def shift_limit(
    projected: NDArray[np.float64], size: int, false_alarms: float, rng: np.random.Generator, rounds: int = ROUNDS
) -> Above:
    """Limit of `MeanShift` between windows of `size` rows and a reference; `projected` (n, c) has unit variances.

    Both sides are drawn anew in each of the resampled windows, for the reference is a sample, too.
    """
    total, columns = projected.shape
    if not total or not columns:
        return Above(0.0, stated(false_alarms))
    apart = _means(projected, size, rng, rounds) - _means(projected, total, rng, rounds)
    return _above(np.sqrt(np.mean(apart**2, axis=1)), false_alarms)


def _means(table: NDArray[np.float64], size: int, rng: np.random.Generator, rounds: int) -> NDArray[np.float64]:
    """Means of `size` rows drawn with replacement, less the table's, shape (rounds, columns).

    Beyond MOST_DRAWN rows fewer are drawn and the deviations shrunk, for they fall with the root of the size.
    """
    drawn = min(max(size, 1), MOST_DRAWN)
    rows = rng.integers(0, len(table), (rounds, drawn))
    return np.asarray((table[rows].mean(axis=1) - table.mean(axis=0)) * (drawn / max(size, 1)) ** 0.5, np.float64)


def _above(scores: NDArray[np.float64], false_alarms: float) -> Above:
    return Above(float(np.quantile(scores, 1 - false_alarms)) + 1e-9, stated(false_alarms))
