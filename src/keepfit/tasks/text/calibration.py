"""Temperature scaling (Guo et al., arXiv 1706.04599): one number that makes probabilities mean what they say."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LOWEST, HIGHEST = 0.25, 10.0
"""Where the temperature may lie; a network that is always right on a small set would want none at all."""

_SMALLEST = 1e-12
_RATIO = (np.sqrt(5.0) - 1) / 2


def fit_temperature(scores: NDArray[np.float32], truth: NDArray[np.int64]) -> float:
    """The temperature that gives the least log loss. scores (n, k): probabilities at temperature 1; truth (n,).

    The loss is convex in 1 / T, so a golden-section search finds the best; 1 when there are no rows.
    """
    if not len(truth):
        return 1.0
    logits = np.log(np.maximum(scores.astype(np.float64), _SMALLEST))
    low, high = 1 / HIGHEST, 1 / LOWEST
    while high - low > 1e-4:
        left, right = high - _RATIO * (high - low), low + _RATIO * (high - low)
        if _loss(logits, truth, left) < _loss(logits, truth, right):
            high = right
        else:
            low = left
    return round(2 / (low + high), 4)


def tempered(scores: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Probabilities (n, k) at another temperature than the 1 that they were made with."""
    logits = np.log(np.maximum(scores.astype(np.float64), _SMALLEST)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _loss(logits: NDArray[np.float64], truth: NDArray[np.int64], sharpness: float) -> float:
    scaled = logits * sharpness
    scaled = scaled - scaled.max(axis=1, keepdims=True)
    return float((np.log(np.exp(scaled).sum(axis=1)) - scaled[np.arange(len(truth)), truth]).mean())
