"""Trade: what a first stage would change, counted on held-out rows, and the threshold that may be taken from it.

A first stage is a tiny model in front of the full one: it answers what it is sure of, the rest goes on. How sure it
must be is a choice among thresholds that were fixed before the held-out labels were looked at. They are tested from
the strictest on, each at the full level, and the first that is not proven ends it: so the chance that a threshold is
taken which does not keep the terms is at most one less the confidence (fixed-sequence testing, as in Learn then Test:
Angelopoulos, Bates, Candès, Jordan & Lei, arXiv 2110.01052). The bounds are exact, for small numbers too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from keepfit.intervals import exact_high, exact_low

COVERAGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
LOSSES = 0.75
"""Of the level, the part for the bound of the losses; the rest is for that of the wins, which matters with many."""

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Keeps = Literal["accuracy", "agreement"]


@dataclass(frozen=True)
class Terms:
    """What must be kept for a first stage to answer."""

    keeps: Keeps = "accuracy"
    loss: float = 0.005
    """accuracy: by so much the accuracy of both together may be below that of the full model alone."""
    differing: float = 0.02
    """agreement: such a share of all answers may be another one than the full model's."""
    confidence: float = 0.95

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @property
    def most(self) -> float:
        """What the bound of a threshold may be."""
        return self.loss if self.keeps == "accuracy" else self.differing

    @property
    def rows(self) -> int:
        """Held-out rows without which nothing can be proven, were there not one difference among them."""
        level = (1 - self.confidence) * (LOSSES if self.keeps == "accuracy" else 1.0)
        return math.ceil(math.log(level) / math.log1p(-self.most))

    def bound(self, point: Point, n: int) -> float:
        """By how much the accuracy may have fallen at most, or the largest share that differs; exact."""
        level = 1 - self.confidence
        if self.keeps == "agreement":
            return exact_high(point.differing, n, level)
        return exact_high(point.losses, n, LOSSES * level) - exact_low(point.wins, n, (1 - LOSSES) * level)


@dataclass(frozen=True)
class Point:
    """What happens at one threshold, in rows."""

    threshold: float
    """It is sure from this top score on."""
    sure: int
    wins: int = 0
    """It is sure and right where the full model is wrong."""
    losses: int = 0
    differing: int = 0
    """It is sure and says something else than the full model."""


