"""How much a label would teach: answers with a small margin, spread over kinds of input, new kinds first.

Margin sampling is hard to beat with transformers (Schröder et al., arXiv 2107.05687), but alone it asks for the same
kind again and again. So inputs are sorted into clusters of the reference's embeddings, each of which gets about the
same part of the questions; an embedding that is far from all of them is of a new kind and is favoured, for what is
typical of a new kind is what a model lacks (TypiClust: Hacohen, Dekel & Weinshall, arXiv 2202.02794). All of it is
fitted on the reference, before an answer is looked at: the chances depend on the answer and on nothing that came later.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from keepfit.data.records import Prediction
from keepfit.evaluation.clusters import distances, k_means

Doubles = NDArray[np.float64]

CLUSTERS = 12
MEMBERS = 40
"""Rows of the reference for each cluster at least."""
MOST_ROWS = 2048
NEW = 4.0
"""How many times as much as an average one an input of a new kind is worth."""
SPREAD = 4.0
"""A rare kind is worth so many times as much as an average one at most."""
FAR = 1.5
"""Beyond so many times the radius that holds 99 of 100 members an input belongs to no cluster."""


@dataclass(frozen=True, eq=False)
class Unsure:
    """Fitted on what a version answered when it was judged."""

    centres: Doubles
    """Shape (c, d)."""
    radii: Doubles
    """Shape (c,)."""
    margins: tuple[Doubles, ...]
    """Of each cluster the sorted margins of its rows."""
    worth: Doubles
    """Shape (c,): what the least sure answer of each cluster weighs."""
    classes: int
    """How many scores an answer has."""

    @classmethod
    def fit(cls, scores: NDArray[np.float32], embeddings: NDArray[np.float32], seed: int = 0) -> Unsure | None:
        """From scores (n, k) and embeddings (n, d); None from fewer than 40 rows, which know no normal.

        The weights of the rows themselves are 1 on average.
        """
        n = len(scores)
        if n < MEMBERS or not np.isfinite(embeddings).all():
            return None
        rng = np.random.default_rng(seed)
        kept = np.sort(rng.permutation(n)[:MOST_ROWS])
        points = embeddings[kept].astype(np.float64)
        centres = k_means(points, min(CLUSTERS, len(points) // MEMBERS), rng)
        distance = distances(points, centres)
        own, nearest = distance.argmin(axis=1), distance.min(axis=1)
        used = np.unique(own)
        radii = np.array([FAR * np.quantile(nearest[own == c], 0.99) for c in used])
        sorted_margins = tuple(np.sort(margin(scores[kept[own == c]])) for c in used)
        sizes = np.array([len(one) for one in sorted_margins], np.float64)
        worth = np.clip(sizes.sum() / (len(used) * sizes), 1 / SPREAD, SPREAD)
        plain = cls(centres[used], np.maximum(radii, 1e-6), sorted_margins, worth, scores.shape[1])
        mean = float(plain.weights(scores[kept], embeddings[kept]).mean())
        return replace(plain, worth=worth / max(mean, 1e-6))

    def knows(self, prediction: Prediction) -> bool:
        """Whether an answer has the shapes of the rows; one of a version with other classes or embeddings has not."""
        return prediction.scores.shape == (self.classes,) and prediction.embedding.shape == (self.centres.shape[1],)

    def weights(self, scores: NDArray[np.float32], embeddings: NDArray[np.float32]) -> Doubles:
        """What a label of each answer would teach, shape (n,): at least 0, and 1 on average on the reference."""
        distance = distances(np.nan_to_num(embeddings.astype(np.float64)), self.centres)
        own, nearest = distance.argmin(axis=1), distance.min(axis=1)
        margins, found = margin(scores), np.empty(len(scores))
        for c, known in enumerate(self.margins):
            mine = own == c
            surer = 1.0 - np.searchsorted(known, margins[mine], "left") / len(known)
            found[mine] = self.worth[c] * surer**3
        found[nearest > self.radii[own]] = NEW
        return found


def margin(scores: NDArray[np.float32]) -> Doubles:
    """By how much the highest score is above the second, shape (n,)."""
    if scores.shape[1] < 2:
        return np.asarray(scores[:, 0], np.float64)
    two = np.partition(scores, -2, axis=1)[:, -2:]
    return np.asarray(two[:, 1] - two[:, 0], np.float64)
