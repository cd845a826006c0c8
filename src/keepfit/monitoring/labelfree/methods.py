"""The single methods that estimate accuracy without labels, each fitted on the rows that a version was judged on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from keepfit.monitoring.detectors import Components
from keepfit.monitoring.labelfree.labelshift import LabelShift
from keepfit.monitoring.labelfree.sample import Doubles, Ints, Sample
from keepfit.monitoring.labelfree.support import EDGE, Support

METHODS = ("atc", "doc", "cbpe", "mlls", "bbse", "heads", "errors")
BY_SHARES = ("mlls", "bbse")
"""Those that reckon with other shares of the classes."""
FOLDS, HEADS = 3, 3
"""Random heads are fitted on all folds but one, so that what they say of a reference row is not what they learnt."""
MOST_COMPONENTS = 48
ERROR_COMPONENTS = 12


@dataclass(frozen=True, eq=False)
class Rowwise:
    """What is known of each row, shape (n,) each."""

    cbpe: Doubles
    heads: Doubles
    errors: Doubles
    far: Doubles
    """1 where the row lies beyond the edge of the reference, else 0."""
    projected: Doubles
    """Leading components, shape (n, c)."""

    def rows(self, places: Ints) -> Rowwise:
        """The same of some rows."""
        return Rowwise(
            self.cbpe[places], self.heads[places], self.errors[places], self.far[places], self.projected[places]
        )


class Methods:
    """Estimates, by name, for a window of answers; all are shares of right answers in [0, 1].

    `atc`: the share above the score that as many reference rows were above as were right (Garg et al., 2201.04234).
    `doc`: the reference's accuracy and the difference of the mean top score (Guillory et al., ICCV 2021).
    `cbpe`: the mean of the calibrated chance to be right, given the top score and the answer (as NannyML's CBPE).
    `mlls`: the same by the class probabilities, weighted for the shares of the classes under which the window is
    likeliest; `bbse`: the recall of each class, weighted by the shares that explain what is answered (`LabelShift`).
    `heads`: the calibrated chance given how far random heads on the same embeddings agree with the answer (after Baek
    et al., 2206.13089; the diversity must come from the head: 2404.01542). `errors`: a regression of being right on all
    of these and the embedding.
    """

    def __init__(self, sample: Sample, seed: int) -> None:
        """`sample`: rows with truth, at least some of them right and some wrong."""
        self._seed = seed
        self._components = Components(sample.embeddings, MOST_COMPONENTS)
        self._scale = {name: centre(column) for name, column in sample.measures.items()}
        self.accuracy = float(sample.right.mean())
        self._mean_top = float(sample.top.mean())
        # as many rows are above it as were right
        self._threshold = float(np.quantile(sample.top, 1 - self.accuracy, method="nearest"))
        projected = self._components.project(sample.embeddings)
        self._shift = LabelShift(sample, projected[:, :ERROR_COMPONENTS])
        self._heads = [self._fit_heads(projected, sample, fold) for fold in range(FOLDS)]
        agreement = self._agreement(projected, sample.said, out_of_fold=True)
        self._by_score = chance(self._score_columns(sample), sample.right)
        self._by_heads = chance(self._head_columns(agreement), sample.right)
        self._by_all = chance(self._all_columns(sample, projected, agreement), sample.right, strength=0.05)
        self._support = Support(sample.embeddings)
        own = Rowwise(
            self._by_score(self._score_columns(sample)), self._by_heads(self._head_columns(agreement)),
            self._by_all(self._all_columns(sample, projected, agreement)), np.full(len(sample), 1 - EDGE),
            projected[:, :ERROR_COMPONENTS],
        )  # fmt: skip
        self.base = self.estimates(sample, own)
        """What each method says of the reference itself."""

    def _fit_heads(self, projected: Doubles, sample: Sample, fold: int) -> Layer:
        truth = sample.truth
        rng = np.random.default_rng([self._seed, fold])
        inside = np.flatnonzero((np.arange(len(truth)) % FOLDS != fold) & (truth >= 0))
        found = []
        for _ in range(HEADS):
            drawn = rng.choice(inside, len(inside))
            weights = rng.exponential(size=len(drawn))
            if len(np.unique(truth[drawn])) > 1:
                made = LogisticRegression(C=float(rng.choice([0.03, 0.1, 0.3])), max_iter=100, tol=1e-3)
                found.append(layer_of(made.fit(projected[drawn], truth[drawn], weights), sample.scores.shape[1]))
        if not found:
            found.append(only(np.unique(truth[inside]), projected.shape[1], sample.scores.shape[1]))
        return Layer(np.stack([one.weights for one in found]), np.stack([one.offsets for one in found]))

    def _agreement(self, projected: Doubles, said: Ints, out_of_fold: bool) -> Doubles:
        """The mean probability that the heads give to the answer; shape (n,)."""
        total = np.zeros(len(said))
        for fold, heads in enumerate(self._heads):
            rows = np.flatnonzero(np.arange(len(said)) % FOLDS == fold) if out_of_fold else np.arange(len(said))
            scores = heads.scores(projected[rows])
            total[rows] += scores[:, np.arange(len(rows)), said[rows]].mean(axis=0) / (1 if out_of_fold else FOLDS)
        return np.asarray(total, np.float64)

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
            projected[:, :ERROR_COMPONENTS],
        )

    def estimates(self, sample: Sample, rows: Rowwise) -> dict[str, float]:
        """The accuracy of a window (at least one row, with what is known of each), by each method."""
        posterior, answered = self._shift.posterior(sample.scores), self._shift.bbse(sample)
        return {
            "atc": float((sample.top >= self._threshold).mean()),
            "doc": float(np.clip(self.accuracy + sample.top.mean() - self._mean_top, 0, 1)),
            "cbpe": float(rows.cbpe.mean()),
            "mlls": self._shift.by_posterior(posterior, self._shift.mlls(posterior, answered), sample),
            "bbse": self._shift.by_recall(answered),
            "heads": float(rows.heads.mean()),
            "errors": float(rows.errors.mean()),
        }

    def explained(self, sample: Sample, rows: Rowwise) -> float:
        """How much of the window's change a mere change of the class shares explains, in [0, 1]."""
        return self._shift.explained(sample, rows.projected, self._shift.bbse(sample))

    def lexical(self, sample: Sample) -> dict[str, float]:
        """How far the mean of each measure (length, unknown tokens) moved, in standard deviations; cut at 3."""
        found = {}
        for name, (mean, deviation) in self._scale.items():
            column = sample.measures[name]
            seen = column[np.isfinite(column)]
            found[name] = float(np.clip((seen.mean() - mean) / deviation, -3, 3)) if len(seen) else 0.0
        return found


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
        made.fit((columns - self._mean) / self._deviation, right.astype(int))
        self._weights, self._offset = made.coef_[0], float(made.intercept_[0])

    def __call__(self, columns: Doubles) -> Doubles:
        raised = ((columns - self._mean) / self._deviation) @ self._weights + self._offset
        return np.asarray(1 / (1 + np.exp(-np.clip(raised, -30, 30))), np.float64)


@dataclass(frozen=True, eq=False)
class Layer:
    """h linear layers with a softmax each; scikit-learn's own way to the same numbers takes ten times as long."""

    weights: Doubles
    """Shape (h, d, k); of one layer (d, k)."""
    offsets: Doubles
    """Shape (h, k); of one layer (k,)."""

    def scores(self, rows: Doubles) -> Doubles:
        """Shape (h, n, k)."""
        raised = rows @ self.weights + self.offsets[:, None]
        raised = np.exp(raised - raised.max(axis=2, keepdims=True))
        return np.asarray(raised / raised.sum(axis=2, keepdims=True), np.float64)


def layer_of(made: LogisticRegression, classes: int) -> Layer:
    """A fitted regression; classes that it has not seen have no chance."""
    weights, offsets = np.zeros((made.coef_.shape[1], classes)), np.full(classes, -50.0)
    if len(made.classes_) == 2:  # one row, for the second class against the first
        offsets[made.classes_[0]], offsets[made.classes_[1]] = 0.0, made.intercept_[0]
        weights[:, made.classes_[1]] = made.coef_[0]
    else:
        offsets[made.classes_], weights[:, made.classes_] = made.intercept_, made.coef_.T
    return Layer(weights, offsets)


def only(seen: Ints, width: int, classes: int) -> Layer:
    """Gives all of the chance to the classes that were seen, whatever the row: there is nothing to tell apart."""
    offsets = np.full(classes, -50.0)
    offsets[seen] = 0.0
    return Layer(np.zeros((width, classes)), offsets)


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
