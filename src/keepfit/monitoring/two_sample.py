"""Classical two-sample detectors besides Kolmogorov-Smirnov: kernel (MMD), classifier, population stability index."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression

from keepfit.metrics import auc
from keepfit.monitoring.detectors import Matrix, matrix, spread

SEED = 20250101
MOST_ROWS = 500
"""Of either side; more are thinned evenly, for the kernel's time grows with the square."""
FOLDS = 5
SMALLEST_SHARE = 1e-4
"""An empty bin counts as if it held this share, or the index would be infinite."""


def few(table: Matrix, most: int = MOST_ROWS) -> Matrix:
    """Up to `most` rows in an order that does not depend on the one given, evenly spaced over it."""
    ordered = table[np.lexsort(table.T[::-1])] if table.size else table
    return ordered[np.linspace(0, len(ordered) - 1, min(len(ordered), most)).astype(int)] if len(ordered) else ordered


class Mmd:
    """One minus the permutation p-value of the kernel two-sample test; 0.95 is reached by chance in 5 % of windows.

    Gretton et al., JMLR 13 (2012); Gaussian kernel with the median distance as its width. The p-value counts the
    observed order among the permutations (one is added to both counts), so it is never 0 and the level is exact.
    """

    name = "mmd"

    def __init__(self, permutations: int = 199, seed: int = SEED) -> None:
        self._permutations, self._seed = permutations, seed
        self._reference: Matrix = np.empty((0, 0))

    def fit(self, reference: ArrayLike) -> Self:
        table = matrix(reference)
        self._deviation = spread(table)
        self._reference = few(table / self._deviation)
        return self

    def score(self, current: ArrayLike) -> float:
        table = few(matrix(current, self._reference.shape[1]) / self._deviation)
        if min(len(table), len(self._reference)) < 2:
            return 0.0
        kernel = gaussian(np.concatenate([self._reference, table]))
        n, total = len(self._reference), len(kernel)
        rng = np.random.default_rng(self._seed)
        orders = np.stack([np.arange(total), *(rng.permutation(total) for _ in range(self._permutations))])
        side = np.zeros((len(orders), total))
        np.put_along_axis(side, orders[:, :n], 1.0, axis=1)
        found = statistic(kernel, side)
        # rounding must not make equal statistics unequal
        beyond = int((found[1:] >= found[0] - 1e-12).sum())
        return float(1 - (1 + beyond) / (1 + self._permutations)) if found[0] > 1e-12 else 0.0


def gaussian(rows: Matrix) -> Matrix:
    """The kernel matrix with the median distance as width, shape (n, n)."""
    squares = (rows**2).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares[None, :] - 2 * rows @ rows.T, 0.0)
    above = distances[np.triu_indices(len(rows), 1)]
    width = float(np.median(above)) or float(above.mean()) or 1.0
    return np.asarray(np.exp(-distances / width), np.float64)


def statistic(kernel: Matrix, side: Matrix) -> NDArray[np.float64]:
    """The biased squared MMD of each division; `side` is 1 for the first sample, shape (rounds, n)."""
    first, second = side / side.sum(axis=1, keepdims=True), (1 - side) / (1 - side).sum(axis=1, keepdims=True)
    apart = first - second
    return np.asarray(((apart @ kernel) * apart).sum(axis=1), np.float64)


class ClassifierTwoSample:
    """How well a logistic regression tells the window from the reference: 2 AUC - 1 on rows it has not seen, in [0, 1].

    Lopez-Paz, Oquab: Revisiting classifier two-sample tests (2017). An effect size: 0 by chance, up to some noise.
    """

    name = "classifier"

    def __init__(self, seed: int = SEED) -> None:
        self._seed = seed
        self._reference: Matrix = np.empty((0, 0))

    def fit(self, reference: ArrayLike) -> Self:
        table = matrix(reference)
        self._mean = table.mean(axis=0) if len(table) else np.zeros(table.shape[1])
        self._deviation = spread(table)
        self._reference = few((table - self._mean) / self._deviation, 2 * MOST_ROWS)
        return self

    def score(self, current: ArrayLike) -> float:
        table = (matrix(current, self._reference.shape[1]) - self._mean) / self._deviation
        table = few(table, 2 * MOST_ROWS)
        if min(len(table), len(self._reference)) < 2 * FOLDS or not table.shape[1]:
            return 0.0
        rows = np.clip(np.concatenate([self._reference, table]), -50, 50)
        truth = np.repeat([0, 1], [len(self._reference), len(table)])
        return float(max(0.0, 2 * unseen_auc(rows, truth, self._seed) - 1))


def unseen_auc(rows: Matrix, truth: NDArray[np.int64], seed: int) -> float:
    """Area under the curve over five folds; rows that are equal are always in the same fold."""
    _, alike = np.unique(rows, axis=0, return_inverse=True)
    if alike.max() < FOLDS:
        return 0.5
    fold = np.random.default_rng(seed).permutation(int(alike.max()) + 1)[alike.ravel()] % FOLDS
    scores = np.full(len(rows), 0.5)
    for number in range(FOLDS):
        seen = fold != number
        if len(np.unique(truth[seen])) == 2:
            made = LogisticRegression(C=0.1, class_weight="balanced", max_iter=200).fit(rows[seen], truth[seen])
            scores[~seen] = made.predict_proba(rows[~seen])[:, 1]
    return float(auc(truth, np.stack([1 - scores, scores], axis=1).astype(np.float32)))


class Psi:
    """The largest population stability index over the columns, on ten bins of equal share in the reference.

    Common reading: below 0.1 no change, above 0.25 a large one; known from credit scoring (Siddiqi 2006). It has no
    p-value: on few rows it is large by chance, of about (bins - 1) (1/n + 1/m).
    """

    name = "psi"

    def __init__(self, bins: int = 10) -> None:
        self._bins = bins
        self._edges: list[NDArray[np.float64]] = []
        self._shares: list[NDArray[np.float64]] = []

    def fit(self, reference: ArrayLike) -> Self:
        table = matrix(reference)
        inner = np.linspace(0, 1, self._bins + 1)[1:-1]
        self._edges = [np.unique(np.quantile(column, inner)) if len(column) else np.empty(0) for column in table.T]
        self._shares = [shares(column, edges) for column, edges in zip(table.T, self._edges, strict=True)]
        self._rows = len(table)
        return self

    def score(self, current: ArrayLike) -> float:
        table = matrix(current, len(self._edges))
        if not len(table) or not self._rows:
            return 0.0
        found = [
            float(((now - before) * np.log(now / before)).sum())
            for column, edges, before in zip(table.T, self._edges, self._shares, strict=True)
            for now in [shares(column, edges)]
        ]
        return max(found, default=0.0)


def shares(column: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of each bin, none of them 0; values on an edge are below it."""
    counts = np.bincount(np.searchsorted(edges, column, "left"), minlength=len(edges) + 1)
    return np.asarray(np.maximum(counts / max(1, len(column)), SMALLEST_SHARE), np.float64)
