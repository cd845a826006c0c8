"""A logistic head on frozen embeddings: in seconds, a stand-in for a training when only the data differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]

COMPONENTS = 128
"""Directions of the embeddings that are kept, those with the most variance."""
SHRUNK = 1.0
"""Directions are scaled to equal variance, but none is blown up that has much less than the mean."""
STEPS = 80
RIDGE = 30.0
"""Divided by the weight of the rows: so much a head is held back, whatever their number."""
SPAN = 16
"""Power iterations for the curvature of the loss."""


@dataclass(frozen=True, eq=False)
class Frame:
    """A change of coordinates in which a head is learnt quickly."""

    mean: Doubles
    turn: Doubles
    """Shape (d, at most COMPONENTS)."""

    @classmethod
    def of(cls, embeddings: Floats) -> Frame:
        """From embeddings (n, d): principal directions, scaled."""
        values = embeddings.astype(np.float64)
        mean = values.mean(axis=0)
        spread, axes = np.linalg.eigh((values - mean).T @ (values - mean) / max(len(values), 1))
        spread, axes = spread[::-1][:COMPONENTS], axes[:, ::-1][:, :COMPONENTS]
        kept = spread > 1e-9 * max(float(spread[0]), 1e-30)
        spread, axes = spread[kept], axes[:, kept]
        return cls(mean, axes / np.sqrt(spread + SHRUNK * (spread.mean() if len(spread) else 1.0)))

    def see(self, embeddings: Floats) -> Floats:
        """Coordinates (n, c), with a last column of ones."""
        turned = (embeddings.astype(np.float64) - self.mean) @ self.turn
        return np.column_stack([turned, np.ones(len(turned))]).astype(np.float32)


def fit_head(x: Floats, y: Ints, weights: Doubles, k: int, start: Floats | None = None, steps: int = STEPS) -> Floats:
    """Multinomial logistic regression with a ridge, shape (c, k), by accelerated gradient steps (Nesterov 1983).

    x (n, c) are coordinates of a Frame, y (n,) classes below k, weights (n,) what each row counts; `start` is another
    head to begin from. Rows without weight are not looked at.
    """
    used = weights > 0
    x, y, w = x[used], y[used], (weights[used] / max(weights.sum(), 1e-12)).astype(np.float32)
    head = np.zeros((x.shape[1], k), np.float32) if start is None else start.copy()
    if not len(y):
        return head
    ridge = np.float32(RIDGE / used.sum())
    pace = np.float32(1.0 / (0.5 * _curvature(x, w) + ridge))
    truth = np.zeros((len(y), k), np.float32)
    truth[np.arange(len(y)), y] = 1.0
    ahead, momentum = head.copy(), 1.0
    for _ in range(steps):
        slope = x.T @ ((probabilities(x, ahead) - truth) * w[:, None]) + ridge * ahead
        moved = ahead - pace * slope
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = moved + np.float32((momentum - 1) / following) * (moved - head)
        head, momentum = moved, following
    return head


def probabilities(x: Floats, head: Floats) -> Floats:
    """What a head says, shape (n, k)."""
    scores = x @ head
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def _curvature(x: Floats, w: Floats) -> float:
    """The largest eigenvalue of the weighted second moment, a little too large rather than too small."""
    moment = x.T @ (x * w[:, None])
    vector = np.ones(len(moment), np.float32)
    for _ in range(SPAN):
        vector = moment @ vector
        vector /= max(float(np.linalg.norm(vector)), 1e-20)
    return float(1.1 * vector @ moment @ vector)
