"""Labels that came in correct the estimate, and refute it where the truth itself has changed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keepfit.intervals import normal_quantile
from keepfit.monitoring.labelfree.sample import Doubles

ENOUGH = 100
"""Labels from which on an estimate may be refuted."""
NEWEST = 400
"""Older labels than so many do not speak against the present."""
SETTLED = 0.5
"""What was refuted is believed again within this share of the limit, so that it does not come and go at the limit."""
LEAST = 10
"""Labels without which nothing is corrected; until then the power is 0, too."""


@dataclass(frozen=True)
class Corrected:
    """The accuracy by labels and by the answers without them together."""

    value: float
    low: float
    high: float
    n: int
    power: float
    """How much was made of the answers without labels, 0 to 1, at the end."""


def corrected(right: Doubles, chance: Doubles, weights: Doubles, everywhere: float) -> Corrected | None:
    """Prediction-powered accuracy with its 95 % interval; None with fewer than LEAST labels.

    right, chance, weights: of the labelled answers in the order in which their labels came in, shape (n,): whether it
    was right, the estimated chance that it was, and one over the chance that it was asked for. everywhere: the mean
    chance of all answers that the labelled ones were drawn from. Each label counts as `right + power (everywhere -
    chance)`, whose mean is the accuracy for any power, however wrong the chances are, as long as the labelled answers
    were drawn by chance from those of `everywhere`; the power is chosen from the labels before it only
    (Angelopoulos et al., 2301.09633, 2311.01453; in sequence 2602.02229).
    """
    n = len(right)
    if n < LEAST:
        return None
    power = past_power(right, chance)
    gained = right + power * (everywhere - chance)
    total = weights.sum()
    value = float((weights * gained).sum() / total)
    variance = float(((weights * (gained - value)) ** 2).sum() / total**2) * n / (n - 1)
    # no variance among few labels is no certainty: as if one half of an answer were wrong
    variance = max(variance, 0.25 / (n + 4) ** 2)
    half = normal_quantile(0.95) * variance**0.5
    kept = float(np.clip(value, 0.0, 1.0))
    return Corrected(kept, max(0.0, value - half), min(1.0, value + half), n, float(power[-1]))


def past_power(right: Doubles, chance: Doubles) -> Doubles:
    """For each label the regression of right on chance over those before it, within [0, 1]; shape (n,)."""
    counts = np.arange(len(right), dtype=np.float64)

    def before(values: Doubles) -> Doubles:
        return np.concatenate([[0.0], np.cumsum(values)[:-1]]) / np.maximum(counts, 1)

    covariance = before(right * chance) - before(right) * before(chance)
    variance = before(chance**2) - before(chance) ** 2
    # some rows' worth of doubt: a few labels must not choose a large power by luck
    shrunk = covariance / (variance + 0.02 / np.maximum(counts, 1) + 1e-9)
    return np.asarray(np.where(counts >= LEAST, np.clip(shrunk, 0.0, 1.0), 0.0), np.float64)


@dataclass(frozen=True)
class Refutation:
    """What labels say of the estimated chances."""

    residual: float
    """The mean of right less chance."""
    half: float
    """Half of its 95 % interval."""
    n: int
    allowed: float
    """How wrong the estimate says of itself that it may be."""

    @property
    def limit(self) -> float:
        """What chance and the estimate's own interval explain together."""
        return float(np.hypot(self.half, self.allowed))

    @property
    def refuted(self) -> bool:
        """The labels contradict the estimate by more than the limit."""
        return self.n >= ENOUGH and abs(self.residual) > self.limit

    @property
    def settled(self) -> bool:
        """The labels, enough of them, agree with the estimate so well that it is believed again."""
        return self.n >= ENOUGH and abs(self.residual) <= SETTLED * self.limit


def refutation(right: Doubles, chance: Doubles, weights: Doubles, allowed: float) -> Refutation:
    """Compare the newest labels with what was estimated of the same answers; arguments as in `corrected`."""
    right, chance, weights = right[-NEWEST:], chance[-NEWEST:], weights[-NEWEST:]
    if not len(right):
        return Refutation(0.0, 1.0, 0, allowed)
    gap = right - chance
    total = weights.sum()
    residual = float((weights * gap).sum() / total)
    variance = float(((weights * (gap - residual)) ** 2).sum() / total**2)
    return Refutation(residual, normal_quantile(0.95) * variance**0.5, len(right), allowed)
