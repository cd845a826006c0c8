"""Normality: what errors are usual at each height of the picture, from frames that the denoiser has not learnt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from keepfit.tasks.video.features import CHANNELS
from keepfit.tasks.video.stream import Normal

BAND = 9
"""Rows of the grid that are smoothed together: things are as large as their distance makes them."""
LEAST = 1e-3

UNCHANGED = Normal(np.zeros((CHANNELS, 1, 1), np.float32), np.ones((CHANNELS, 1, 1), np.float32))
"""Leaves error maps as they are."""


def usual(stretches: Sequence[NDArray[np.float32]]) -> Normal:
    """Mean and standard deviation by channel and row, from error maps (t, channels, rows, columns) each.

    Errors are z-scored against held-out normal data before levels are joined: Graham et al. 2023.
    """
    total = sum(len(stretch) * stretch.shape[3] for stretch in stretches)
    sums = sum(stretch.sum(axis=(0, 3), dtype=np.float64) for stretch in stretches)
    squares = sum(np.square(stretch, dtype=np.float64).sum(axis=(0, 3)) for stretch in stretches)
    mean = smoothed(np.asarray(sums) / total)
    spread = np.sqrt(np.maximum(smoothed(np.asarray(squares) / total) - mean**2, 0))
    return Normal(mean.astype(np.float32)[..., None], np.maximum(spread, LEAST).astype(np.float32)[..., None])


def smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over neighbouring rows, (channels, rows) -> the same."""
    width = min(BAND, values.shape[1])
    kernel = np.ones(width) / width
    weight = np.convolve(np.ones(values.shape[1]), kernel, "same")
    return np.stack([np.convolve(row, kernel, "same") / weight for row in values])
