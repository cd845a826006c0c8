"""Label shift: the shares of the classes that would explain a window, and how much of it they do explain."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression

from keepfit.monitoring.labelfree.sample import SMALLEST, Doubles, Sample

ROUNDS, SETTLED = 60, 3e-4
"""The search for the likeliest shares ends when they have settled."""
STRENGTH = 20.0
"""Rows by which the recall of a rare class is pulled towards the accuracy."""
SHRUNK = 0.003
"""Keeps classes that are hardly told apart from taking any share at all."""
MOST_CLASSES = 10
"""More classes have too few rows each to calibrate one by one."""


class LabelShift:
    """Fitted on rows with truth.

    `mlls` is the maximum likelihood under calibrated probabilities (Saerens et al. 2002; that calibration decides is
    shown in Alexandari et al., 1901.06852), `bbse` solves for what is answered how often (Lipton et al., 1802.03916).
    """

    def __init__(self, sample: Sample, projected: Doubles) -> None:
        """`projected`: leading components of the embeddings, shape (n, c), of unit variance."""
        known = sample.truth >= 0
        truth, k = sample.truth[known], sample.scores.shape[1]
        counts = np.bincount(truth, minlength=k)
        self.prior = (counts + 0.5) / (counts + 0.5).sum()
        accuracy = float(sample.right.mean())
        hit = np.bincount(truth, sample.right[known], k)
        self._recall = (hit + STRENGTH * accuracy) / (counts + STRENGTH)
        confusion = np.zeros((k, k))
        np.add.at(confusion, (sample.said[known], truth), 1.0)
        self._confusion = (confusion + np.eye(k)) / (confusion + np.eye(k)).sum(axis=0, keepdims=True)
        self._calibration: LogisticRegression | None = None
        if 1 < len(np.unique(truth)) == k <= MOST_CLASSES:
            self._calibration = LogisticRegression(C=1.0, max_iter=300).fit(logs(sample.scores[known]), truth)
        looks = self._looks(sample, projected)
        self._deviation = np.maximum(looks.std(axis=0), 1e-6)
        self._means = np.stack([
            looks[known][truth == c].mean(axis=0) if counts[c] else looks.mean(axis=0) for c in range(k)
        ])  # fmt: skip
        self._counts = np.maximum(counts, 1)

    @staticmethod
    def _looks(sample: Sample, projected: Doubles) -> Doubles:
        return np.column_stack([projected, sample.top, np.eye(sample.scores.shape[1])[sample.said]])

    def posterior(self, scores: Doubles) -> Doubles:
        """Calibrated probabilities, shape (n, k)."""
        if self._calibration is None:
            return scores
        raised = logs(scores) @ self._calibration.coef_.T + self._calibration.intercept_
        if raised.shape[1] == 1:
            raised = np.column_stack([np.zeros(len(raised)), raised[:, 0]])
        raised = np.exp(raised - raised.max(axis=1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=1, keepdims=True), np.float64)

    def bbse(self, sample: Sample) -> Doubles:
        """The shares of the classes, shape (k,), by how often each is answered."""
        answered = np.bincount(sample.said, minlength=len(self.prior)) / len(sample)
        inner = self._confusion.T @ self._confusion + SHRUNK * np.eye(len(self.prior))
        shares = np.maximum(np.linalg.solve(inner, self._confusion.T @ answered + SHRUNK * self.prior), 1e-3)
        return np.asarray(shares / shares.sum(), np.float64)

    def mlls(self, posterior: Doubles, start: Doubles) -> Doubles:
        """The likeliest shares, shape (k,), from calibrated probabilities (n, k)."""
        shares = start
        for _ in range(ROUNDS):
            weighted = posterior * (shares / self.prior)
            weighted /= weighted.sum(axis=1, keepdims=True)
            before, shares = shares, (weighted.sum(axis=0) + self.prior) / (len(posterior) + 1)
            if float(np.abs(shares - before).max()) < SETTLED:
                break
        return np.asarray(shares, np.float64)

    def by_recall(self, shares: Doubles) -> float:
        """The accuracy under these shares, by the recall of each class."""
        return float(self._recall @ shares)

    def by_posterior(self, posterior: Doubles, shares: Doubles, sample: Sample) -> float:
        """The mean chance of the answers to be right, by probabilities that are weighted for these shares."""
        weighted = posterior * (shares / self.prior)
        weighted /= weighted.sum(axis=1, keepdims=True)
        return float(weighted[np.arange(len(sample)), sample.said].mean())

    def explained(self, sample: Sample, projected: Doubles, shares: Doubles) -> float:
        """How much of what changed in the means of the inputs these shares explain, in [0, 1]; 0 when nothing did."""
        now = self._looks(sample, projected).mean(axis=0)
        noise = len(self._deviation) * (1 / len(sample) + float((shares**2 / self._counts).sum()))
        left = float((((now - shares @ self._means) / self._deviation) ** 2).sum())
        whole = float((((now - self.prior @ self._means) / self._deviation) ** 2).sum())
        return (
            float(np.clip(1 - max(0.0, left - noise) / max(whole - noise, noise), 0.0, 1.0)) if whole > noise else 0.0
        )


def logs(scores: Doubles) -> Doubles:
    """Logarithms of probabilities, less their mean."""
    found = np.log(np.maximum(scores, SMALLEST))
    return np.asarray(found - found.mean(axis=1, keepdims=True), np.float64)
