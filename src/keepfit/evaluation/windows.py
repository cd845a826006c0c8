"""On what to train: the windows of the past as weights of the rows, and how they are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keepfit.evaluation.head import Frame, fit_head, probabilities

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Doubles = NDArray[np.float64]

ALL = "all"
PARTS = {"half": 2, "quarter": 4, "eighth": 8}
SINCE, RECENCY, REPLAY, SIMILAR = "since", "recency", "replay", "similar"
MEANING = {
    ALL: "all rows, new labels with their share of the weight",
    "half": "the newest half", "quarter": "the newest quarter", "eighth": "the newest eighth",
    SINCE: "rows since the change", RECENCY: "all rows, the newer the heavier",
    REPLAY: "recent rows and, with the same weight together, old ones", SIMILAR: "rows like the newest traffic",
}  # fmt: skip
FEWEST_OF_CLASS = 10
"""Of a class that a window would leave with fewer rows, its newest so many stay: a class must not be forgotten."""
HALF_LIVES = 4
"""After so many half-lives the oldest row counts; of rows ordered by time, not of days."""
MOST_REPLAY = 50.0
"""A recent row counts at most so many times an old one in a replay."""
ODDS = (0.1, 10.0)
"""The least and the most that likeness to the newest traffic makes of a row's weight."""
FOLDS = 5


@dataclass(frozen=True, eq=False)
class Past:
    """The rows that a training may use, in any order, each of length n."""

    times: Doubles
    """Seconds; equal for rows whose time is unknown."""
    truth: Ints
    weights: Doubles
    """What each counts as things are done anyway."""


def windows(past: Past, since: float | None) -> dict[str, Doubles]:
    """The candidates by name, each as weights (n,) of the rows; the first one is what is done anyway.

    Those that come to the same as another are left out, such as the newest half of rows without a time. `since` is when
    the change began, None where none is known.
    """
    found = {ALL: past.weights}
    for name, part in PARTS.items():
        start = np.sort(past.times)[-max(len(past.times) // part, 1)]
        found[name] = np.where(past.times >= start, past.weights, 0.0)
    if since is not None:
        found[SINCE] = np.where(past.times >= since, past.weights, 0.0)
    found[RECENCY] = past.weights * 2.0 ** (-HALF_LIVES * _age(past.times))
    recent = past.times >= (since if since is not None else np.quantile(past.times, 7 / 8))
    found[REPLAY] = np.where(recent, _ratio(recent), 1.0)
    kept: dict[str, Doubles] = {}
    for name, weights in found.items():
        full = weights if name == ALL else normal(with_every_class(past, weights))
        if name == ALL or not any(_same(full, other) for other in kept.values()):
            kept[name] = full
    return kept


def _age(times: Doubles) -> Doubles:
    """0 for the newest row to 1 for the oldest, by rank; rows of one time have one age."""
    _, place, counts = np.unique(-times, return_inverse=True, return_counts=True)
    first = np.cumsum(counts) - counts
    return np.asarray(first[place] / max(len(times) - 1, 1), np.float64)


def _ratio(recent: Flags) -> float:
    """A recent row's weight to an old one's with which both halves count the same."""
    new, old = int(recent.sum()), int((~recent).sum())
    return min(max(old / new, 1.0), MOST_REPLAY) if new else 1.0


def with_every_class(past: Past, weights: Doubles) -> Doubles:
    """The weights, with the newest rows of each class back that would have too few."""
    full = weights.copy()
    for label in np.unique(past.truth):
        mine = np.flatnonzero(past.truth == label)
        missing = FEWEST_OF_CLASS - int((weights[mine] > 0).sum())
        if missing > 0:
            out = mine[weights[mine] == 0]
            newest = out[np.argsort(-past.times[out], kind="stable")[:missing]]
            full[newest] = past.weights[newest]
    return full


def normal(weights: Doubles) -> Doubles:
    """Scaled to a mean of one over the rows that are used."""
    used = weights[weights > 0]
    return weights / used.mean() if len(used) else weights


def _same(a: Doubles, b: Doubles) -> bool:
    return bool(np.allclose(normal(a), normal(b), rtol=1e-6))


def likeness(frame: Frame, rows: Floats, traffic: Floats) -> Doubles:
    """How much more likely each row's embedding is among the newest traffic than among the rows, shape (n,).

    The odds of a domain classifier, which estimate the ratio of the two densities (Bickel, Brueckner, Scheffer 2009);
    replay of what is most like the newest unlabelled data: Csaba et al., NeurIPS 2024 (IWMS).
    """
    x, t = frame.see(rows), frame.see(traffic)
    both, side = np.vstack([x, t]), np.repeat([0, 1], [len(x), len(t)]).astype(np.int64)
    balance = np.where(side == 1, len(x) / len(t), 1.0)
    said = probabilities(x, fit_head(both, side, balance, 2)).astype(np.float64)
    return np.clip(said[:, 1] / np.maximum(said[:, 0], 1e-9), *ODDS)


@dataclass(frozen=True, eq=False)
class Heads:
    """Frozen embeddings of some of the rows, for comparing windows with a logistic head."""

    x: Floats
    """Coordinates (n, c)."""
    truth: Ints
    classes: int
    scored: Ints
    """Places (m,) of the newest labels drawn at random, oldest first."""
    folds: Ints
    """The fold (m,) of each; what belongs together is in one."""

    def losses(self, candidates: Mapping[str, Doubles]) -> tuple[Doubles, NDArray[np.bool_]]:
        """Of each candidate the loss on each scored label, and whether the answer was right: both (candidates, m).

        A scored label is answered by a head that has not learnt from its fold. The loss is half the squared distance of
        probabilities and truth (Brier 1950), between 0 and 1: it says more than right or wrong.
        """
        loss = np.zeros((len(candidates), len(self.scored)))
        right = np.zeros(loss.shape, bool)
        for fold in np.unique(self.folds):
            held = self.scored[self.folds == fold]
            start: Floats | None = None
            for row, weights in enumerate(candidates.values()):
                used = weights.copy()
                used[held] = 0.0
                head = fit_head(self.x, self.truth, used, self.classes, start)
                start = head if start is None else start
                said = probabilities(self.x[held], head)
                truth = np.eye(self.classes, dtype=np.float32)[self.truth[held]]
                loss[row, self.folds == fold] = ((said - truth) ** 2).sum(axis=1) / 2
                right[row, self.folds == fold] = said.argmax(axis=1) == self.truth[held]
        return loss, right
