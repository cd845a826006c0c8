"""Ranks: what a prediction looks like beside the reference, as numbers in [0, 1] whose mean is known within bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.data.records import Prediction
from keepfit.errors import InvalidInput
from keepfit.evaluation.evaluator import Reference
from keepfit.metrics import predicted
from keepfit.monitoring.asking import lot
from keepfit.monitoring.detectors import Components

Doubles = NDArray[np.float64]

COMPONENTS = 8
MOST_CLASSES = 12
"""More classes than this: the rarer ones are counted together."""
FITTED = 1 / 3
"""The share of the reference that the components are fitted on. The ranks are among the others: on the rows that they
were fitted on, components spread more than on any others, which would look like a change."""
FEWEST = 150
"""Rows of a reference; with fewer the bounds are so wide that nothing is said."""
MOST_ROWS = 30_000
TOLERANCE = 0.07
"""The dead-band, in standard deviations of each column: 0.02 on the mean of a rank. Smaller changes are no matter."""
RISK = 0.001
"""The chance that a reference, drawn by chance as it was, puts a bound of any column wrong."""
UNIFORM = 1 / 12**0.5
"""Standard deviation of a rank."""


@dataclass(frozen=True, eq=False)
class Rows:
    """n predictions as arrays."""

    scores: NDArray[np.float32]
    """Shape (n, k)."""
    embeddings: NDArray[np.float32]
    """Shape (n, d)."""
    measures: Mapping[str, Doubles]
    """By name, shape (n,); NaN where a prediction has none."""
    lots: Doubles
    """A number in [0, 1) for each, that depends on nothing: it breaks ties. Shape (n,)."""


def rows_of(predictions: Sequence[Prediction], names: Sequence[str]) -> Rows:
    """The predictions (at least one) as arrays, with these measures."""
    return Rows(
        np.stack([p.scores for p in predictions]).astype(np.float32),
        np.stack([p.embedding for p in predictions]).astype(np.float32),
        {name: np.array([p.measures.get(name, np.nan) for p in predictions], np.float64) for name in names},
        np.array([lot(p.id, "ranks") for p in predictions], np.float64),
    )


class Ranks:
    """The columns that are wagered on.

    Of each number (the leading components of the embedding, the top probability, length, unknown tokens) its rank
    among the reference's, ties broken at random, gives two columns: the rank itself (`level`), and how far it is from
    the middle (`spread`), so that a wider or narrower distribution shows as well as a shifted one. Each has the mean
    1/2 while nothing has changed. Of each class there is one column: whether it was answered.

    `low` and `high`, shape (c,), bound the mean of each column while the traffic is like the reference, but for
    TOLERANCE: a reference of n rows is itself a sample, so a mean rank may be off by several times 1/sqrt(12 n) for
    ever (Shaer et al., arXiv 2602.13848, treat the same error). With probability 1 - RISK all bounds hold.
    """

    def __init__(self, reference: Reference) -> None:
        """Raises InvalidInput for a reference without rows."""
        if not len(reference.scores):
            raise InvalidInput("the reference has no rows, so nothing can be compared with it; evaluate the version")
        rows = distinct(reference)
        fitted = rows[:: round(1 / FITTED)]
        ranked = np.setdiff1d(rows, fitted) if len(rows) > 2 else rows
        self.n = len(ranked)
        self._components = Components(reference.embeddings[fitted], COMPONENTS)
        self.measures = tuple(sorted(reference.measures))
        projected = self._components.project(reference.embeddings[ranked])
        numbers: dict[str, Doubles] = {f"pc{j + 1}": projected[:, j] for j in range(projected.shape[1])}
        numbers["confidence"] = reference.scores[ranked].max(axis=1).astype(np.float64)
        numbers |= {name: np.asarray(reference.measures[name][ranked], np.float64) for name in self.measures}
        self._sorted = {name: np.sort(column[np.isfinite(column)]) for name, column in numbers.items()}
        self._counts(reference.scores[ranked])
        self.features = (*self._sorted, *(["class"] if len(self._kept) else []))
        """What can have moved, by name."""
        pairs = [name for name in self._sorted for _ in range(2)]
        self.feature = np.array([self.features.index(name) for name in [*pairs, *["class"] * len(self._shares)]])
        """The feature of each column, shape (c,)."""
        self._bounds()

    def _counts(self, scores: NDArray[np.float32]) -> None:
        counts = np.bincount(predicted(scores), minlength=scores.shape[1])
        self.classes = len(counts)
        self._kept = np.argsort(-counts, kind="stable")[: MOST_CLASSES - 1 if len(counts) > MOST_CLASSES else None]
        shares = counts[self._kept] / max(1, counts.sum())
        self._shares = np.append(shares, 1 - shares.sum()) if len(counts) > MOST_CLASSES else shares
        if len(counts) < 2:
            self._kept, self._shares = self._kept[:0], shares[:0]

    def _bounds(self) -> None:
        numbers, columns = len(self._sorted), 2 * len(self._sorted) + len(self._shares)
        z, n = NormalDist().inv_cdf(1 - RISK / (2 * columns)), self.n
        middle, half = (self._shares + z * z / (2 * n)) / (1 + z * z / n), self._shares * (1 - self._shares)
        slack = z / (1 + z * z / n) * np.sqrt(half / n + z * z / (4 * n * n))
        self.deviation = np.concatenate([np.full(2 * numbers, UNIFORM), np.sqrt(half + 1 / n)])
        """Standard deviation of each column, shape (c,)."""
        ranks = np.full(2 * numbers, 0.5)
        wide = np.concatenate([np.full(2 * numbers, z * UNIFORM / n**0.5), slack]) + TOLERANCE * self.deviation
        self.low = np.concatenate([ranks, middle]) - wide
        self.high = np.concatenate([ranks, middle]) + wide
        self.mean = np.concatenate([ranks, self._shares])
        """What the reference itself has, shape (c,)."""

    @property
    def columns(self) -> int:
        """How many there are."""
        return len(self.feature)

    def values(self, rows: Rows) -> Doubles:
        """The columns of some rows, shape (n, c). A number that is missing counts as one in the middle.

        Raises InvalidInput when the rows are of a model with other classes or another size of embedding.
        """
        if rows.scores.shape[1] != self.classes:
            raise InvalidInput(
                f"the reference has {self.classes} classes and the predictions {rows.scores.shape[1]};"
                " compare each version with its own reference"
            )
        projected = self._components.project(rows.embeddings)
        numbers = {f"pc{j + 1}": projected[:, j] for j in range(projected.shape[1])}
        numbers["confidence"] = rows.scores.max(axis=1).astype(np.float64)
        found = np.empty((len(rows.scores), self.columns))
        for place, (name, ordered) in enumerate(self._sorted.items()):
            column = numbers[name] if name in numbers else rows.measures.get(name)
            level = 0.5 if column is None else rank(ordered, column, rows.lots)
            found[:, 2 * place] = level
            found[:, 2 * place + 1] = 0.5 if column is None else np.abs(2 * level - 1)
            if column is not None:
                found[~np.isfinite(column), 2 * place + 1] = 0.5
        said, begin = predicted(rows.scores), 2 * len(self._sorted)
        found[:, begin : begin + len(self._kept)] = said[:, None] == self._kept
        if len(self._shares) > len(self._kept):
            found[:, -1] = ~np.isin(said, self._kept)
        return found

    def words(self, column: int, labels: Sequence[str]) -> str:
        """What a column is, for people."""
        begin = 2 * len(self._sorted)
        if column >= begin:
            place = column - begin
            return f"share of {labels[self._kept[place]]!r}" if place < len(self._kept) else "share of other classes"
        return f"{'spread' if column % 2 else 'level'} of {self.features[column // 2]}"


def distinct(reference: Reference) -> NDArray[np.int64]:
    """Rows of the reference without those that repeat an earlier one: life is counted without repeats, too."""
    keys = [row.tobytes() for row in reference.embeddings]
    first = {key: place for place, key in reversed(list(enumerate(keys)))}
    rows = np.array(sorted(first.values()), np.int64)
    if len(rows) < len(keys) / 2:  # of toys, whose embeddings say next to nothing
        rows = np.arange(len(keys))
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST_ROWS)).astype(np.int64)]


def rank(ordered: Doubles, column: Doubles, lots: Doubles) -> Any:
    """Conformal p-values of a column among sorted values, in [0, 1], shape (n,); 1/2 where there is no number.

    The share of the reference that is smaller, and of the equal ones a random part: uniform under exchangeability
    (Vovk, Gammerman, Shafer: Algorithmic Learning in a Random World, 2005).
    """
    if not len(ordered):
        return np.full(len(column), 0.5)
    below = np.searchsorted(ordered, column, "left")
    equal = np.searchsorted(ordered, column, "right") - below
    found = (below + lots * (equal + 1)) / (len(ordered) + 1)
    return np.where(np.isfinite(column), found, 0.5)
