"""How good answers are: pure functions of the truth and the scores, each with an interval.

Throughout: `truth` holds indices into the classes, shape (n,), int64; -1 stands for a class that the model does
not know, which it can only get wrong. `scores` holds probabilities, shape (n, k), float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from keepfit.intervals import Interval, wilson

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

MetricFn = Callable[[Ints, Floats], float]
"""(truth, scores) -> value. A user's own metric is one of these."""

SMALLEST = 1e-7
"""Probabilities are taken as at least this in the log loss, so that one sure mistake does not make it infinite."""

ROUNDS = 200
"""Resamples of a bootstrap unless told otherwise."""


def bootstrap(
    metric: MetricFn, truth: Ints, scores: Floats, *, rng: np.random.Generator, rounds: int = ROUNDS,
    confidence: float = 0.95,
) -> Interval:  # fmt: skip
    """The percentile interval of any metric (Efron 1979): rows are drawn again with replacement.

    Resamples on which the metric is not a number (a class is missing, say) are left out.
    """
    value = float(metric(truth, scores)) if len(truth) else math.nan
    return _resample(value, lambda rows: float(metric(truth[rows], scores[rows])), len(truth), rng, rounds, confidence)


def predicted(scores: Floats) -> Ints:
    """The class that each row says: the highest score, the first of equals; shape (n,)."""
    return np.asarray(np.argmax(scores, axis=1), np.int64)


def accuracy(truth: Ints, scores: Floats) -> float:
    """The share of right answers.

    >>> accuracy(np.array([0, 1]), np.array([[0.9, 0.1], [0.8, 0.2]], np.float32))
    0.5
    """
    return float(np.mean(predicted(scores) == truth)) if len(truth) else math.nan


def macro_f1(truth: Ints, scores: Floats) -> float:
    """The mean over classes of the F1 score; over those that occur in the truth or in the answers, as sklearn does.

    A class that the model does not know counts with 0.
    """
    return float(_f1_of_counts(_counts(truth, scores))) if len(truth) else math.nan


def auc(truth: Ints, scores: Floats) -> float:
    """Area under the ROC curve of the last class against the others, ties half; 0.5 when one side is empty.

    >>> auc(np.array([0, 0, 1]), np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]))
    1.0
    """
    last = truth == scores.shape[1] - 1
    return area(scores[last, -1], scores[~last, -1])


def area(positive: NDArray[np.floating], negative: NDArray[np.floating]) -> float:
    """The chance that a positive has the higher score, ties half; 0.5 when either is empty.

    >>> area(np.array([2.0, 3.0]), np.array([1.0, 2.0]))
    0.875
    """
    if not len(positive) or not len(negative):
        return 0.5
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, "left") + np.searchsorted(ordered, positive, "right")
    return float(below.mean() / (2 * len(ordered)))


def log_loss(truth: Ints, scores: Floats) -> float:
    """The mean of -log(probability of the true class), in nats."""
    return float(np.mean(_log_losses(truth, scores))) if len(truth) else math.nan


def brier(truth: Ints, scores: Floats) -> float:
    """The mean squared distance between probabilities and truth, summed over classes: 0 is perfect, 2 the worst.

    Brier (1950), in its original form for several classes.
    """
    return float(np.mean(_briers(truth, scores))) if len(truth) else math.nan


def calibration_error(truth: Ints, scores: Floats, bins: int = 15) -> float:
    """Top-label expected calibration error: |confidence - accuracy|, averaged over bins by their size.

    Guo et al. 2017 (arXiv 1706.04599), with bins of equal mass instead of equal width, which is less biased
    (Nixon et al. 2019, arXiv 1904.01685). Equal confidences share a bin.
    """
    if not len(truth):
        return math.nan
    gaps, bin_of = _calibration_gaps(truth, scores, bins)
    return _gap_of(gaps, bin_of)


def expected_cost(truth: Ints, scores: Floats, matrix: NDArray[np.float64]) -> float:
    """The mean cost of what was said, `matrix[true, said]`, shape (k, k); an unknown class costs the column's worst."""
    return float(np.mean(_costs(truth, scores, matrix))) if len(truth) else math.nan


def confusion(truth: Ints, said: Ints, k: int) -> Ints:
    """How often class i (row) was called j (column), shape (k, k); rows of unknown classes (-1) are left out."""
    known = truth >= 0
    cells = truth[known] * k + said[known]
    return np.bincount(cells, minlength=k * k).reshape(k, k).astype(np.int64)


