"""Which of several models is best now, when the world may have changed: adaptive look-back, pairwise tournament.

After the ideas of Han, Huang and Wang, "Model assessment and selection under temporal distribution shift"
(arXiv 2402.08672): how far back labels speak of the present is found for each pair from the labels themselves, by
weighing what older labels add in number against what they may add in bias; models are compared in pairs, since what two
of them have in common cancels out of their difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

SHORTEST = 25
"""Labels in the shortest look-back; each longer one has twice as many."""
TRUST = 0.9
"""The chance with which the noise bounds of all look-backs are meant to hold together."""


@dataclass(frozen=True)
class Look:
    """What a stretch of the newest labels says of a mean."""

    rows: int
    mean: float
    error: float
    """The standard error of the mean."""
    bias: float
    """By so much, at least, older labels of the stretch disagree with newer ones beyond noise."""
    noise: float
    """By so much, at most, the mean is off by chance, at TRUST."""


def look_back(values: Doubles, weights: Doubles) -> Look:
    """How far back to look for the mean of `values` (n,) now, and what is found; oldest first, n at least 2.

    Of each stretch the noise is bounded as by Bernstein's inequality, and the bias by how much it disagrees with any
    shorter one beyond the noise of both; taken is the stretch in which both together are least.
    """
    sizes = [size for size in (SHORTEST << i for i in range(32)) if size < len(values)] + [len(values)]
    z = math.sqrt(2 * math.log(2 * len(sizes) / (1 - TRUST)))
    reach = float(np.ptp(values))
    looks: list[Look] = []
    for size in sizes:
        mean, error, worth = _mean(values[-size:], weights[-size:])
        noise = z * error + reach * z * z / (6 * worth)
        bias = max((abs(mean - one.mean) - noise - one.noise for one in looks), default=0.0)
        looks.append(Look(size, mean, error, max(bias, 0.0), noise))
    return min(looks, key=lambda one: one.bias + one.noise)


def _mean(values: Doubles, weights: Doubles) -> tuple[float, float, float]:
    """The weighted mean, its standard error, and how many equal labels the weights are worth."""
    total = float(weights.sum())
    mean = float(weights @ values / total)
    worth = total**2 / float(weights @ weights)
    spread = float(weights @ (values - mean) ** 2 / total)
    return mean, math.sqrt(spread / max(worth - 1, 1.0)), worth


@dataclass(frozen=True)
class Standing:
    """A candidate beside the first one: how much smaller its loss is now, with the bounds of that."""

    gain: float
    low: float
    high: float
    rows: int
    """How many of the newest labels this was seen on."""


@dataclass(frozen=True)
class Outcome:
    """Who won, and how all stand against the first one."""

    best: int
    """The winner among all, by the tournament alone."""
    winner: int
    """The best one where it is proven better than the first one, else the first one (0)."""
    standings: tuple[Standing, ...]


def tournament(losses: Doubles, weights: Doubles, level: float = 0.05) -> Outcome:
    """Candidates (m, n) by their loss on each of n labels, oldest first; the first one is what is done anyway.

    Two by two, the better one of each pair goes on, until one is left. It takes the place of the first one only if its
    gain, less what may be bias, is above zero at `level` shared out over all candidates: a tie changes nothing.
    """
    alive = list(range(len(losses)))
    while len(alive) > 1:
        pairs = [alive[i : i + 2] for i in range(0, len(alive), 2)]
        alive = [_better(losses, weights, pair) for pair in pairs]
    z = NormalDist().inv_cdf(1 - level / max(len(losses) - 1, 1))
    standings = tuple(_standing(losses[0] - one, weights, z) for one in losses)
    best = alive[0]
    return Outcome(best, best if standings[best].low > 0 else 0, standings)


def _better(losses: Doubles, weights: Doubles, pair: Sequence[int]) -> int:
    if len(pair) == 1:
        return pair[0]
    return pair[0] if look_back(losses[pair[0]] - losses[pair[1]], weights).mean <= 0 else pair[1]


def _standing(gains: Doubles, weights: Doubles, z: float) -> Standing:
    look = look_back(gains, weights)
    half = z * look.error + look.bias
    return Standing(look.mean, look.mean - half, look.mean + half, look.rows)