@dataclass(frozen=True)
class Trade:
    """The curve of one first stage beside its full model, on n rows that it did not learn from."""

    n: int
    full_right: int
    first_right: int
    points: tuple[Point, ...]
    """The strictest first."""
    first_ms: float = 0.0
    """Processor time of one text."""
    full_ms: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values for model.json."""
        return asdict(self) | {"points": [asdict(point) for point in self.points]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Trade:
        """What `to_json` gave. Raises KeyError, TypeError or ValueError on what makes no sense."""
        known = {name: values[name] for name in ("n", "full_right", "first_right", "first_ms", "full_ms")}
        return cls(**known, points=tuple(Point(**point) for point in values["points"]))

    def coverage(self, point: Point) -> float:
        """The share that the first stage answers."""
        return point.sure / max(self.n, 1)

    def accuracy(self, point: Point) -> float:
        """Of both together."""
        return (self.full_right + point.wins - point.losses) / max(self.n, 1)

    def above(self, floor: float | None) -> Trade:
        """The same where no answer is given below `floor` (abstain_below): no threshold lies below it.

        What happens at the floor itself was not counted where it was not asked for; the next lower threshold's
        numbers stand for it, which can only make it look worse, and the wins are those of the next higher one.
        """
        lower = [point for point in self.points if floor is not None and point.threshold < floor]
        if floor is None or not lower:
            return self
        higher = self.points[: -len(lower)]
        if higher and higher[-1].threshold == floor:
            return replace(self, points=higher)
        at = replace(lower[0], threshold=floor, wins=higher[-1].wins if higher else 0)
        return replace(self, points=(*higher, at))

    def times_faster(self, point: Point) -> float | None:
        """How many times the texts of the full model alone, by processor time; None where it was not measured."""
        spent = self.first_ms + (1 - self.coverage(point)) * self.full_ms
        return self.full_ms / spent if self.full_ms > 0 and spent > 0 else None


@dataclass(frozen=True)
class Accepted:
    """The largest share that may be answered within the terms, or why none."""

    threshold: float | None
    because: str
    point: Point | None = None
    bound: float | None = None
    tested: tuple[float, ...] = field(default=())
    """The bound of each threshold that was tested, the strictest first; the last may be the one that failed."""


def measure(scores: Floats, full: Ints, truth: Ints, thresholds: Sequence[float]) -> Trade:
    """The curve of a first stage. scores (n, k): its probabilities; full, truth (n,): class numbers, -1 for unknown."""
    said, sure = scores.argmax(axis=1), scores.max(axis=1, initial=0.0)
    right, was = said == truth, full == truth
    points = []
    for threshold in sorted(set(thresholds), reverse=True):
        taken = sure >= np.float32(threshold)
        points.append(
            Point(
                threshold, int(taken.sum()), int((taken & right & ~was).sum()), int((taken & ~right & was).sum()),
                int((taken & (said != full)).sum()),
            )
        )  # fmt: skip
    return Trade(len(truth), int(was.sum()), int(right.sum()), tuple(points))


def thresholds_for(sure: Floats) -> list[float]:
    """The thresholds at which shares of COVERAGES are sure, from top scores (n,) of rows that nothing is proven on."""
    if not len(sure):
        return []
    found = np.quantile(sure.astype(np.float64), [1 - c for c in COVERAGES])
    return sorted({round(float(t), 7) for t in found}, reverse=True)


def accept(trade: Trade, terms: Terms) -> Accepted:
    """The threshold that answers most within the terms, by fixed-sequence testing from the strictest on."""
    best: Point | None = None
    tested: list[float] = []
    for point in trade.points:
        tested.append(terms.bound(point, trade.n))
        if tested[-1] > terms.most:
            break
        best = point
    if best is None or not best.sure:
        return Accepted(None, _refusal(trade, terms, tested), tested=tuple(tested))
    bound = tested[trade.points.index(best)]
    return Accepted(best.threshold, told(trade, best, terms, bound), best, bound, tuple(tested))


def _refusal(trade: Trade, terms: Terms, tested: Sequence[float]) -> str:
    what = "loss of accuracy" if terms.keeps == "accuracy" else "share of other answers"
    if trade.n < terms.rows:
        return (
            f"{trade.n} held-out rows cannot prove a {what} of at most {terms.most:.1%} at {terms.confidence:.0%};"
            f" {terms.rows} or more are needed, or a larger tolerance"
        )
    if not tested or not trade.points[0].sure:
        return "it was sure of none of the held-out rows"
    return f"already of what it is surest of, the {what} may be {tested[0]:.2%}, and {terms.most:.1%} is allowed"


def told(trade: Trade, point: Point, terms: Terms, bound: float) -> str:
    """One sentence of what a threshold gives."""
    faster = trade.times_faster(point)
    speed = "" if faster is None else f", some {faster:.1f} times the texts for the same processor time"
    proven = (
        f"at most {max(bound, 0.0):.2%} below" if terms.keeps == "accuracy" else f"at most {bound:.2%} of all differ"
    )
    return (
        f"it answers {trade.coverage(point):.0%} (scores of {point.threshold:.3f} and more){speed}; accuracy"
        f" {trade.accuracy(point):.4f} with it, {trade.full_right / max(trade.n, 1):.4f} of the full model alone,"
        f" {point.differing / max(trade.n, 1):.1%} other answers on {trade.n} held-out rows ({proven} at"
        f" {terms.confidence:.0%})"
    )
