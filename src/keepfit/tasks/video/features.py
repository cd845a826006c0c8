"""ErrorMaps: how far the denoiser's one-step estimates are from the pictures, by noise level, on a grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.engine.engine import Engine
from keepfit.tasks.video.preparation import Preparation

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Level:
    """One question to the denoiser: at this noise level, with the past shown or hidden."""

    sigma: float
    past: bool

    def __str__(self) -> str:
        return f"{'motion' if self.past else 'look'} at sigma {self.sigma:g}"


LEVELS = (Level(1.0, False), Level(2.0, False), Level(0.5, True), Level(1.0, True))
"""Hidden past: is this look usual? Shown past: does it move as usual?"""
GRADIENT_LEVEL = 2
"""The level whose error is also taken between gradients, which sees shapes where the greys happen to agree."""
CHANNELS = 2 * len(LEVELS) + 2
CELL = 4
"""Pixels of a grid cell on each side."""
ROWS = 16
"""Pictures that go to the engine in one call: enough for its kernels, little memory."""


class ErrorMaps:
    """Error features of pictures; the picture itself goes in, without noise, so that nothing flickers.

    One-step estimates instead of a sampler: DiffusionAD (Zhang et al. 2023); clean input: MULDE (Micorek et al. 2024).
    """

    def __init__(self, engine: Engine, preparation: Preparation) -> None:
        self._engine, self._preparation = engine, preparation

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of cells that lie in the picture."""
        height, width = self._preparation.background.shape
        return -(-height // CELL), -(-width // CELL)

    def of(self, now: Floats, past: Floats) -> Floats:
        """now (n, H, W) and past (n, 4, H, W) prepared pictures -> (n, CHANNELS, rows, columns)."""
        per_call = max(1, ROWS // len(LEVELS))
        return np.concatenate(
            [self._some(now[i : i + per_call], past[i : i + per_call]) for i in range(0, len(now), per_call)]
            or [np.zeros((0, CHANNELS, *self.grid), np.float32)]
        )

    def estimates(self, now: Floats, past: Floats) -> Floats:
        """The denoised pictures, (n, levels, H, W)."""
        n, levels = len(now), len(LEVELS)
        inputs: dict[str, NDArray[Any]] = {
            "noisy": np.repeat(now[:, None], levels, axis=0),
            "past": np.repeat(past, levels, axis=0),
            "known": np.tile(np.array([level.past for level in LEVELS], np.float32), n),
            "sigma": np.tile(np.array([level.sigma for level in LEVELS], np.float32), n),
            "place": np.tile(np.array([[0, 0, 1, 1]], np.float32), (n * levels, 1)),
        }
        return np.asarray(self._engine.infer(inputs)["denoised"].reshape(n, levels, *now.shape[1:]))

    def _some(self, now: Floats, past: Floats) -> Floats:
        estimates = self.estimates(now, past)
        errors = np.abs(estimates - now[:, None])
        slope = gradient(estimates[:, GRADIENT_LEVEL]) - gradient(now)
        maps = np.concatenate([errors, np.abs(slope)[:, None]], axis=1)
        pooled = np.stack([pool_mean(maps), pool_max(maps)], axis=2)
        rows, columns = self.grid
        n = len(now)
        inside = pooled.reshape(n, CHANNELS, *pooled.shape[3:])[..., :rows, :columns]
        return np.asarray(inside, np.float32)


def gradient(pictures: Floats) -> Floats:
    """Size of the slope, by differences of neighbours: (n, h, w) -> (n, h, w)."""
    down = np.diff(pictures, axis=1, append=pictures[:, -1:])
    right = np.diff(pictures, axis=2, append=pictures[:, :, -1:])
    return np.asarray(np.hypot(down, right), np.float32)


def pool_mean(maps: Floats) -> Floats:
    """Means of cells: (n, c, h, w) -> (n, c, h / CELL, w / CELL)."""
    return np.asarray(_cells(maps).mean(axis=(3, 5)), np.float32)


def pool_max(maps: Floats) -> Floats:
    """Maxima of cells: (n, c, h, w) -> (n, c, h / CELL, w / CELL)."""
    return np.asarray(_cells(maps).max(axis=(3, 5)), np.float32)


def _cells(maps: Floats) -> Floats:
    n, channels, height, width = maps.shape
    return maps.reshape(n, channels, height // CELL, CELL, width // CELL, CELL)
