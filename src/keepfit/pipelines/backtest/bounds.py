"""Bounds: the least that anybody could have paid on the same traffic, with and without knowing the future."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keepfit.pipelines.backtest.replay import Replay

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Bound:
    """A cost in mistakes, and the steps at whose end it retrained."""

    cost: float
    attempts: tuple[int, ...]
    words: str


def clairvoyant(mistakes: Doubles, price: float) -> Bound:
    """Who knows the future, by dynamic programming: the cheapest sequence of heads, exact.

    mistakes: of the head trained before step s (row) in step t (column), shape (steps, steps). A gate is not asked.
    """
    steps = len(mistakes)
    sums = np.concatenate([np.zeros((steps, 1)), np.cumsum(mistakes, axis=1)], axis=1)
    best, ends = np.zeros(steps + 1), np.zeros(steps, int)
    for begin in range(steps - 1, -1, -1):  # head `begin` serves from there to an end, then the next one is bought
        spans = sums[begin, begin + 1 :] - sums[begin, begin] + best[begin + 1 :] + price
        spans[-1] -= price  # at the end of all steps nothing is bought
        ends[begin] = begin + 1 + int(spans.argmin())
        best[begin] = float(spans.min())
    attempts, at = [], int(ends[0])
    while at < steps:
        attempts.append(at - 1)
        at = int(ends[at])
    return Bound(float(best[0]), tuple(attempts), "knows the future")


def causal(replay: Replay, price: float) -> Bound:
    """The best rule of two numbers in hindsight, on the labels that had come in: a bound for what can be known in time.

    The rule: retrain when the excess mistakes (over the head's error where it was held out) that the labels of the last
    `width` steps show are more than `height`. All steps: harm has paid; one step: an alarm at once. No gate is asked.
    """
    steps, found = replay.matrix.steps, Bound(float(replay.mistakes[0].sum()), (), "never")
    seen = shown(replay)
    widths = sorted({w for w in (1, 2, 3, 5, 8, 13, 21, steps) if w <= steps})
    tops = np.concatenate([[1e-9], np.geomspace(max(price, 1.0) / 50, max(price, 1.0) * 20, 40)])
    for width in widths:
        for height in tops:
            head, cost, attempts = 0, 0.0, []
            for step in range(steps):
                cost += replay.mistakes[head, step]
                first = max(head, step - width + 1)
                if step + 1 < steps and seen[head, first : step + 1].sum() > height:
                    attempts.append(step)
                    head, cost = step + 1, cost + price
            if cost < found.cost:
                words = f"retrain when the last {width} steps show {height:.4g} excess mistakes"
                found = Bound(cost, tuple(attempts), words)
    return found


def shown(replay: Replay) -> Doubles:
    """Excess mistakes that labels show of a head (row) in each step, as soon as they are in, shape (steps, steps).

    Without any delay; with one, a step's labels are counted in it all the same, which only lowers the bound.
    """
    matrix = replay.matrix
    counted = matrix.labelled.astype(np.float64)
    answers = np.diff(matrix.cuts) * matrix.traffic.scale
    wrong = np.add.reduceat(~replay.right * counted, matrix.cuts[:-1], axis=1)
    labels = np.maximum(np.add.reduceat(counted, matrix.cuts[:-1]), 1)
    own = np.array([1 - replay.reference(head)[0].value for head in range(matrix.steps)])
    return np.asarray((wrong / labels - own[:, None]) * answers, np.float64)
