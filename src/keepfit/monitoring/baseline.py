"""Baseline: the risk that is normal in a context, with its own uncertainty; what the harm detector compares with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Doubles = NDArray[np.float64]

SPREAD = 0.02
"""How far one wave of a season is expected to move the risk, before anything of it was seen (one deviation)."""
SMALLEST_VARIANCE = 0.004
"""Of a loss, as if the risk were 0.4 %: a reference without a mistake does not prove that there are none."""


@dataclass(frozen=True, eq=False)
class Baseline:
    """Bayesian linear regression of losses on the columns of a context.

    The level comes from the reference alone; the shape (how the risk moves with the context) from the reference and
    from life. So a model that is worse in life than it was promised to be stands out, and is not taken for normal.
    """

    coefficients: Doubles
    """The level, then one for each column, shape (1 + c,)."""
    covariance: Doubles
    """Shape (1 + c, 1 + c)."""

    def risk(self, columns: ArrayLike) -> Doubles:
        """What is expected, shape (n,), for contexts (n, c); within [0, 1]."""
        return np.asarray(np.clip(_with_level(columns) @ self.coefficients, 0.0, 1.0), np.float64)

    def deviation(self, columns: ArrayLike) -> Doubles:
        """The standard deviation of what is expected, shape (n,)."""
        rows = _with_level(columns)
        variance = np.einsum("ni,ij,nj->n", rows, self.covariance, rows)
        return np.asarray(np.sqrt(np.maximum(variance, 0.0)), np.float64)

    def upper(self, columns: ArrayLike, deviations: float, tolerance: float) -> Doubles:
        """The bound of the null hypothesis, shape (n,), within (0, 1): risk, so many deviations, and a tolerance."""
        bound = self.risk(columns) + deviations * self.deviation(columns) + tolerance
        return np.clip(bound, 1e-3, 1 - 1e-3)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"coefficients": self.coefficients.tolist(), "covariance": self.covariance.tolist()}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Baseline:
        """The inverse of `to_json`."""
        return cls(np.array(plain["coefficients"], np.float64), np.array(plain["covariance"], np.float64))


BATCH = 400
"""Labels whose mean is taken as one, to see whether mistakes come in bursts."""


@dataclass
class Bursts:
    """By how much more the means of batches of labels vary than those of independent ones would.

    Bursts of mistakes that are nobody's harm would otherwise pass for proof: wagers are made smaller by this factor,
    as for so many labels fewer. Batch means: Schmeiser, Batch size effects (Operations Research 30, 1982).
    """

    batches: int = 0
    squares: float = 0.0
    """Sum over the batches of the squared sum of losses beyond their risk, over what it would be on average."""
    part: tuple[int, float, float] = (0, 0.0, 0.0)
    """Of the batch under way: labels, the sum of losses beyond their risk, and the sum of their variances."""

    def add(self, losses: ArrayLike, risks: ArrayLike) -> None:
        """Labels in their order, shapes (n,)."""
        for lost, risk in zip(np.asarray(losses, np.float64), np.asarray(risks, np.float64), strict=True):
            n, beyond, variance = self.part
            n, beyond = n + 1, beyond + float(lost - risk)
            variance += max(float(risk * (1 - risk)), SMALLEST_VARIANCE)
            self.part = (n, beyond, variance)
            if n == BATCH:
                self.batches, self.squares = self.batches + 1, self.squares + beyond**2 / variance
                self.part = (0, 0.0, 0.0)

    @property
    def inflation(self) -> float:
        """1 or more; 1 where two standard errors explain what was seen."""
        if not self.batches:
            return 1.0
        found = self.squares / self.batches
        return found if found - 1 > 2 * (2 / self.batches) ** 0.5 else 1.0

    def worth(self, explained: float = 0.0) -> float:
        """How many independent labels one is worth, within (0, 1].

        explained: the share of the losses' variance that a control variate takes away, which takes no burst away.
        """
        return 1.0 / (1.0 + (self.inflation - 1.0) / (1.0 - explained))


@dataclass(frozen=True, eq=False)
class Sums:
    """All that a baseline needs to know of labelled answers, however many they were."""

    gram: Doubles
    """Products of the columns (the level first), shape (1 + c, 1 + c)."""
    cross: Doubles
    """Products of the columns with the losses, shape (1 + c,)."""

    @classmethod
    def none(cls, columns: int) -> Sums:
        """Of no answer."""
        return cls(np.zeros((1 + columns, 1 + columns)), np.zeros(1 + columns))

    def add(self, losses: ArrayLike, columns: ArrayLike, weights: ArrayLike = 1.0) -> Sums:
        """With the answers of losses (n,) in contexts (n, c); a context that is not known (NaN) is 0, the middle."""
        lost = np.asarray(losses, np.float64)
        rows = _with_level(np.asarray(columns, np.float64).reshape(len(lost), len(self.cross) - 1))
        weighed = rows * np.broadcast_to(np.asarray(weights, np.float64), lost.shape)[:, None]
        return Sums(self.gram + weighed.T @ rows, self.cross + weighed.T @ lost)

    @property
    def n(self) -> float:
        """How many answers."""
        return float(self.gram[0, 0])

    @property
    def mean(self) -> float:
        """The mean loss; 0 of none."""
        return float(self.cross[0]) / max(self.n, 1.0)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"gram": self.gram.tolist(), "cross": self.cross.tolist()}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Sums:
        """The inverse of `to_json`."""
        return cls(np.array(plain["gram"], np.float64), np.array(plain["cross"], np.float64))


def learn(reference: Sums, life: Sums | None = None, spread: float = SPREAD) -> Baseline:
    """From labelled answers of the reference, and of life, whose level counts for nothing.

    Before anything was seen, each coefficient is 0 with the deviation `spread`: a season that is not known yet widens
    the bound by the worst that is plausible. Raises ValueError without a row of the reference.
    """
    if reference.n < 1:
        raise ValueError("there is no baseline without a labelled row")
    variance = max(reference.mean * (1 - reference.mean), SMALLEST_VARIANCE)
    size = len(reference.cross)
    gram, cross = np.zeros((size + 1, size + 1)), np.zeros(size + 1)
    gram[:size, :size], cross[:size] = reference.gram, reference.cross
    if life is not None:
        own = [size, *range(1, size)]  # life has a level of its own, which is forgotten afterwards
        gram[np.ix_(own, own)] += life.gram
        cross[own] += life.cross
    prior = np.full(size + 1, variance / spread**2)
    prior[0], prior[size] = 0.0, 0.0 if life is not None and life.n else 1.0
    covariance: Doubles = np.asarray(np.linalg.inv(gram + np.diag(prior)), np.float64)
    return Baseline((covariance @ cross)[:-1], variance * covariance[:-1, :-1])


def _with_level(columns: ArrayLike) -> Doubles:
    table = np.nan_to_num(np.asarray(columns, np.float64))
    return np.hstack([np.ones((len(table), 1)), table])
