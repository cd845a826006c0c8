"""Errors that nobody noticed: what a small blind audit says of labels that silence has confirmed.

Where every outcome becomes known, silence confirms an answer. But people overlook errors, and the more so the more
they trust the model; so such labels flatter it. A random few answers are therefore checked by somebody who does not see
what was answered. The accuracy on all labels plus the mean difference on the audited ones is unbiased, whatever makes
people overlook errors, or object to right answers: double sampling (Neyman 1938; as prediction-powered inference:
Angelopoulos et al., arXiv 2301.09633). The many cheap labels make it precise, the few dear ones make it right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keepfit.data.labellers import SILENCE
from keepfit.data.records import Label, Prediction
from keepfit.intervals import Interval, normal_quantile, wilson
from keepfit.monitoring.performance import weight

Doubles = NDArray[np.float64]
Pairs = Sequence[tuple[Prediction, Label]]


@dataclass(frozen=True)
class Overlooked:
    """What an audit found."""

    accuracy: Interval
    """Corrected; n is the number of all labels."""
    plain: Interval
    """As the labels say it."""
    rate: Interval
    """The share of the audited errors that silence had confirmed; n is the number of audited errors."""
    audited: int
    """Answers that were audited and have a label of the usual way as well."""

    @property
    def effective(self) -> float:
        """How many labels without a flaw the corrected accuracy is worth."""
        half, share = (self.accuracy.high - self.accuracy.low) / 2, self.accuracy.value
        z = normal_quantile(0.95)
        worth = share * (1 - share) * (z / half) ** 2 if half > 0 else math.inf
        return float(min(self.accuracy.n, max(worth, self.audited)))


def overlooked(usual: Pairs, audited: Pairs) -> Overlooked | None:
    """The correction, from labels of the usual way and those of the audit; None until an answer has both.

    Its interval combines those of the three shares (labels that say right; right ones that the audit calls wrong, and
    the reverse) by the square root of the sum of squares (MOVER: Zou & Donner 2008), which holds for few audits and
    shares near 0, too.
    """
    said = {prediction.example_id: (prediction, label) for prediction, label in usual}
    both = [(*said[p.example_id], label) for p, label in audited if p.example_id in said]
    if not both:
        return None
    weights = np.array([weight(label) for _, _, label in both])
    looked = np.array([prediction.label == label.value for prediction, label, _ in both])
    right = np.array([prediction.label == label.value for prediction, _, label in both])
    silent = np.array([label.actor == SILENCE for _, label, _ in both])
    plain = wilson(sum(p.label == label.value for p, label in said.values()), len(said))
    flattered, blamed = share(looked & ~right, weights), share(~looked & right, weights)
    value = plain.value - flattered.value + blamed.value
    down = math.sqrt(
        (plain.value - plain.low) ** 2 + (flattered.high - flattered.value) ** 2 + (blamed.value - blamed.low) ** 2
    )
    up = math.sqrt(
        (plain.high - plain.value) ** 2 + (flattered.value - flattered.low) ** 2 + (blamed.high - blamed.value) ** 2
    )
    corrected = Interval(clip(value), clip(value - down), clip(value + up), len(said))
    rate = share(silent[~right], weights[~right]) if (~right).any() else Interval(0.0, 0.0, 1.0, 0)
    return Overlooked(corrected, plain, rate, len(both))


def share(hits: NDArray[np.bool_], weights: Doubles) -> Interval:
    """A weighted share with Wilson's interval at Kish's effective number, rounded outwards."""
    value = float(weights @ hits / weights.sum())
    whole = max(1, math.floor(float(weights.sum() ** 2 / (weights**2).sum()) + 1e-9))
    low = wilson(math.floor(value * whole + 1e-9), whole).low
    high = wilson(min(whole, math.ceil(value * whole - 1e-9)), whole).high
    return Interval(value, low, high, len(hits))


def clip(value: float) -> float:
    """Within [0, 1]."""
    return min(1.0, max(0.0, value))
