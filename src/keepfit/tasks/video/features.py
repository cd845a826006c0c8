"""ErrorMaps: how far the denoiser's one-step estimates are from the pictures, by noise level, on a grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.engine.engine import Engine
from keepfit.tasks.video.preparation import Preparation
from keepfit.tasks.video.regions import TILE, Region, busy, cells, regions

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
    Where the picture is the empty scene the errors are zero and the denoiser is not asked (see regions.busy).
    """

    def __init__(self, engine: Engine, preparation: Preparation) -> None:
        self.engine, self._preparation = engine, preparation

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

    def _some(self, now: Floats, past: Floats) -> Floats:
        flags = busy(now, past[:, 0], self._preparation.still)
        n, rows, columns = flags.shape
        per_tile = TILE // CELL
        maps = np.zeros((n, CHANNELS, rows * per_tile, columns * per_tile), np.float32)
        for region in regions(np.logical_or.reduce(flags)):
            seen = region.with_context(rows, columns)
            of_seen = self._measured(now, past, seen)
            within = region.inside(seen).pixels(per_tile)
            maps[..., *region.pixels(per_tile)] = of_seen[..., *within]
        maps *= flags.repeat(per_tile, axis=1).repeat(per_tile, axis=2)[:, None]
        rows, columns = self.grid
        return maps[..., :rows, :columns]

    def _measured(self, now: Floats, past: Floats, seen: Region) -> Floats:
        """Error maps of a part of the pictures."""
        height, width = now.shape[1:]
        shown = seen.pixels()
        place = np.array(
            [
                seen.top * TILE / height,
                seen.left * TILE / width,
                (seen.bottom - seen.top) * TILE / height,
                (seen.right - seen.left) * TILE / width,
            ],
            np.float32,
        )
        part = np.ascontiguousarray(now[:, *shown])
        estimates = self._estimates(part, np.ascontiguousarray(past[:, :, *shown]), place)
        errors = np.abs(estimates - part[:, None])
        slope = gradient(estimates[:, GRADIENT_LEVEL]) - gradient(part)
        maps = np.concatenate([errors, np.abs(slope)[:, None]], axis=1)
        pooled = np.stack([pool_mean(maps), pool_max(maps)], axis=2)
        return np.asarray(pooled.reshape(len(now), CHANNELS, *pooled.shape[3:]), np.float32)

    def _estimates(self, now: Floats, past: Floats, place: Floats) -> Floats:
        """The denoised pictures, (n, levels, H, W), of crops at this place (top, left, height and width, as shares)."""
        n, levels = len(now), len(LEVELS)
        inputs: dict[str, NDArray[Any]] = {
            "noisy": np.repeat(now[:, None], levels, axis=0),
            "past": np.repeat(past, levels, axis=0),
            "known": np.tile(np.array([level.past for level in LEVELS], np.float32), n),
            "sigma": np.tile(np.array([level.sigma for level in LEVELS], np.float32), n),
            "place": np.tile(place[None], (n * levels, 1)),
        }
        return np.asarray(self.engine.infer(inputs)["denoised"].reshape(n, levels, *now.shape[1:]))


def gradient(pictures: Floats) -> Floats:
    """Size of the slope, by differences of neighbours: (n, h, w) -> (n, h, w)."""
    down = np.diff(pictures, axis=1, append=pictures[:, -1:])
    right = np.diff(pictures, axis=2, append=pictures[:, :, -1:])
    return np.asarray(np.hypot(down, right), np.float32)


def pool_mean(maps: Floats) -> Floats:
    """Means of cells: (n, c, h, w) -> (n, c, h / CELL, w / CELL)."""
    return np.asarray(cells(maps, CELL, np.add) / CELL**2, np.float32)


def pool_max(maps: Floats) -> Floats:
    """Maxima of cells: (n, c, h, w) -> (n, c, h / CELL, w / CELL)."""
    return cells(maps, CELL, np.maximum)
