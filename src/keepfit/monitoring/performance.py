"""Realised performance: what the labels that have come in say of the answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from keepfit.data.records import MEASURING, Label, Prediction, Source
from keepfit.intervals import Interval, wilson
from keepfit.metrics import METRICS, ROUNDS, predicted

Doubles = NDArray[np.float64]

SMALLEST_PROPENSITY = 1e-9
"""Against division by nothing only: the uniform part of the label queue keeps every chance above (its share of the
budget) / (answers of a day), 8e-8 at 200 labels for 10^9 answers. A cut that bites would bias."""
SHORTEST = 64
"""Labels in the shortest of the recent stretches that are measured on their own; each next one is twice as long."""


@dataclass(frozen=True)
class Share:
    """A share of right answers, and how many equal labels it is worth (None: as many as there are)."""

    interval: Interval
    effective: float | None


@dataclass(frozen=True)
class Realised:
    """Accuracy and macro F1 over labelled predictions, each with its 95 % interval."""

    accuracy: Interval
    macro_f1: Interval
    effective: float | None
    """How many equal labels they are worth; None where all had the same chance of being asked for."""
    recent: Mapping[int, Share] = field(default_factory=dict)
    """The accuracy on the newest 64, 128, ... labels, where there are more: a long good past hides a change."""


@dataclass(frozen=True, eq=False)
class Answered:
    """Labelled predictions as arrays, all of length n."""

    truth: NDArray[np.int64]
    """Indices into the model's classes; -1 for a class that it does not know."""
    scores: NDArray[np.float32]
    weights: Doubles
    """One over the chance that the label was asked for; 1 for complete labels."""

    @property
    def right(self) -> Doubles:
        """1 where the answer was right, else 0."""
        return np.asarray(predicted(self.scores) == self.truth, np.float64)

    @property
    def uniform(self) -> bool:
        """True when every label counts the same."""
        return uniform(self.weights)


def uniform(weights: Doubles) -> bool:
    """True when all are the same."""
    return bool(np.ptp(weights) <= 1e-9 * weights.max())


def realised(labelled: Sequence[tuple[Prediction, Label]], rng: np.random.Generator) -> Realised | None:
    """How right the answers were; None without a label that measures.

    Volunteered labels are left out, for people report what annoys them. Asked labels are weighted by one over
    their propensity and normalised by the sum of the weights (Hájek 1971).
    """
    pairs = [(prediction, label) for prediction, label in labelled if label.source in MEASURING]
    if not pairs:
        return None
    # in the order in which the labels came in: a late label delays what it shows but does not bias it
    answered = arrays(sorted(pairs, key=lambda pair: (pair[1].time, pair[0].time, pair[0].id)))
    recent = {size: share(answered, size) for size in stretches(len(pairs))}
    everything = share(answered, len(pairs))
    if answered.uniform:
        f1 = METRICS["macro_f1"].interval(answered.truth, answered.scores, rng)
    else:
        f1 = weighted_f1_interval(answered, rng)
    return Realised(everything.interval, f1, everything.effective, recent)


def stretches(n: int) -> list[int]:
    """64, 128, ... as long as it is less than n."""
    return [SHORTEST << doubled for doubled in range(32) if SHORTEST << doubled < n]


def share(answered: Answered, size: int) -> Share:
    """The share of right answers among the newest `size` labels."""
    right, weights = answered.right[-size:], answered.weights[-size:]
    if answered.uniform:
        return Share(wilson(int(right.sum()), len(right)), None)
    return Share(*weighted_share(right, weights))


def right_share(pairs: Sequence[tuple[Prediction, Label]]) -> Interval:
    """The share of right answers of pairs (at least one) that measure, of whatever versions."""
    right = np.array([said.label == label.value for said, label in pairs], np.float64)
    weights = np.array([weight(label) for _, label in pairs], np.float64)
    if uniform(weights):
        return wilson(int(right.sum()), len(right))
    return weighted_share(right, weights)[0]


def arrays(pairs: Sequence[tuple[Prediction, Label]]) -> Answered:
    """The pairs (at least one, all of one version) as arrays."""
    index = {label: number for number, label in enumerate(pairs[0][0].labels)}
    return Answered(
        np.array([index.get(label.value, -1) for _, label in pairs], np.int64),
        np.stack([prediction.scores for prediction, _ in pairs]).astype(np.float32),
        np.array([weight(label) for _, label in pairs], np.float64),
    )


def weight(label: Label) -> float:
    """One over the chance with which the label was asked for; 1 where every outcome becomes known."""
    if label.source is not Source.ASKED or label.propensity is None:
        return 1.0
    return 1.0 / min(1.0, max(label.propensity, SMALLEST_PROPENSITY))


def weighted_share(right: Doubles, weights: Doubles) -> tuple[Interval, float]:
    """The self-normalised share of right answers with Wilson's interval at the effective number, and that number.

    The effective number is the smaller of Kish's (sum of weights squared over sum of squared weights) and the one
    that the linearised variance of the ratio gives: weights may go together with mistakes, which Kish cannot see.
    """
    total = weights.sum()
    mean = float((weights * right).sum() / total)
    effective = float(total**2 / (weights**2).sum())
    variance = float(((weights * (right - mean)) ** 2).sum() / total**2)
    if variance > 0:
        effective = min(effective, mean * (1 - mean) / variance)
    whole = max(1, math.floor(effective))
    # rounded outwards, so that the interval is never too narrow
    low, high = wilson(math.floor(mean * whole), whole).low, wilson(min(whole, math.ceil(mean * whole)), whole).high
    return Interval(mean, low, high, len(right)), effective


def weighted_f1_interval(answered: Answered, rng: np.random.Generator, rounds: int = ROUNDS) -> Interval:
    """Weighted macro F1 with its percentile bootstrap interval: rows are drawn again together with their weights."""
    said, n = predicted(answered.scores), len(answered.truth)
    classes = answered.scores.shape[1]

    def of(rows: NDArray[np.int64]) -> float:
        return weighted_f1(answered.truth[rows], said[rows], answered.weights[rows], classes)

    draws = [of(rng.integers(0, n, n)) for _ in range(rounds)]
    low, high = np.quantile(draws, [0.025, 0.975])
    return Interval(of(np.arange(n)), float(low), float(high), n)


def weighted_f1(truth: NDArray[np.int64], said: NDArray[np.int64], weights: Doubles, classes: int) -> float:
    """Macro F1 over the classes that occur; a class that the model does not know (-1) counts with 0."""
    true = np.bincount(np.where(truth < 0, classes, truth), weights, classes + 1)
    both = true + np.bincount(said, weights, classes + 1)
    right = np.bincount(said[said == truth], weights[said == truth], classes + 1)
    occurs = both > 0
    return float(np.mean(2 * right[occurs] / both[occurs])) if occurs.any() else 0.0
