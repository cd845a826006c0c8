"""The scenery of the demo's plaza: the camera's view of it, how figures are painted, and all that stands still."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Strokes = NDArray[np.float32]
"""Round-ended lines of a figure, shape (k, 7): x0, y0, x1, y1, radius, ring, tone, from the back to the front.

Metres, x along the way and y up, from the point on the ground below the figure; tone on 0..255. A stroke with a
ring above zero is drawn at this distance from its line only: a wheel is a point with a ring.
"""
Picture = NDArray[np.float32]
"""Grey on 0..255, shape (height, width)."""

FOCAL, CAMERA_M, HORIZON = 309.0, 20.58, 103.0
"""Of the camera: focal length in pixels, metres above the ground, rows from the upper edge up to the horizon."""

PLACE = 11
"""Seed of the ground: the place stays the same whoever walks over it."""
SLAB_M = 1.6
SHADE = 0.34
"""Share of the light that a shadow takes."""

LAMP = (0.27, 0.82)
_LAMP = np.array([
    (0, 0.1, 0, 0.5, 0.16, 0, 45), (0, 0.3, 0, 4.3, 0.07, 0, 52), (-0.05, 4.3, 0.55, 4.45, 0.06, 0, 52),
    (0.6, 4.35, 0.6, 4.4, 0.2, 0, 225),
], np.float32)  # fmt: skip
_BENCH = np.array([
    (-0.8, 0.05, -0.8, 0.45, 0.06, 0, 45), (0.8, 0.05, 0.8, 0.45, 0.06, 0, 45),
    (-0.95, 0.95, 0.95, 0.95, 0.07, 0, 84), (-0.95, 0.76, 0.95, 0.76, 0.07, 0, 76),
    (-0.95, 0.5, 0.95, 0.5, 0.09, 0, 92), (-0.95, 0.4, 0.95, 0.4, 0.07, 0, 66),
], np.float32)  # fmt: skip
_PLANTER = np.array([
    (-0.65, 0.25, 0.65, 0.25, 0.28, 0, 158), (-0.75, 0.55, 0.75, 0.55, 0.13, 0, 182),
    (-0.5, 0.9, -0.5, 0.9, 0.38, 0, 72), (0.5, 0.85, 0.5, 0.85, 0.36, 0, 64), (0.0, 1.1, 0.0, 1.1, 0.48, 0, 84),
    (-0.2, 1.35, -0.2, 1.35, 0.2, 0, 104), (0.3, 1.1, 0.3, 1.1, 0.16, 0, 100), (-0.6, 1.0, -0.6, 1.0, 0.14, 0, 98),
], np.float32)  # fmt: skip
FIXTURES: list[tuple[Strokes, float, float]] = [
    (_LAMP, *LAMP), (_BENCH, 0.40, 0.60), (_PLANTER, 0.57, 0.61), (_PLANTER, 0.07, 0.24), (_BENCH, 0.80, 0.22),
]  # fmt: skip


@dataclass(frozen=True)
class View:
    """A fixed camera that looks down at an angle: the picture's lower edge is 26 m away, the upper one 62 m.

    FOCAL and HORIZON are meant for 144 rows and grow with the picture. A spot is a point on the ground: metres right
    of the middle, metres away. Heights are drawn in full, as with a shifted lens.
    """

    width: int
    height: int

    def scale(self, away: float) -> float:
        """Pixels of a metre across at this distance."""
        return FOCAL * self.height / 144 / away

    def spot(self, column: NDArray[np.float64], row: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
        """(right, away) of the ground under these pixels."""
        scale = (row + HORIZON * self.height / 144) / CAMERA_M
        return (column - self.width / 2) / scale, FOCAL * self.height / 144 / scale

    def draw(self, strokes: Strokes, spot: tuple[float, float]) -> Strokes:
        """Strokes in pixels, x = column and y = row, for a figure that stands on this spot."""
        scale = self.scale(spot[1])
        column, row = self.width / 2 + scale * spot[0], CAMERA_M * scale - HORIZON * self.height / 144
        drawn = strokes * np.array([scale, -scale, scale, -scale, scale, scale, 1], np.float32)
        drawn[:, :4] += np.array([column, row, column, row], np.float32)
        return drawn

    def shadow(self, strokes: Strokes, spot: tuple[float, float], right: float, away: float) -> Strokes:
        """The figure laid onto the ground, in pixels: 1 m of height falls `right` and `away` metres from its foot."""
        flat = strokes.copy()
        flat[:, [0, 2]] += right * strokes[:, [1, 3]]
        flat[:, [1, 3]] *= away * CAMERA_M / spot[1]
        flat[:, 4] *= 0.8
        return self.draw(flat, spot)


def extent(drawn: Strokes, margin: float) -> list[float]:
    """Left, top, right, bottom of strokes in pixels."""
    reach = (drawn[:, 4] + drawn[:, 5] + margin)[:, None]
    low, high = np.minimum(drawn[:, 0:2], drawn[:, 2:4]) - reach, np.maximum(drawn[:, 0:2], drawn[:, 2:4]) + reach
    return [*low.min(axis=0).tolist(), *high.max(axis=0).tolist()]


@dataclass(frozen=True, eq=False)
class Stencil:
    """A drawn figure: where, and how much of each pixel every stroke covers."""

    rows: slice
    columns: slice
    cover: NDArray[np.float32]
    tones: NDArray[np.float32]

    def paint(self, canvas: Picture) -> None:
        """Stroke over stroke."""
        part = canvas[self.rows, self.columns]
        for cover, tone in zip(self.cover, self.tones, strict=True):
            part += cover * (tone - part)

    def shade(self, canvas: Picture) -> None:
        """Takes light away, once where strokes overlap."""
        canvas[self.rows, self.columns] *= 1 - SHADE * self.cover.max(axis=0)


def stencil(drawn: Strokes, view: View, soft: float = 1.0) -> Stencil | None:
    """None outside the picture; `soft` is the width of an edge in pixels."""
    edges = extent(drawn, soft)
    left, top = (max(math.floor(edge), 0) for edge in edges[:2])
    right, bottom = min(math.ceil(edges[2]) + 1, view.width), min(math.ceil(edges[3]) + 1, view.height)
    if left >= right or top >= bottom:
        return None
    x0, y0, x1, y1, radius, ring, _ = (column[:, None, None] for column in drawn.T)
    across = np.arange(left, right, dtype=np.float32) - x0
    down = np.arange(top, bottom, dtype=np.float32)[:, None] - y0
    dx, dy = x1 - x0, y1 - y0
    along = np.clip((across * dx + down * dy) / np.maximum(dx * dx + dy * dy, 1e-6), 0, 1)
    far = np.abs(np.hypot(across - along * dx, down - along * dy) - ring) - radius
    return Stencil(slice(top, bottom), slice(left, right), np.clip(0.5 - far / soft, 0, 1), drawn[:, 6])


def lamps(view: View, dusk: float) -> Picture:
    """Daylight, less towards the corners, and at dusk the lamp: its pool on the ground and its head."""
    rows, columns = np.mgrid[0 : view.height, 0 : view.width] / view.height
    columns -= view.width / view.height / 2
    corners = 1 - 0.12 * (np.hypot(columns, rows - 0.5) / 0.83) ** 2
    columns -= (LAMP[0] - 0.5) * view.width / view.height
    pool = np.hypot(columns, (rows - LAMP[1]) * 1.6) / 0.3
    head = np.hypot(columns - 0.045, rows - LAMP[1] + 0.325) / 0.04
    lamps = corners * (1 - 0.62 * dusk + dusk * (0.4 * np.exp(-(pool**2)) + 1.2 * np.exp(-(head**2))))
    return np.asarray(lamps, np.float32)


def ground(view: View) -> Picture:
    """Slabs in courses with joints, framed by dark bands, stained; averaged over 3x3 points a pixel."""
    rng, (w, h), fine = np.random.default_rng(PLACE), (view.width, view.height), 3
    columns, rows = np.meshgrid((np.arange(w * fine) + 0.5) / fine - 0.5, (np.arange(h * fine) + 0.5) / fine - 0.5)
    x, z = view.spot(columns, rows)
    course = np.floor(z / SLAB_M).astype(np.int64)
    across = x / SLAB_M + 0.5 * (course % 2)
    slab = np.floor(across).astype(np.int64)
    tones = 154 + rng.normal(0, 5, (64, 64))[course % 64, slab % 64]
    joint = np.minimum(_to_edge(across), _to_edge(z / SLAB_M)) * SLAB_M
    tones -= 20 * np.exp(-((joint / 0.07) ** 2))
    band = np.minimum(_to_edge(x / 9.6 + 0.5), _to_edge(z / 9.6)) * 9.6
    tones -= 24 / (1 + np.exp((band - 0.45) / 0.05))
    for _ in range(12):
        a, b, c = rng.normal(0, 0.35, 3)
        tones += 2.0 * np.sin(a * x + b * z + 9 * c)
    return np.asarray(tones.reshape(h, fine, w, fine).mean(axis=(1, 3)), np.float32)


def _to_edge(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far from the nearest whole number."""
    return np.abs(cells - np.round(cells))
