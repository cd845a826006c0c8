"""Clusters of points, in numpy alone: the command line and the server start without what only learning needs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

ROUNDS = 12


def k_means(points: Doubles, clusters: int, rng: np.random.Generator) -> Doubles:
    """Centres, shape (c, d), from a start by k-means++, which finds rare kinds, too (Arthur & Vassilvitskii 2007)."""
    centres = points[rng.integers(len(points))][None, :]
    for _ in range(clusters - 1):
        nearest = distances(points, centres).min(axis=1) ** 2
        total = nearest.sum()
        if total <= 0:  # fewer different points than clusters
            break
        centres = np.vstack([centres, points[rng.choice(len(points), p=nearest / total)]])
    return lloyd(points, centres)


def lloyd(points: Doubles, centres: Doubles) -> Doubles:
    """Centres, shape (c, d), after rounds in which each becomes the mean of what is nearest to it (Lloyd 1982)."""
    for _ in range(ROUNDS):
        own = distances(points, centres).argmin(axis=1)
        centres = np.stack([
            points[own == c].mean(axis=0) if (own == c).any() else centre for c, centre in enumerate(centres)
        ])  # fmt: skip
    return np.asarray(centres, np.float64)


def distances(points: Doubles, centres: Doubles) -> Doubles:
    """Euclidean, shape (n, c)."""
    squares = (points**2).sum(axis=1)[:, None] - 2 * points @ centres.T + (centres**2).sum(axis=1)[None, :]
    return np.asarray(np.sqrt(np.maximum(squares, 0.0)), np.float64)
