"""E-processes: evidence that may be looked at after every label, shared by gate, monitoring and rollout.

An e-process is a wager against a null hypothesis that starts with 1 and cannot be expected to grow while the null
is true. By Ville's inequality it ever reaches 1/alpha with probability alpha at most, however often one looks and
whenever one stops; so "e >= 20" is a proof at 5 % that needs no fixed sample size. Choe & Ramdas (arXiv 2110.00115)
compare forecasters so; Shin, Ramdas & Rinaldo (arXiv 2203.03532) sum such processes into change detectors.

All wagers here are mixtures over constant bets, so their value at the end depends on the data and not on its order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Doubles = NDArray[np.float64]

BETS: Doubles = np.geomspace(0.001, 0.95, 24)
"""Shares of the capital that the mixtures stake: small ones win with many examples, large ones with clear cases."""

LARGE_BETS: Doubles = np.geomspace(0.1, 0.8, 5)
"""For margins of some points that are to be proven with some hundred examples."""

SMALL_ODDS: Doubles = np.array([1.25, 1.6, 2.5])
"""Odds ratios that are wagered on where each case is near even: who is right where two disagree. Few, since each share
of the capital that is staked in vain delays the proof; `benchmarks.rollout` says how long it takes."""

LARGE_ODDS: Doubles = np.geomspace(1.5, 60, 8)
"""Odds ratios that are wagered on where cases are rare: failures, complaints."""

GAIN_BETS: Doubles = np.array([0.04, 0.13, 0.25])
GAIN_WEIGHTS: Doubles = np.array([0.1, 0.6, 0.3])
"""Bets, and their shares of the capital, for gains of some points where two versions disagree: the second finds +1
point on 8 % of the answers, the third +2 and more, and the first sees to it that a small gain is found at last. Chosen
by `benchmarks.decisions.promotion --tune`, whose seeds are not those of the figures."""

LARGEST = 1e300
"""E-values are cut here, which keeps them valid and finite."""


def e_better(wins: int, losses: int) -> float:
    """The e-value against "of the disagreements, at most half are wins".

    wins, losses: on how many examples only the one, only the other was right. For each p > 1/2 the likelihood ratio
    of p against 1/2 is a supermartingale whenever the chance of a win is 1/2 or less; this is their mixture over p
    uniform on (1/2, 1), in closed form: sum over i <= wins of C(n+1, i), divided by (n+1) C(n, wins).
    Exact for disagreements in any order, with chances that may depend on the past (Choe & Ramdas, arXiv 2110.00115).

    >>> e_better(0, 0), round(e_better(9, 1), 1), round(e_better(1, 9), 3)
    (1.0, 18.5, 0.109)
    """
    if wins < 0 or losses < 0:
        raise ValueError("wins and losses are counts")
    n = wins + losses
    below = np.array([_log_choose(n + 1, i) for i in range(wins + 1)])
    return _finite(_log_sum(below) - math.log(n + 1) - _log_choose(n, wins))


@dataclass(frozen=True)
class Tally:
    """So many `hits` among `cases`, each of which had a chance of `chance` at most to be one, if the null holds."""

    hits: int
    cases: int
    chance: float


def e_more_often(tallies: Sequence[Tally], odds: Doubles = SMALL_ODDS) -> float:
    """The e-value against "a case is a hit with its `chance` at most, whatever came before".

    The likelihood ratio of odds that are larger by a factor, averaged over the factors `odds`, shape (b,), all above 1.
    The chance may differ between tallies (the steps of a canary), as long as it was fixed before the cases came.
    Raises ValueError for counts that cannot be, or a chance outside of (0, 1]; a chance of 1 proves nothing.

    >>> e_more_often([]), e_more_often([Tally(5, 100, 0.05)]) < 1, e_more_often([Tally(30, 100, 0.05)]) > 1000
    (1.0, True, True)
    """
    logs = np.zeros(len(odds))
    for one in tallies:
        if not 0 <= one.hits <= one.cases or not 0 < one.chance <= 1:
            raise ValueError(f"no tally can be {one}")
        if one.chance < 1:
            scale = 1 - one.chance + odds * one.chance
            logs += one.hits * np.log(odds / scale) - (one.cases - one.hits) * np.log(scale)
    return _finite(_log_sum(logs) - math.log(len(odds)))


def e_not_worse(diffs: ArrayLike, margin: float, bets: Doubles = BETS) -> float:
    """The e-value against "the mean difference is -margin or less", for differences within [-1, 1], shape (n,).

    diffs: per example, what the candidate gains over the champion (right minus right: -1, 0 or 1). The capital of
    bets `1 + b (d + margin)` with constant b >= 0, averaged over b (Waudby-Smith & Ramdas, arXiv 2010.09686).
    bets: shares of the capital, shape (b,), each below 1.
    Raises ValueError when a difference is out of range or the margin is not within [0, 1).

    >>> e_not_worse([0.0] * 400, 0.02) > 20
    True
    """
    values, counts = _counted(diffs, -1.0, 1.0)
    if not 0 <= margin < 1:
        raise ValueError(f"the margin must lie within [0, 1): {margin}")
    return _finite(_log_capital(values + margin, counts, bets / (1 - margin)))


def e_above(diffs: ArrayLike, mean: float, bets: Doubles, weights: Doubles | None = None) -> float:
    """The e-value against "the mean is `mean` or less", for values within [-1, 1], shape (n,).

    The capital of bets `1 + b (x - mean)`, averaged with `weights` (alike where there are none). bets: shares, each
    below 1, of the largest bet that cannot ruin, 1 / (1 + mean).
    Raises ValueError when a value is out of range or the mean is not within (-1, 1).

    >>> e_above([], 0.1, GAIN_BETS), e_above([1.0, -1.0] * 50, -0.6, LARGE_BETS) > 1000
    (1.0, True)
    """
    values, counts = _counted(diffs, -1.0, 1.0)
    if not -1 < mean < 1:
        raise ValueError(f"the mean must lie within (-1, 1): {mean}")
    return _finite(_log_capital(values - mean, counts, bets / (1 + mean), weights))


def share_bounds(hits: int, cases: int, alpha: float) -> tuple[float, float]:
    """As `mean_bounds`, of cases each of which is a hit or not.

    >>> low, high = share_bounds(80, 1000, 0.005)
    >>> 0.04 < low < 0.08 < high < 0.13
    True
    """
    if not 0 <= hits <= cases:
        raise ValueError(f"{hits} of {cases} cases cannot be hits")
    if not cases:
        return 0.0, 1.0
    found, counts = np.array([0.0, 1.0]), np.array([cases - hits, hits], np.float64)
    return _lower(found, counts, alpha / 2), 1.0 - _lower(found, counts[::-1], alpha / 2)


def mean_bounds(values: ArrayLike, alpha: float = 0.05) -> tuple[float, float]:
    """Bounds (low, high) of the mean of values within [0, 1], shape (n,), that hold at every moment together.

    With probability 1 - alpha the mean is inside at each n at which one cares to look: the confidence sequence by
    betting of Waudby-Smith & Ramdas (arXiv 2010.09686), with a mixture of constant bets, alpha/2 for each side.
    It needs no more than that each value has this mean given those before it. Without values: (0, 1).

    >>> low, high = mean_bounds([1, 1, 0, 1] * 50)
    >>> low < 0.75 < high, high - low < 0.25
    (True, True)
    """
    found, counts = _counted(values, 0.0, 1.0)
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1: {alpha}")
    if not len(found):
        return 0.0, 1.0
    return _lower(found, counts, alpha / 2), 1.0 - _lower((1.0 - found)[::-1], counts[::-1], alpha / 2)


SUM_ODDS: Doubles = 1 + np.geomspace(0.01, 4, 18)
"""Ratios of the true to the supposed sum that `sum_low` wagers on: small ones win with many events."""


def sum_low(total: float, largest: float, alpha: float = 0.05) -> float:
    """A lower bound of the sum of the expected values of non-negative observations, valid at every moment together.

    total: the sum of what was seen so far; largest: no observation exceeds it (known before it is seen). Nothing is
    asked of the expectations: they may change with time and depend on the past, and observations that were drawn with a
    known chance count with one over it. With probability 1 - alpha the bound is never above the true sum, however often
    one looks. For x within [0, B] of mean m, E exp(l x) <= exp(m (exp(l B) - 1) / B), so that the wagers on larger sums
    are supermartingales; this is their mixture (the sub-Poisson case of Howard, Ramdas, McAuliffe & Sekhon,
    arXiv 1810.08240). Raises ValueError for numbers that cannot be.

    >>> 60 < sum_low(100, 1.0) < 85, sum_low(0, 1.0), sum_low(2000, 20.0) == 20 * sum_low(100, 1.0)
    (True, 0.0, True)
    """
    if not 0 < alpha < 1 or total < 0 or largest <= 0:
        raise ValueError(f"no bound for a sum of {total}, values up to {largest}, alpha {alpha}")
    seen, goal = total / largest, -math.log(alpha) + math.log(len(SUM_ODDS))
    low, high = 0.0, seen
    for _ in range(40):
        middle = (low + high) / 2
        logs = seen * np.log(SUM_ODDS) - middle * (SUM_ODDS - 1)
        low, high = (middle, high) if _log_sum(logs) >= goal else (low, middle)
    return low * largest


def _lower(values: Doubles, counts: Doubles, alpha: float) -> float:
    """The smallest mean that the bets on "more than that" do not refute; the capital falls in the mean."""
    mean, goal = float(values @ counts / counts.sum()), -math.log(alpha)
    low, high = 0.0, mean
    for _ in range(40):
        middle = (low + high) / 2
        if middle <= 0 or _log_capital(values - middle, counts, BETS / middle) >= goal:
            low = middle
        else:
            high = middle
    return low


def _log_capital(gains: Doubles, counts: Doubles, bets: Doubles, weights: Doubles | None = None) -> float:
    """log of the (weighted) mean over bets of the product over examples of (1 + bet * gain)."""
    logs = np.log1p(np.outer(bets, gains)) @ counts
    return _log_sum(logs) - math.log(len(bets)) if weights is None else _log_sum(logs + np.log(weights))


def _counted(values: ArrayLike, lowest: float, highest: float) -> tuple[Doubles, Doubles]:
    """The different values, sorted, and how often each occurs."""
    array = np.asarray(values, np.float64).ravel()
    if len(array) and not (array.min() >= lowest and array.max() <= highest):
        raise ValueError(f"values must lie within [{lowest:g}, {highest:g}]")
    found, counts = np.unique(array, return_counts=True)
    return found, counts.astype(np.float64)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _log_sum(logs: Doubles) -> float:
    top = float(logs.max())
    return top + math.log(float(np.exp(logs - top).sum()))


def _finite(log_e: float) -> float:
    return math.exp(min(log_e, math.log(LARGEST)))
