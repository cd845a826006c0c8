"""Drift detectors: `fit` on a reference matrix, `score` a current one; high means changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from keepfit.errors import InvalidInput

Matrix = NDArray[np.float64]


class DriftDetector(Protocol):
    """Sees numbers, never texts or clips, so one detector serves every task. Scores are finite for any input."""

    name: str

    def fit(self, reference: ArrayLike) -> Self:
        """Remember what is normal; shape (n, d), n >= 0. Returns itself."""
        ...

    def score(self, current: ArrayLike) -> float:
        """0 when nothing can be said or nothing changed; grows with the change. Shape (m, d), m >= 0.

        Raises InvalidInput when d is not the reference's.
        """
        ...


def matrix(values: ArrayLike, columns: int | None = None) -> Matrix:
    """A finite (n, d) matrix: NaN becomes 0, infinities the largest half-precision number.

    Raises InvalidInput when it has not the wanted number of columns.
    """
    table = np.asarray(values, np.float64)
    if table.ndim < 2:
        table = table.reshape(-1, 1) if table.size else np.empty((0, columns or 0))
    if columns is not None and table.shape[1] != columns:
        raise InvalidInput(
            f"the reference has {columns} columns and the window {table.shape[1]};"
            " compare each version with its own reference"
        )
    return np.nan_to_num(table, nan=0.0, posinf=65504.0, neginf=-65504.0)


def spread(table: Matrix) -> NDArray[np.float64]:
    """Standard deviation per column; 1 where the column is constant, so that division stays finite."""
    if len(table) < 2:
        return np.ones(table.shape[1])
    deviation = np.asarray(table.std(axis=0), np.float64)
    return np.where(deviation > 1e-9 * (1 + np.abs(table).max(axis=0)), deviation, 1.0)


class Components:
    """The leading principal components of a reference, each scaled to unit variance (whitened)."""

    def __init__(self, reference: ArrayLike, most: int = 16) -> None:
        table = matrix(reference)
        self.columns = table.shape[1]
        self._centre = table.mean(axis=0) if len(table) else np.zeros(self.columns)
        values, vectors = np.zeros(self.columns), np.eye(self.columns)
        if len(table) > 1 and self.columns:  # answers of a model elsewhere may have no embedding
            values, vectors = np.linalg.eigh(np.cov(table, rowvar=False).reshape(self.columns, -1))
        largest = np.argsort(values)[::-1][:most]
        # directions without variance would turn rounding errors into drift
        largest = largest[values[largest] > 1e-9 * max(float(values.max(initial=0.0)), 1e-12)]
        self._axes = vectors[:, largest] / np.sqrt(values[largest])

    def project(self, values: ArrayLike) -> Matrix:
        """Shape (n, c), c <= most; mean 0 and variance 1 per column on the reference itself."""
        return np.asarray((matrix(values, self.columns) - self._centre) @ self._axes, np.float64)


class MeanShift:
    """Root mean square, over the columns, of the shift of the mean in reference standard deviations.

    An effect size, not a p-value: it does not grow with the size of the window.
    """

    name = "mean_shift"

    def __init__(self) -> None:
        self._mean, self._deviation = np.zeros(0), np.ones(0)

    def fit(self, reference: ArrayLike) -> Self:
        table = matrix(reference)
        self._mean = table.mean(axis=0) if len(table) else np.zeros(table.shape[1])
        self._deviation = spread(table)
        return self

    def score(self, current: ArrayLike) -> float:
        table = matrix(current, len(self._mean))
        if not table.size:
            return 0.0
        return float(np.sqrt(np.mean(((table.mean(axis=0) - self._mean) / self._deviation) ** 2)))


@dataclass(frozen=True)
class KsResult:
    """Of one column: the largest gap between the distribution functions, in [0, 1], and its p-value."""

    gap: float
    p: float


def ks(reference: NDArray[np.float64], current: NDArray[np.float64]) -> KsResult:
    """Two-sample Kolmogorov-Smirnov test of two columns, asymptotic p-value (conservative with ties)."""
    if not len(reference) or not len(current) or len(reference) + len(current) < 3:
        return KsResult(0.0, 1.0)
    found = stats.ks_2samp(reference, current, method="asymp")
    return KsResult(float(found.statistic), float(found.pvalue))


def ks_limit(p: float, n_reference: int, n_current: int) -> float:
    """The gap that has about this p-value, in [0, 1]; Stephens' correction for small sizes (1970)."""
    if not n_reference or not n_current:
        return 1.0
    root = (n_reference * n_current / (n_reference + n_current)) ** 0.5
    return float(min(1.0, stats.kstwobign.isf(p) / (root + 0.12 + 0.11 / root)))


class KsMax:
    """One minus the smallest p-value over the columns, corrected for their number (Bonferroni).

    Rabanser, Günnemann, Lipton: Failing Loudly (2019). In [0, 1]; above 0.95 is a rejection at 5 %.
    """

    name = "ks"

    def __init__(self) -> None:
        self._reference: Matrix = np.empty((0, 0))

    def fit(self, reference: ArrayLike) -> Self:
        self._reference = matrix(reference)
        return self

    def score(self, current: ArrayLike) -> float:
        columns = self._reference.shape[1]
        table = matrix(current, columns)
        smallest = min((ks(self._reference[:, j], table[:, j]).p for j in range(columns)), default=1.0)
        return float(1.0 - min(1.0, columns * smallest))
