"""Learning a first stage of texts: logistic regression on hashed words and pairs of words, in seconds.

It learns from the train part alone. A fifth of that, at most MOST_TUNED rows, chooses the regularisation, the
temperature and the thresholds that may be asked for; the validation part, which it never sees, says what they would
change.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from scipy.sparse import csr_matrix
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from keepfit.data.snapshot import Rows
from keepfit.tasks.text.calibration import fit_temperature
from keepfit.tasks.text.first import BITS, FILE, FORMAT, FirstStage, buckets
from keepfit.tasks.text.preprocessing import Content
from keepfit.tasks.trade import Trade, measure, thresholds_for

STRENGTHS = (4.0, 16.0, 64.0)
"""Of the fit against the regularisation (C), from strong to weak regularisation."""
FIFTH, MOST_TUNED = 5, 4000
MOST_ROWS = 60_000
"""More teach a linear layer little, and would take minutes."""
MOST_WEIGHTS = 8_000_000
"""Buckets times classes: 16 MB; of more, the most frequent buckets are kept."""
LEAST_SEEN = 2
ROUNDS = 60
TIMED = 200

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Judged:
    """Validation rows with what the full model says of them."""

    contents: Sequence[Content]
    truth: Ints
    full: Ints
    full_ms: float
    """Processor time of the full model for one of them."""


def learn_first(
    rows: Rows, labels: Sequence[str], judged: Judged, folder: Path, floor: float | None = None
) -> dict[str, Any]:
    """Learn from train rows, write `first.safetensors` into the folder, and return what model.json says as `first`.

    Nothing is answered below `floor` (abstain_below), so no threshold is measured there.
    """
    began = time.perf_counter()
    chosen = np.arange(min(len(rows), MOST_ROWS)) * len(rows) // max(min(len(rows), MOST_ROWS), 1)
    number = {label: i for i, label in enumerate(labels)}
    truth = np.array([number[rows.truth[i]] for i in chosen], np.int64)
    seen = [buckets(rows.contents[i]) for i in chosen]
    weights = rows.weights[chosen].astype(np.float64)
    tuned = np.arange(0, len(chosen), max(FIFTH, len(chosen) // MOST_TUNED))
    strength, temperature, sure = _tune(seen, truth, weights, tuned, len(labels))
    arrays = Learner.fit(seen, truth, weights, len(labels), strength).arrays(temperature)
    save_file(arrays, folder / FILE)
    trade = _measured(arrays, judged, [max(one, floor or 0.0) for one in thresholds_for(sure)])
    return {
        "format": FORMAT, "rows": len(chosen), "buckets": len(arrays["ids"]), "strength": strength,
        "temperature": float(temperature), "seconds": round(time.perf_counter() - began, 2), "trade": trade.to_json(),
    }  # fmt: skip


def _measured(arrays: dict[str, NDArray[Any]], judged: Judged, thresholds: Sequence[float]) -> Trade:
    """The curve as the answering half would have it, with the time that a text takes."""
    blank = Trade(0, 0, 0, ())
    stage = FirstStage(arrays["ids"].astype(np.int64), arrays["weights"], arrays["bias"], arrays["idf"], blank)
    scores = stage.scores(judged.contents)
    trade = measure(scores, judged.full, judged.truth, thresholds)
    began = time.process_time()
    for content in judged.contents[:TIMED]:
        stage.scores([content])
    each = 1000 * (time.process_time() - began) / max(len(judged.contents[:TIMED]), 1)
    return Trade(trade.n, trade.full_right, trade.first_right, trade.points, round(each, 4), round(judged.full_ms, 4))


def _tune(
    seen: Sequence[Ints], truth: Ints, weights: NDArray[np.float64], tuned: Ints, k: int
) -> tuple[float, float, NDArray[np.float32]]:
    """Strength and temperature with the least log loss on the `tuned` rows, and the top scores there."""
    others = np.setdiff1d(np.arange(len(truth)), tuned)
    if len(np.unique(truth[others])) < 2 or not len(tuned):
        return STRENGTHS[0], 1.0, np.zeros(0, np.float32)
    best: tuple[float, float, float, NDArray[np.float32]] | None = None
    for strength in STRENGTHS:
        learner = Learner.fit([seen[i] for i in others], truth[others], weights[others], k, strength)
        plain = learner.scores([seen[i] for i in tuned], 1.0)
        temperature = float(fit_temperature(plain, truth[tuned]))
        scores = learner.scores([seen[i] for i in tuned], temperature)
        loss = -float(np.log(np.maximum(scores[np.arange(len(tuned)), truth[tuned]], 1e-9)).mean())
        if best is None or loss < best[0]:
            best = (loss, strength, temperature, scores.max(axis=1))
    assert best is not None
    return best[1:]


@dataclass(frozen=True, eq=False)
class Learner:
    """A fitted linear layer."""

    ids: Ints
    idf: NDArray[np.float32]
    weights: NDArray[np.float32]
    """Shape (m, k), already multiplied by the idf."""
    bias: NDArray[np.float32]

    @classmethod
    def fit(cls, seen: Sequence[Ints], truth: Ints, weights: NDArray[np.float64], k: int, strength: float) -> Learner:
        """From the buckets of each row; a class without a row gets a score of nothing."""
        counts = np.bincount(np.concatenate([*seen, np.zeros(0, np.int64)]), minlength=1 << BITS)
        ids = np.flatnonzero(counts >= LEAST_SEEN)
        if len(ids) * k > MOST_WEIGHTS:
            frequent = np.argsort(-counts[ids], kind="stable")[: MOST_WEIGHTS // k]
            ids = np.sort(ids[frequent])
        idf = (np.log((1 + len(seen)) / (1 + counts[ids])) + 1).astype(np.float32)
        inputs = rows_of(seen, ids, idf)
        layer = LogisticRegression(C=strength, max_iter=ROUNDS, tol=1e-3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # some more rounds would change the third decimal
            layer.fit(inputs, truth, sample_weight=weights)
        found, bias = _both_sides(layer)
        full, biases = np.zeros((len(ids), k), np.float32), np.full(k, -30.0, np.float32)
        full[:, layer.classes_], biases[layer.classes_] = found.T * idf[:, None], bias
        return cls(ids, idf, full, biases)

    def scores(self, seen: Sequence[Ints], temperature: float) -> NDArray[np.float32]:
        """Probabilities (n, k)."""
        arrays = self.arrays(temperature)
        inputs = rows_of(seen, self.ids, np.ones(len(self.ids), np.float32), self.idf)
        logits = inputs @ arrays["weights"].astype(np.float32) + arrays["bias"]
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)

    def arrays(self, temperature: float) -> dict[str, NDArray[Any]]:
        """As the answering half reads them."""
        return {
            "ids": self.ids.astype(np.int32), "idf": self.idf.astype(np.float16),
            "weights": (self.weights / temperature).astype(np.float16),
            "bias": (self.bias / temperature).astype(np.float32),
        }  # fmt: skip


def _both_sides(layer: LogisticRegression) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights (k, m) and bias (k,) of a softmax; of two classes there is one side only."""
    if len(layer.coef_) > 1:
        return layer.coef_, layer.intercept_
    return np.concatenate([-layer.coef_, layer.coef_]) / 2, np.concatenate([-layer.intercept_, layer.intercept_]) / 2


def rows_of(
    seen: Sequence[Ints], ids: Ints, values: NDArray[np.float32], idf: NDArray[np.float32] | None = None
) -> csr_matrix:
    """Rows (n, m) of `values` at the known buckets of each, divided by the length of the row of their `idf`."""
    place = np.full(1 << BITS, -1, np.int64)
    place[ids] = np.arange(len(ids))
    lengths = np.array([len(row) for row in seen], np.int64)
    columns = place[np.concatenate([*seen, np.zeros(0, np.int64)])]
    numbers = np.repeat(np.arange(len(seen)), lengths)[columns >= 0]
    columns = columns[columns >= 0]
    squares = (values if idf is None else idf)[columns].astype(np.float64) ** 2
    length = np.sqrt(np.bincount(numbers, squares, len(seen)))
    entries = (values[columns] / np.maximum(length, 1e-9)[numbers]).astype(np.float32)
    return csr_matrix((entries, (numbers, columns)), (len(seen), len(ids)))