def per_class(truth: Ints, scores: Floats) -> dict[str, Doubles]:
    """`precision` and `recall` of each class, shape (k,); not a number where nothing was said or nothing is true."""
    found = per_class_intervals(truth, scores)
    return {name: np.array([interval.value for interval in row]) for name, row in found.items()}


def per_class_intervals(truth: Ints, scores: Floats, confidence: float = 0.95) -> dict[str, list[Interval]]:
    """`precision` and `recall` of each class with Wilson's interval; n is the number said, or true."""
    counts = _counts(truth, scores)
    k = scores.shape[1]
    right, said, true = np.diagonal(counts), counts.sum(axis=0), counts[:k].sum(axis=1)
    return {
        "precision": [wilson(int(r), int(n), confidence) for r, n in zip(right, said, strict=True)],
        "recall": [wilson(int(r), int(n), confidence) for r, n in zip(right, true, strict=True)],
    }


@dataclass(frozen=True)
class ReliabilityPoint:
    """One bin of a reliability plot: how sure the answers were (x), how often they were right (y)."""

    confidence: float
    accuracy: Interval


def reliability(truth: Ints, scores: Floats, bins: int = 15) -> tuple[ReliabilityPoint, ...]:
    """The points of a reliability plot, from unsure to sure, in the bins of `calibration_error`."""
    if not len(truth):
        return ()
    top, right = scores.max(axis=1), predicted(scores) == truth
    bin_of = _equal_mass(top, bins)
    return tuple(
        ReliabilityPoint(float(top[inside].mean()), wilson(int(right[inside].sum()), int(inside.sum())))
        for inside in (bin_of == number for number in np.unique(bin_of))
    )


IntervalFn = Callable[[Ints, Floats, np.random.Generator, int, float], Interval]
"""(truth, scores, rng, rounds, confidence) -> Interval."""


@dataclass(frozen=True)
class Metric:
    """A metric, the direction that is good, and a quick way to its interval (None: the general bootstrap)."""

    fn: MetricFn
    higher_is_better: bool = True
    quick: IntervalFn | None = None

    def interval(
        self, truth: Ints, scores: Floats, rng: np.random.Generator, rounds: int = ROUNDS, confidence: float = 0.95
    ) -> Interval:
        """The value with its interval."""
        if self.quick is not None:
            return self.quick(truth, scores, rng, rounds, confidence)
        return bootstrap(self.fn, truth, scores, rng=rng, rounds=rounds, confidence=confidence)


def cost_metric(matrix: NDArray[np.float64]) -> Metric:
    """The expected cost under this matrix (see `expected_cost`) as a metric; lower is better."""
    return Metric(
        partial(_cost_of, matrix=matrix), higher_is_better=False, quick=_mean_of(partial(_costs, matrix=matrix))
    )


def _cost_of(truth: Ints, scores: Floats, matrix: NDArray[np.float64]) -> float:
    return expected_cost(truth, scores, matrix)


def _resample(
    value: float, statistic: Callable[[Ints], float], n: int, rng: np.random.Generator, rounds: int, confidence: float
) -> Interval:
    if n == 0:
        return Interval(value, math.nan, math.nan, 0)
    return _percentiles(value, [statistic(rng.integers(0, n, n)) for _ in range(rounds)], n, confidence)


def _percentiles(value: float, draws: Sequence[float] | Doubles, n: int, confidence: float) -> Interval:
    usable = np.asarray(draws, np.float64)
    usable = usable[np.isfinite(usable)]
    if not len(usable):
        return Interval(value, math.nan, math.nan, n)
    low, high = np.quantile(usable, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, float(low), float(high), n)


def _mean_of(per_row: Callable[[Ints, Floats], Doubles]) -> IntervalFn:
    """The bootstrap of a metric that is a mean over rows: the rows' values are computed once."""

    def interval(truth: Ints, scores: Floats, rng: np.random.Generator, rounds: int, confidence: float) -> Interval:
        values = per_row(truth, scores)
        value = float(values.mean()) if len(values) else math.nan
        return _resample(value, lambda rows: float(values[rows].mean()), len(values), rng, rounds, confidence)

    return interval


def _accuracy_interval(
    truth: Ints, scores: Floats, rng: np.random.Generator, rounds: int, confidence: float
) -> Interval:
    return wilson(int((predicted(scores) == truth).sum()), len(truth), confidence)


