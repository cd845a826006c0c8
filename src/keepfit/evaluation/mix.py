"""A pure change of the class mix: how the shares of the classes are now, and whether that explains the errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keepfit.intervals import Interval, paired_interval, sign_test, wilson
from keepfit.tasks.prior import reweighted

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]

ROUNDS = 200
SMOOTH = 1.0
"""Labels of each class, spread as they were, that are added to what is seen: no class is ever taken to be gone."""
FOLDS = 2
RECOVERED = 0.5
"""An answer at no cost must win back this share of what was lost, at least; else a training can do better."""


@dataclass(frozen=True)
class Comparison:
    """An answer at no cost beside the champion, on the newest labels drawn at random."""

    n: int
    wins: int
    losses: int
    before: Interval
    after: Interval
    expected: float
    """The accuracy that it would have if it explained all: what it was once judged at, or would be with this mix."""

    @property
    def chance(self) -> float:
        """Of so many wins if both were as good (exact sign test)."""
        return sign_test(self.wins, self.losses)

    def proven(self, level: float) -> bool:
        """Better than the champion, beyond chance."""
        return self.chance <= level

    @property
    def explains(self) -> bool:
        """It comes up to what is expected of it, within chance, and wins back half of what was lost."""
        lost = max(self.expected - self.before.value, 0.0)
        return self.after.high >= self.expected and self.after.value - self.before.value >= RECOVERED * lost

    def __str__(self) -> str:
        change = paired_interval(self.wins, self.losses, self.n)
        return (
            f"accuracy {self.before.value:.3f} → {self.after.value:.3f} on {self.n} new labels ({change.value:+.3f}, "
            f"{change.low:+.3f} to {change.high:+.3f}), where {self.expected:.3f} is to be expected"
        )

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "n": self.n, "wins": self.wins, "losses": self.losses, "p": self.chance, "expected": self.expected,
            "before": self.before.to_json(), "after": self.after.to_json(), "explains": self.explains,
        }  # fmt: skip


def compared(said: Ints, other: Ints, truth: Ints, expected: float) -> Comparison:
    """The answers (n,) of the champion and of another one, beside the truth."""
    before, after = said == truth, other == truth
    n = len(truth)
    return Comparison(
        n, int((after & ~before).sum()), int((before & ~after).sum()), wilson(int(before.sum()), n),
        wilson(int(after.sum()), n), expected,
    )  # fmt: skip


def shares_now(was: Doubles, labels: Ints, scores: Floats) -> Doubles:
    """The shares (k,) of the classes now, from random labels (m,) and from answers (n, k) without one.

    Maximum likelihood label shift: the EM of Saerens et al. (2002), with the labelled ones as known, and a few labels
    more that are spread as `was` (k,): the mean of the answers when all was well. The scores must be calibrated, and as
    the inputs may have changed, too, all answers together count at most as much as the labels. A label of -1 is of a
    class that the model does not know.
    """
    known = np.bincount(labels[labels >= 0], minlength=len(was)).astype(np.float64)
    prior = SMOOTH * len(was) * was
    shares = (prior + known) / (prior + known).sum()
    trust = min(len(labels) / len(scores), 1.0) if len(scores) else 0.0
    likely = scores.astype(np.float64) / np.maximum(was, 1e-9)
    for _ in range(ROUNDS):
        belongs = likely * shares
        belongs /= np.maximum(belongs.sum(axis=1, keepdims=True), 1e-300)
        after = prior + known + trust * belongs.sum(axis=0)
        after /= after.sum()
        if np.abs(after - shares).max() < 1e-6:
            break
        shares = after
    return np.asarray(shares, np.float64)


@dataclass(frozen=True, eq=False)
class Once:
    """What the champion answered when it was judged."""

    scores: Floats
    """Shape (n, k)."""
    truth: Ints
    """Shape (n,)."""

    @property
    def shares(self) -> Doubles:
        """The mix that its answers speak of, shape (k,)."""
        mean = self.scores.astype(np.float64).mean(axis=0)
        return np.asarray(mean / mean.sum(), np.float64)

    def expected(self, now: Doubles) -> float:
        """The accuracy that the corrected answers would have if nothing but the mix had changed."""
        known = self.truth >= 0
        truth = self.truth[known]
        counts = np.bincount(truth, minlength=len(now)) / max(len(truth), 1)
        weights = (now / np.maximum(counts, 1e-9))[truth]
        said = reweighted(self.scores[known], (now / np.maximum(self.shares, 1e-9)).astype(np.float32)).argmax(axis=1)
        return float(weights @ (said == truth) / max(weights.sum(), 1e-9))


def reweighting(once: Once, scores: Floats, truth: Ints, others: Floats, folds: Ints) -> tuple[Comparison, Doubles]:
    """What a correction for the mix would have answered on the newest labels, and the ratios (k,) of all of them.

    scores (m, k) and truth (m,) are of labels drawn at random, `others` (n, k) of newer answers without a label. Each
    label is answered with a mix that was estimated without its fold, so nothing is judged on what it was fitted to.
    """
    was = once.shares
    said = np.zeros(len(truth), np.int64)
    for fold in np.unique(folds):
        inside = folds == fold
        now = shares_now(was, truth[~inside], np.vstack([others, scores[inside]]))
        said[inside] = reweighted(scores[inside], (now / np.maximum(was, 1e-9)).astype(np.float32)).argmax(axis=1)
    now = shares_now(was, truth, others)
    found = compared(np.asarray(scores.argmax(axis=1), np.int64), said, truth, once.expected(now))
    return found, now / np.maximum(was, 1e-9)
