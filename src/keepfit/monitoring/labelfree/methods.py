"""The single methods that estimate accuracy without labels, each fitted on the rows that a version was judged on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from keepfit.monitoring.detectors import Components
from keepfit.monitoring.labelfree.sample import SMALLEST, Doubles, Ints, Sample
from keepfit.monitoring.labelfree.support import EDGE, Support

METHODS = ("atc", "doc", "cbpe", "mlls", "bbse", "heads", "errors")
FOLDS, HEADS = 3, 3
"""Random heads are fitted on all folds but one, so that what they say of a reference row is not what they learnt."""
MOST_COMPONENTS = 48
ERROR_COMPONENTS = 12
ROUNDS = 60
"""Of the search for the new shares of the classes; it has settled long before."""
STRENGTH = 20.0
"""Rows by which the recall of a rare class is pulled towards the accuracy."""


@dataclass(frozen=True, eq=False)
class Rowwise:
    """What is known of each row, shape (n,) each."""

    cbpe: Doubles
    heads: Doubles
    errors: Doubles
    far: Doubles
    """1 where the row lies beyond the edge of the reference, else 0."""

    def rows(self, places: Ints) -> Rowwise:
        """The same of some rows."""
        return Rowwise(self.cbpe[places], self.heads[places], self.errors[places], self.far[places])


class Methods:
    """Estimates, by name, for a window of answers; all are shares of right answers in [0, 1].

    `atc`: the share above the score that as many reference rows were above as were right (Garg et al., 2201.04234).
    `doc`: the reference's accuracy and the difference of the mean top score (Guillory et al., ICCV 2021).
    `cbpe`: the mean of the calibrated chance to be right, given the top score and the answer (as NannyML's CBPE).
    `mlls`: the same by the class probabilities, re-weighted for the shares of the classes that explain the window
    (Saerens et al. 2002; Alexandari et al., 1901.06852). `bbse`: the recall of each class, weighted by the shares that
    explain how often each class is answered (Lipton et al., 1802.03916). `heads`: the calibrated chance given how far
    random heads on the same embeddings agree with the answer (after Baek et al. 2206.13089; 2404.01542: the diversity
    must come from the head). `errors`: a regression of being right on all of these and the embedding.
    """

    def __init__(self, sample: Sample, seed: int) -> None:
        """`sample`: rows with truth, at least some of them right and some wrong."""
        self._seed = seed
        self._components = Components(sample.embeddings, MOST_COMPONENTS)
        self._scale = {name: centre(column) for name, column in sample.measures.items()}
        self.accuracy = float(sample.right.mean())
        self._prepare_scores(sample)
        projected = self._components.project(sample.embeddings)
        self._heads = [self._fit_heads(projected, sample.truth, fold) for fold in range(FOLDS)]
        agreement = self._agreement(projected, sample.said, out_of_fold=True)
        self._by_score = chance(self._score_columns(sample), sample.right)
        self._by_heads = chance(self._head_columns(agreement), sample.right)
        self._by_all = chance(self._all_columns(sample, projected, agreement), sample.right, strength=0.05)
        self._support = Support(sample.embeddings)
        own = Rowwise(
            self._by_score(self._score_columns(sample)), self._by_heads(self._head_columns(agreement)),
            self._by_all(self._all_columns(sample, projected, agreement)), np.full(len(sample), 1 - EDGE),
        )  # fmt: skip
        self.base = self.estimates(sample, own)
        """What each method says of the reference itself."""

    def _prepare_scores(self, sample: Sample) -> None:
        known = sample.truth >= 0
        self._temperature = temperature(sample.scores[known], sample.truth[known])
        k = sample.scores.shape[1]
        counts = np.bincount(sample.truth[known], minlength=k)
        self._prior = (counts + 0.5) / (counts + 0.5).sum()
        hit = np.bincount(sample.truth[known], sample.right[known], k)
        self._recall = (hit + STRENGTH * self.accuracy) / (counts + STRENGTH)
        confusion = np.zeros((k, k))
        np.add.at(confusion, (sample.said[known], sample.truth[known]), 1.0)
        self._confusion = (confusion + np.eye(k)) / (confusion + np.eye(k)).sum(axis=0, keepdims=True)
        self._mean_top = float(sample.top.mean())
        # as many rows are above it as were right
        self._threshold = float(np.quantile(sample.top, 1 - self.accuracy, method="nearest"))

    def _fit_heads(self, projected: Doubles, truth: Ints, fold: int) -> list[LogisticRegression]:
        rng = np.random.default_rng([self._seed, fold])
        inside = np.flatnonzero((np.arange(len(truth)) % FOLDS != fold) & (truth >= 0))
        found = []
        for _ in range(HEADS):
            drawn = rng.choice(inside, len(inside))
            weights = rng.exponential(size=len(drawn))
            if len(np.unique(truth[drawn])) > 1:
                made = LogisticRegression(C=float(rng.choice([0.03, 0.1, 0.3])), max_iter=100, tol=1e-3)
                found.append(made.fit(projected[drawn], truth[drawn], weights))
        return found

    def _agreement(self, projected: Doubles, said: Ints, out_of_fold: bool) -> Doubles:
        """The mean probability that the heads give to the answer; shape (n,)."""
        total, count = np.zeros(len(said)), np.zeros(len(said))
        for fold, heads in enumerate(self._heads):
            rows = np.flatnonzero(np.arange(len(said)) % FOLDS == fold) if out_of_fold else np.arange(len(said))
            for head in heads:
                scores = head.predict_proba(projected[rows])
                place = {int(c): j for j, c in enumerate(head.classes_)}
                column = np.array([place.get(int(c), -1) for c in said[rows]])
                total[rows] += np.where(column >= 0, scores[np.arange(len(rows)), column], 0.0)
                count[rows] += 1
        return np.asarray(total / np.maximum(count, 1), np.float64)

    def _score_columns(self, sample: Sample) -> Doubles:
        said = np.eye(sample.scores.shape[1])[sample.said]
        return np.column_stack([logit(sample.top), said])

    @staticmethod
    def _head_columns(agreement: Doubles) -> Doubles:
        return logit(agreement)[:, None]

    def _all_columns(self, sample: Sample, projected: Doubles, agreement: Doubles) -> Doubles:
        ordered = np.sort(sample.scores, axis=1)
        gap = ordered[:, -1] - ordered[:, -2] if sample.scores.shape[1] > 1 else ordered[:, -1]
        measures = [
            np.clip((np.nan_to_num(sample.measures[name], nan=mean) - mean) / deviation, -4, 4)
            for name, (mean, deviation) in self._scale.items()
        ]
        leading = np.clip(projected[:, :ERROR_COMPONENTS], -4, 4)
        return np.column_stack([self._score_columns(sample), gap, logit(agreement), leading, *measures])

    def rowwise(self, sample: Sample) -> Rowwise:
        """The chance of each answer to be right, by the methods that look at rows."""
        projected = self._components.project(sample.embeddings)
        agreement = self._agreement(projected, sample.said, out_of_fold=False)
        return Rowwise(
            self._by_score(self._score_columns(sample)),
            self._by_heads(self._head_columns(agreement)),
            self._by_all(self._all_columns(sample, projected, agreement)),
            self._support.far(sample.embeddings),
        )

    def estimates(self, sample: Sample, rows: Rowwise) -> dict[str, float]:
        """The accuracy of a window (at least one row, with what is known of each), by each method."""
        shares = self.new_prior(sample)
        return {
            "atc": float((sample.top >= self._threshold).mean()),
            "doc": float(np.clip(self.accuracy + sample.top.mean() - self._mean_top, 0, 1)),
            "cbpe": float(rows.cbpe.mean()),
            "mlls": self._reweighted(sample, shares),
            "bbse": self._by_recall(sample),
            "heads": float(rows.heads.mean()),
            "errors": float(rows.errors.mean()),
        }

    def lexical(self, sample: Sample) -> dict[str, float]:
        """How far the mean of each measure (length, unknown tokens) moved, in standard deviations; cut at 3."""
        found = {}
        for name, (mean, deviation) in self._scale.items():
            column = sample.measures[name]
            seen = column[np.isfinite(column)]
            found[name] = float(np.clip((seen.mean() - mean) / deviation, -3, 3)) if len(seen) else 0.0
        return found

    def new_prior(self, sample: Sample) -> Doubles:
        """The shares of the classes under which the window is likeliest if only they changed, shape (k,)."""
        posterior, shares = cooled(sample.scores, self._temperature), self._prior.copy()
        for _ in range(ROUNDS):
            weighted = posterior * (shares / self._prior)
            weighted /= weighted.sum(axis=1, keepdims=True)
            shares = (weighted.sum(axis=0) + self._prior) / (len(sample) + 1)
        return np.asarray(shares, np.float64)

    def _reweighted(self, sample: Sample, shares: Doubles) -> float:
        weighted = cooled(sample.scores, self._temperature) * (shares / self._prior)
        weighted /= weighted.sum(axis=1, keepdims=True)
        return float(weighted[np.arange(len(sample)), sample.said].mean())

    def _by_recall(self, sample: Sample) -> float:
        answered = np.bincount(sample.said, minlength=len(self._prior)) / len(sample)
        # a little of the old shares keeps classes that are hardly told apart from taking any share at all
        shrunk = 0.05 * np.eye(len(self._prior))
        shares = np.linalg.solve(
            self._confusion.T @ self._confusion + shrunk, self._confusion.T @ answered + 0.05 * self._prior
        )
        shares = np.maximum(shares, 0.0)
        return float(self._recall @ (shares / max(shares.sum(), SMALLEST)))


class Constant:
    """The same chance for every row."""

    def __init__(self, value: float) -> None:
        self._value = value

    def __call__(self, columns: Doubles) -> Doubles:
        return np.full(len(columns), self._value)


class Logistic:
    """A fitted logistic regression as a function from columns to chances."""

    def __init__(self, columns: Doubles, right: Doubles, strength: float) -> None:
        self._mean, self._deviation = columns.mean(axis=0), np.maximum(columns.std(axis=0), 1e-6)
        made = LogisticRegression(C=strength, max_iter=300)
        self._made = made.fit((columns - self._mean) / self._deviation, right.astype(int))

    def __call__(self, columns: Doubles) -> Doubles:
        return np.asarray(self._made.predict_proba((columns - self._mean) / self._deviation)[:, 1], np.float64)


def chance(columns: Doubles, right: Doubles, strength: float = 1.0) -> Constant | Logistic:
    """The chance to be right given columns (n, c); a constant where all were right, or all wrong."""
    if right.min() == right.max():
        return Constant(float((right.sum() + 0.5) / (len(right) + 1)))
    return Logistic(columns, right, strength)


def centre(column: Doubles) -> tuple[float, float]:
    """Mean and standard deviation of what is a number."""
    seen = column[np.isfinite(column)]
    return (float(seen.mean()), float(max(seen.std(), 1e-6))) if len(seen) else (0.0, 1.0)


def logit(shares: NDArray[np.float64]) -> Doubles:
    """log(p / (1 - p)), cut at 8 on either side."""
    kept = np.clip(shares, 1e-4, 1 - 1e-4)
    return np.asarray(np.clip(np.log(kept / (1 - kept)), -8, 8), np.float64)


def cooled(scores: Doubles, heat: float) -> Doubles:
    """The probabilities at a temperature."""
    raised = np.maximum(scores, SMALLEST) ** (1 / heat)
    return np.asarray(raised / raised.sum(axis=1, keepdims=True), np.float64)


def temperature(scores: Doubles, truth: Ints) -> float:
    """The temperature with the smallest log loss, from 0.3 to 5."""
    grid = np.geomspace(0.3, 5, 40)
    places = np.arange(len(truth))
    losses = [-np.log(cooled(scores, heat)[places, truth] + SMALLEST).mean() for heat in grid]
    return float(grid[int(np.argmin(losses))]) if len(truth) else 1.0
