"""Normality: what errors are usual at each height of the picture, from frames that the denoiser has not learnt."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from keepfit.errors import InvalidInput
from keepfit.tasks.video.features import CHANNELS
from keepfit.tasks.video.stream import Normal

BAND = 9
"""Rows of the grid that are smoothed together: things are as large as their distance makes them."""
LEAST = 1e-3

UNCHANGED = Normal(np.zeros((CHANNELS, 1, 1), np.float32), np.ones((CHANNELS, 1, 1), np.float32))
"""Leaves error maps as they are."""


def usual(blocks: Iterable[NDArray[np.float32]]) -> Normal:
    """Mean and standard deviation by channel and row, from error maps (t, channels, rows, columns) each, in one pass.

    Errors are z-scored against held-out normal data before levels are joined: Graham et al. 2023. Raises InvalidInput
    when there are none.
    """
    total = 0
    sums, squares = np.zeros((CHANNELS, 1)), np.zeros((CHANNELS, 1))
    for block in blocks:
        total += len(block) * block.shape[3]
        sums = sums + block.sum(axis=(0, 3), dtype=np.float64)
        squares = squares + np.square(block, dtype=np.float64).sum(axis=(0, 3))
    if not total:
        raise InvalidInput(
            "no unbroken stretch of normal video is left to judge errors by; give a longer video", "video"
        )
    mean = smoothed(sums / total)
    spread = np.sqrt(np.maximum(smoothed(squares / total) - mean**2, 0))
    return Normal(mean.astype(np.float32)[..., None], np.maximum(spread, LEAST).astype(np.float32)[..., None])


def smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over neighbouring rows, (channels, rows) -> the same."""
    width = min(BAND, values.shape[1])
    kernel = np.ones(width) / width
    weight = np.convolve(np.ones(values.shape[1]), kernel, "same")
    return np.stack([np.convolve(row, kernel, "same") / weight for row in values])
