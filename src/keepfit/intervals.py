"""Intervals: how sure a share or a difference is; exact bounds where few rows must prove something."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A value, the range that it may plausibly have (95 % unless said), and the number of examples behind it.

    >>> str(Interval(0.91, 0.88, 0.93, 500))
    '0.910 (0.880 to 0.930, n = 500)'
    """

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f}, n = {self.n})"

    def to_json(self) -> dict[str, float | int | None]:
        """Plain values; what is not a number becomes null."""
        return {"value": _plain(self.value), "low": _plain(self.low), "high": _plain(self.high), "n": self.n}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Interval:
        """What `to_json` gave."""
        value, low, high = (math.nan if values[name] is None else float(values[name]) for name in _ENDS)
        return cls(value, low, high, int(values["n"]))


_ENDS = ("value", "low", "high")


def _plain(number: float) -> float | None:
    return float(number) if math.isfinite(number) else None


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """The score interval of a share (Wilson 1927, JASA 22); all of [0, 1] when n is 0.

    >>> str(wilson(9, 10))
    '0.900 (0.596 to 0.982, n = 10)'
    """
    if n == 0:
        return Interval(math.nan, 0.0, 1.0, 0)
    z, share = normal_quantile(confidence), successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else middle - half
    high = 1.0 if successes == n else middle + half
    return Interval(share, low, high, n)


def normal_quantile(confidence: float) -> float:
    """How many standard deviations hold this share of a normal distribution, on both sides.

    >>> round(normal_quantile(0.95), 2)
    1.96
    """
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def exact_high(successes: int, n: int, alpha: float) -> float:
    """The upper bound of a share that is too low with chance `alpha` at most, for any n (Clopper & Pearson 1934).

    >>> round(exact_high(0, 598, 0.05), 4), exact_high(3, 3, 0.05), exact_high(0, 0, 0.05)
    (0.005, 1.0, 1.0)
    """
    if successes >= n:
        return 1.0
    return _bisected(successes / n, 1.0, lambda share: _at_most(successes, n, share) > alpha)


def exact_low(successes: int, n: int, alpha: float) -> float:
    """The lower bound of a share that is too high with chance `alpha` at most; see `exact_high`.

    >>> round(exact_low(22, 3000, 0.025), 4), exact_low(0, 9, 0.05)
    (0.0046, 0.0)
    """
    if successes == 0:
        return 0.0
    return _bisected(0.0, successes / n, lambda share: 1 - _at_most(successes - 1, n, share) <= alpha)


def _at_most(k: int, n: int, share: float) -> float:
    """The chance of k successes or fewer among n."""
    if not 0 < share < 1:
        return float(share <= 0 or k >= n)
    i = np.arange(k + 1)
    ways = np.concatenate([[0.0], np.cumsum(np.log((n - i[:-1]) / (i[:-1] + 1)))])
    return float(np.exp(ways + i * math.log(share) + (n - i) * math.log1p(-share)).sum())


def _bisected(low: float, high: float, below: Callable[[float], bool]) -> float:
    """Where `below` turns from true to false, on the outer side of the last step."""
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) else (low, middle)
    return high if high - low < 1e-9 else low


def sign_test(wins: int, losses: int) -> float:
    """The chance of so many wins or more among the disagreements if each side wins half of them: one-sided, exact.

    McNemar's test in its exact form; for one look at a sample (for many looks see `sequential.e_better`).

    >>> sign_test(5, 0), sign_test(0, 0)
    (0.03125, 1.0)
    """
    n = wins + losses
    logs = (math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) for i in range(wins, n + 1))
    return min(1.0, math.fsum(math.exp(log - n * math.log(2)) for log in logs)) if wins else 1.0


def paired_interval(wins: int, losses: int, n: int, confidence: float = 0.95) -> Interval:
    """The difference of two accuracies on the same n examples, with its interval.

    wins, losses: where only the one, only the other was right. The adjusted Wald interval for paired shares of
    Bonett & Price (2012, J. Educ. Behav. Stat. 37): one example is added to each kind of disagreement, which keeps
    the coverage near nominal for small n, too.

    >>> str(paired_interval(30, 10, 200))
    '0.100 (0.038 to 0.160, n = 200)'
    """
    if n == 0:
        return Interval(math.nan, -1.0, 1.0, 0)
    gain, loss = (wins + 1) / (n + 2), (losses + 1) / (n + 2)
    half = normal_quantile(confidence) * math.sqrt(max(gain + loss - (gain - loss) ** 2, 0.0) / (n + 2))
    return Interval((wins - losses) / n, max(gain - loss - half, -1.0), min(gain - loss + half, 1.0), n)
