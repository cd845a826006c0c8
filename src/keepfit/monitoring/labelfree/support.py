"""Support: does a window lie where the reference has rows, so that anything can be said of it?"""

from __future__ import annotations

import numpy as np

from keepfit.monitoring.detectors import Components
from keepfit.monitoring.labelfree.sample import Doubles

COMPONENTS = 16
NEIGHBOURS = 5
MOST_ROWS = 1_000
EDGE = 0.95
"""This share of the reference's own rows is nearer to the others than the edge."""
OUTSIDE = 0.5
"""A window with more than this share of its rows beyond the edge cannot be judged by the reference."""


class Support:
    """Distances to the nearest rows of a reference, in its leading components (k nearest neighbours)."""

    def __init__(self, embeddings: Doubles) -> None:
        """Shape (n, d)."""
        self._components = Components(embeddings, COMPONENTS)
        rows = self._components.project(embeddings)
        self._rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST_ROWS)).astype(int)]
        # the nearest row to each is itself
        near = self._distances(self._rows, skip=1)
        self._edge = float(np.quantile(near, EDGE)) * (1 + 1e-9) + 1e-9

    def _distances(self, rows: Doubles, skip: int = 0) -> Doubles:
        squares = (rows**2).sum(axis=1)[:, None] + (self._rows**2).sum(axis=1)[None] - 2 * rows @ self._rows.T
        last = min(NEIGHBOURS + skip, squares.shape[1]) - 1
        return np.asarray(np.sqrt(np.maximum(np.partition(squares, last, axis=1)[:, last], 0.0)), np.float64)

    def far(self, embeddings: Doubles) -> Doubles:
        """1 where a row is beyond the edge, else 0; shape (n,). About 0.05 of the reference itself are."""
        return np.asarray(self._distances(self._components.project(embeddings)) > self._edge, np.float64)