def _f1_interval(truth: Ints, scores: Floats, rng: np.random.Generator, rounds: int, confidence: float) -> Interval:
    """Rows drawn again give a multinomial table of counts, so the table is drawn and not the rows."""
    if not len(truth):
        return Interval(math.nan, math.nan, math.nan, 0)
    counts = _counts(truth, scores)
    filled = np.flatnonzero(counts)
    tables = np.zeros((rounds, counts.size), np.int64)
    tables[:, filled] = rng.multinomial(len(truth), counts.ravel()[filled] / len(truth), size=rounds)
    draws = _f1_of_counts(tables.reshape(rounds, *counts.shape))
    return _percentiles(float(_f1_of_counts(counts)), draws, len(truth), confidence)


def _calibration_interval(
    truth: Ints, scores: Floats, rng: np.random.Generator, rounds: int, confidence: float
) -> Interval:
    """Shifted by the bootstrap's own bias: a resample always looks less calibrated than what it was drawn from."""
    if not len(truth):
        return Interval(math.nan, math.nan, math.nan, 0)
    gaps, bin_of = _calibration_gaps(truth, scores, 15)
    value = _gap_of(gaps, bin_of)
    drawn = (rng.integers(0, len(gaps), len(gaps)) for _ in range(rounds))
    draws = np.array([_gap_of(gaps[rows], bin_of[rows]) for rows in drawn])
    raw = _percentiles(value, draws - (draws.mean() - value), len(truth), confidence)
    return Interval(value, min(max(raw.low, 0.0), value), max(raw.high, value), len(truth))


def _counts(truth: Ints, scores: Floats) -> Ints:
    """Truth by answer, shape (k + 1, k); the last row is for classes that the model does not know."""
    k = scores.shape[1]
    cells = np.where(truth < 0, k, truth) * k + predicted(scores)
    return np.bincount(cells, minlength=(k + 1) * k).reshape(k + 1, k).astype(np.int64)


def _f1_of_counts(counts: Ints) -> Doubles:
    """Macro F1 of one table of counts (k + 1, k), or of many (m, k + 1, k)."""
    k = counts.shape[-1]
    both = counts.sum(axis=-2) + counts[..., :k, :].sum(axis=-1)
    right = np.diagonal(counts[..., :k, :], axis1=-2, axis2=-1)
    scores = np.divide(2.0 * right, both, out=np.zeros(both.shape), where=both > 0)
    classes = (both > 0).sum(axis=-1) + (counts[..., k, :].sum(axis=-1) > 0)
    return np.asarray(scores.sum(axis=-1) / np.maximum(classes, 1), np.float64)


def _truth_scores(truth: Ints, scores: Floats) -> Doubles:
    """The probability that was given to the true class, 0 for an unknown one."""
    given = np.take_along_axis(scores, np.maximum(truth, 0)[:, None], axis=1)[:, 0].astype(np.float64)
    return np.where(truth < 0, 0.0, given)


def _log_losses(truth: Ints, scores: Floats) -> Doubles:
    return np.asarray(-np.log(np.maximum(_truth_scores(truth, scores), SMALLEST)), np.float64)


def _briers(truth: Ints, scores: Floats) -> Doubles:
    squares = np.einsum("ij,ij->i", scores, scores, dtype=np.float64)
    return np.asarray(squares - 2 * _truth_scores(truth, scores) + 1, np.float64)


def _costs(truth: Ints, scores: Floats, matrix: NDArray[np.float64]) -> Doubles:
    said = predicted(scores)
    return np.where(truth < 0, matrix.max(axis=0)[said], matrix[np.maximum(truth, 0), said])


def _equal_mass(values: Floats, bins: int) -> Ints:
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1]))
    return np.searchsorted(edges, values, side="right").astype(np.int64)


def _calibration_gaps(truth: Ints, scores: Floats, bins: int) -> tuple[Doubles, Ints]:
    """Each row's (right - confidence), and its bin."""
    top = scores.max(axis=1)
    return (predicted(scores) == truth) - top.astype(np.float64), _equal_mass(top, bins)


def _gap_of(gaps: Doubles, bin_of: Ints) -> float:
    return float(np.abs(np.bincount(bin_of, gaps)).sum() / len(gaps))


METRICS: Mapping[str, Metric] = {
    "accuracy": Metric(accuracy, quick=_accuracy_interval),
    "macro_f1": Metric(macro_f1, quick=_f1_interval),
    "log_loss": Metric(log_loss, higher_is_better=False, quick=_mean_of(_log_losses)),
    "calibration_error": Metric(calibration_error, higher_is_better=False, quick=_calibration_interval),
    "brier": Metric(brier, higher_is_better=False, quick=_mean_of(_briers)),
}
"""The metrics that every evaluation reports, by name."""
