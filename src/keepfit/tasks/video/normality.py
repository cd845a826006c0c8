"""Normality: what errors are usual, and how large a motion error goes with the look of the same place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from keepfit.errors import InvalidInput
from keepfit.tasks.video.features import CHANNELS, LEVELS, Floats

LOOK = [number for number, level in enumerate(LEVELS) if not level.past]
MOTION = [number for number, level in enumerate(LEVELS) if level.past]
SURPRISES = len(MOTION)
WIDTH = CHANNELS + SURPRISES
"""Maps of a frame after normalisation: the errors, then the surprises."""
BOX = 8
"""Grid cells on each side of the boxes that errors are averaged over: 32 pixels."""
BINS, FEWEST = 24, 50
"""Ranges of the look error that the usual motion error is told for, and the boxes that one needs."""
LEAST = 1e-3
"""Peaks, spreads and ranges are at least this, so that a video without errors divides by no zero."""
MOST_ERROR = 4.0
LOWEST, HIGHEST = -8.0, 16.0
"""Bounds of errors and of surprises, so that one wild cell does not drown what the head sees."""


@dataclass(frozen=True, eq=False)
class Normal:
    """What is usual, from normal frames that the denoiser has not learnt.

    The motion error of a box (its past shown) grows with its look error (its past hidden): fine texture is hard to
    predict wherever it goes. What exceeds the motion error that usually goes with the look is the *surprise*. A look
    that is harder than any held-out one is not allowed more than the hardest was.
    """

    peaks: Floats
    """Mean over frames of the highest error, shape (CHANNELS,)."""
    looks: Floats
    """Look errors of boxes in units of their peaks, rising, shape (k,)."""
    motions: Floats
    """Motion errors of boxes that go with them, shape (SURPRISES, k); beyond the last look the last one holds."""
    highest: Floats
    """Mean over frames of the highest excess, shape (SURPRISES,)."""
    spread: Floats
    """Standard deviation of the same, shape (SURPRISES,)."""

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[np.float32]]) -> Normal:
        """From a file that holds them by name. Raises KeyError when one is missing."""
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})

    def __call__(self, maps: Floats) -> Floats:
        """Error maps (n, CHANNELS, rows, columns) -> (n, WIDTH, rows, columns).

        Errors in units of their peaks; surprises in spreads above the usual highest one of a frame.
        """
        errors = np.clip(maps / self.peaks[:, None, None], 0, MOST_ERROR)
        surprise = excess(boxes(maps), self.peaks, self.looks, self.motions)
        surprise = (surprise - self.highest[:, None, None]) / self.spread[:, None, None]
        return np.concatenate([errors, np.clip(surprise, LOWEST, HIGHEST)], axis=1, dtype=np.float32)


def boxes(maps: Floats) -> Floats:
    """The mean errors of each level, averaged over the box around each cell: (n, levels, rows, columns)."""
    means = maps[:, 0 : 2 * len(LEVELS) : 2]
    sides = (BOX // 2, BOX - 1 - BOX // 2)
    padded = np.pad(means, ((0, 0), (0, 0), sides, sides), mode="edge")
    down = sliding_window_view(padded, BOX, axis=2).mean(axis=-1)
    return np.asarray(sliding_window_view(down, BOX, axis=3).mean(axis=-1), np.float32)


def usual(blocks: Iterable[Floats]) -> Normal:
    """From error maps (t, CHANNELS, rows, columns) each; their boxes are held in memory.

    Held-out frames, because errors on learnt ones are smaller (Graham et al. 2023 normalise likewise). Raises
    InvalidInput when there are none.
    """
    highest, averaged = [], []
    for block in blocks:
        highest.append(block.max(axis=(2, 3)))
        averaged.append(boxes(block))
    if not sum(map(len, highest)):
        raise InvalidInput(
            "no unbroken stretch of normal video is left to judge errors by; give a longer video", "video"
        )
    known = np.concatenate(averaged)
    peaks = np.maximum(np.concatenate(highest).mean(axis=0), LEAST).astype(np.float32)
    looks, motions = expected(look_of(known, peaks), known[:, MOTION])
    most = excess(known, peaks, looks, motions).max(axis=(2, 3))
    return Normal(peaks, looks, motions, most.mean(axis=0), np.maximum(most.std(axis=0), LEAST))


def look_of(averaged: Floats, peaks: Floats) -> Floats:
    """The look error of boxes (n, levels, rows, columns), in units of the peaks: (n, rows, columns)."""
    of_means = peaks[[2 * level for level in LOOK]]  # of each level the mean map, then the maximum
    return np.asarray((averaged[:, LOOK] / of_means[:, None, None]).mean(axis=1), np.float32)


def excess(averaged: Floats, peaks: Floats, looks: Floats, motions: Floats) -> Floats:
    """How far the motion errors of boxes lie above those that go with their look: (n, SURPRISES, rows, columns)."""
    look = look_of(averaged, peaks)
    usually = np.stack([np.interp(look, looks, curve) for curve in motions], axis=1)
    return np.asarray(averaged[:, MOTION] - usually, np.float32)


def expected(look: Floats, motion: Floats) -> tuple[Floats, Floats]:
    """The mean motion errors by ranges of the look error: (n, r, c) and (n, m, r, c) -> (k,) and (m, k).

    Ranges with too few boxes are left out; beyond the last one the last mean holds.
    """
    flat = look.ravel()
    place = np.minimum((flat / max(float(flat.max()), LEAST) * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(place, minlength=BINS)
    kept = counts >= min(FEWEST, int(counts.max()))

    def means(values: Floats) -> Floats:
        return np.asarray(np.bincount(place, values, minlength=BINS)[kept] / counts[kept], np.float32)

    return means(flat), np.stack([means(motion[:, level].ravel()) for level in range(motion.shape[1])])
