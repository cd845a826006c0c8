"""Facts that triggers on benefit look at: labelled losses, the price of a retraining, what became of earlier ones.

They are frozen parts of a `Situation`; `pipelines/worth.py` gathers them from the record.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Doubles = NDArray[np.float64]
MOST = 64
"""Stretches that labels are gathered into; a change is placed between two of them."""


@dataclass(frozen=True)
class Stretch:
    """Some labels of the champion's answers that follow each other. Only labels that measure: asked or complete."""

    labels: int
    weight: float
    """The sum of one over the chance of being asked: how many answers these labels stand for."""
    wrong: float
    """The part of the weight that falls on wrong answers."""
    squares: float
    """The sum of the squared weights."""


@dataclass(frozen=True)
class Losses:
    """The champion's mistakes on randomly asked labels, in the order of its answers."""

    since: datetime
    """The deployment, or the last attempt to retrain when that is later: what came before was settled by it."""
    predictions: int
    """All answers that the champion has given since then, labelled or not."""
    stretches: tuple[Stretch, ...] = ()
    """Oldest first."""
    largest: float = 1.0
    """The largest weight of one label."""
    days: float = 0.0
    """From `since` until now."""

    @property
    def labels(self) -> int:
        """How many labels there are."""
        return sum(one.labels for one in self.stretches)

    @classmethod
    def of(cls, since: datetime, now: datetime, predictions: int, wrong: ArrayLike, weights: ArrayLike) -> Losses:
        """From labels in the order of their answers: wrong (n,) of 0 or 1, weights (n,) of one over the propensity."""
        loss, weight = np.asarray(wrong, np.float64), np.asarray(weights, np.float64)
        if loss.shape != weight.shape:
            raise ValueError("there must be one weight for each label")
        days = max((now - since).total_seconds(), 0.0) / 86_400
        cuts = np.linspace(0, len(loss), min(MOST, len(loss)) + 1).astype(int)
        found: tuple[Stretch, ...] = ()
        if len(loss):
            sums = (np.add.reduceat(column, cuts[:-1]).tolist() for column in (weight, weight * loss, weight**2))
            found = tuple(map(Stretch, np.diff(cuts).tolist(), *sums))
        return cls(since, predictions, found, float(weight.max(initial=1.0)), days)


@dataclass(frozen=True)
class Price:
    """What one retraining costs, and how that is known."""

    mistakes: float
    """In wrong answers, the unit in which harm is counted."""
    words: str
    """The arithmetic, for people."""
    measured: int = 0
    """On how many past retrainings it rests; 0: on an assumption."""
    money: float | None = None
    """The same in the user's currency; None where that is not money."""
    seconds: float = 0.0
    """Of the machine, of which it is made."""

    def to_json(self) -> dict[str, Any]:
        """What a decision stores."""
        return {"mistakes": self.mistakes, "from": self.words, "measured": self.measured, "seconds": self.seconds}


@dataclass(frozen=True)
class Attempt:
    """An earlier retraining that has ended."""

    at: datetime
    """When it was called for."""
    passed: bool
    """Its version passed the gate, and no rollout took it back."""
    asked: bool = False
    """A person wanted it."""
    routine: bool = False
    """No harm called for it, so what it gained came of more data alone."""
    gain: float | None = None
    """Accuracy of the candidate less the champion's, as the gate saw it; None: not compared."""
    grown: float | None = None
    """Rows that it learnt from, as a multiple of those of the training before; None: not known."""
    judged: bool = True
    """False: it crashed, or the gate had too few labels to tell, so it says nothing of whether a retraining helps."""
