"""Sample: answers as arrays, with the truth where it is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.data.records import Prediction
from keepfit.evaluation.evaluator import Reference
from keepfit.metrics import predicted

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
SMALLEST = 1e-6


@dataclass(frozen=True, eq=False)
class Sample:
    """n answers of one version."""

    scores: Doubles
    """Shape (n, k), rows sum to one."""
    embeddings: Doubles
    """Shape (n, d)."""
    truth: Ints
    """Shape (n,); -1 where it is not known."""
    measures: Mapping[str, Doubles] = field(default_factory=dict)
    """By name, shape (n,); NaN where missing."""

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def said(self) -> Ints:
        """The class that was answered."""
        return predicted(self.scores.astype(np.float32))

    @property
    def right(self) -> Doubles:
        """1 where the answer was right, else 0; only where the truth is known."""
        return np.asarray(self.said == self.truth, np.float64)

    @property
    def top(self) -> Doubles:
        """The highest score."""
        return np.asarray(self.scores.max(axis=1), np.float64)

    def rows(self, places: NDArray[Any]) -> Sample:
        """The same of some rows."""
        return Sample(
            self.scores[places], self.embeddings[places], self.truth[places],
            {name: column[places] for name, column in self.measures.items()},
        )  # fmt: skip

    def moved(self, embeddings: Doubles, logits: Doubles) -> Sample:
        """The same with other embeddings, and logits added to the log of the scores."""
        raised = np.log(np.maximum(self.scores, SMALLEST)) + logits
        raised = np.exp(raised - raised.max(axis=1, keepdims=True))
        return replace(self, embeddings=embeddings, scores=raised / raised.sum(axis=1, keepdims=True))


def of_reference(reference: Reference) -> Sample:
    """The rows of a reference whose class the model knows or not; numbers that are none become 0."""
    known = len(reference.truth)  # none where a model is served elsewhere and too few labels have come
    measures = {name: np.asarray(column[:known], np.float64) for name, column in reference.measures.items()}
    scores = whole(reference.scores[:known])
    return Sample(scores, space(reference.embeddings[:known], scores), reference.truth, measures)


def of_predictions(predictions: Sequence[Prediction], names: Sequence[str]) -> Sample:
    """Predictions (at least one) of one version, without truth."""
    scores = whole(np.stack([p.scores for p in predictions]))
    return Sample(
        scores,
        space(np.stack([p.embedding for p in predictions]), scores),
        np.full(len(predictions), -1, np.int64),
        {name: np.array([p.measures.get(name, np.nan) for p in predictions], np.float64) for name in names},
    )


def space(embeddings: NDArray[np.float32], scores: Doubles) -> Doubles:
    """Where the answers lie: by their embeddings, shape (n, d); where they have none, by the logs of their scores."""
    return np.nan_to_num(embeddings.astype(np.float64)) if embeddings.shape[1] else np.asarray(np.log(scores))


def whole(scores: NDArray[np.float32]) -> Doubles:
    """Scores as probabilities above 0."""
    found = np.maximum(np.nan_to_num(scores.astype(np.float64)), SMALLEST)
    return np.asarray(found / found.sum(axis=1, keepdims=True), np.float64)
