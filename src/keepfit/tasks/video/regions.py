"""Regions: where in a picture something is, as rectangles, so that the empty scene costs the denoiser nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from keepfit.tasks.video.preparation import GREY_LEVELS, MULTIPLE, Floats

TILE = 8
"""Pixels on each side: the unit in which places are still or not."""
CONTEXT = 2
"""Tiles around what is looked at that the denoiser sees, too."""
FEWEST = 8
"""Tiles on each side of what it sees at least: the crops that it has learnt from."""
WORTH = 0.9
"""A rectangle is cut in two where both together are at most this share of it."""
ABOVE_NOISE, LEAST, MOST = 6.0, 1 / GREY_LEVELS, 10 / GREY_LEVELS
"""A place is still up to so many times the sensor's noise: up to one grey level always (a drawn scene has no noise), up
to more than ten never."""
COMPANY = 2
"""Tiles, of nine that lie together, that must differ from the empty scene; one alone is noise."""

Flags = NDArray[np.bool_]
ALIGNED = MULTIPLE // TILE


@dataclass(frozen=True)
class Region:
    """Rows and columns of tiles, from the first to before the last."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def area(self) -> int:
        """In tiles."""
        return (self.bottom - self.top) * (self.right - self.left)

    def with_context(self, rows: int, columns: int) -> Region:
        """What the denoiser must see of a picture of so many tiles to judge this."""
        return Region(*_widened(self.top, self.bottom, rows), *_widened(self.left, self.right, columns))

    def inside(self, other: Region) -> Region:
        """The same place, counted from the corner of another region that holds it."""
        return Region(self.top - other.top, self.bottom - other.top, self.left - other.left, self.right - other.left)

    def pixels(self, scale: int = TILE) -> tuple[slice, slice]:
        """Rows and columns of an array that has `scale` places for each tile's side."""
        return slice(self.top * scale, self.bottom * scale), slice(self.left * scale, self.right * scale)


def noise_of(pictures: Floats) -> float:
    """The difference from the empty scene up to which a place counts as still, from pictures (n, H, W) of normal life.

    The lower quartile of the tiles shows nothing but noise, unless a scene is never empty: hence the upper bound.
    """
    noise = float(np.quantile(tile_means(pictures), 0.25))
    return min(max(ABOVE_NOISE * noise, LEAST), MOST)


def busy(now: Floats, before: Floats, still: float) -> Flags:
    """Tiles where something is, or was just now, and their neighbours: (n, H / TILE, W / TILE).

    `before`: the pictures two frames before, so that what vanishes is seen. All of them where `still` is zero.
    """
    differs = differing(now, before, still)
    if not still:
        return np.ones(differs.shape, np.bool_)
    return around(differs & (around(differs) >= COMPANY)) > 0


def differing(now: Floats, before: Floats, still: float) -> Flags:
    """Tiles that differ from the empty scene, now or two frames before: (n, H / TILE, W / TILE)."""
    return np.asarray(np.maximum(tile_means(now), tile_means(before)) > still)


def around(flags: Flags) -> NDArray[np.int64]:
    """How many of the nine tiles around each one are true: (n, rows, columns) -> the same."""
    padded = np.pad(flags, ((0, 0), (1, 1), (1, 1)))
    return np.asarray(sliding_window_view(padded, (3, 3), axis=(1, 2)).sum(axis=(-2, -1)))


def tile_means(pictures: Floats) -> Floats:
    """Mean size of the difference from the empty scene: (n, H, W) -> (n, H / TILE, W / TILE)."""
    return np.asarray(cells(np.abs(pictures), TILE, np.add) / TILE**2, np.float32)


def cells(values: Floats, side: int, joined: Callable[[Floats, Floats], Floats]) -> Floats:
    """The pixels of each cell joined, such as by np.maximum: (..., h, w) -> (..., h / side, w / side).

    A row or a column of all cells at a time, which is much faster than a reduction over short axes.
    """
    rows = reduce(joined, [values[..., i::side, :] for i in range(side)])
    return reduce(joined, [rows[..., i::side] for i in range(side)])


def regions(flags: Flags) -> Iterator[Region]:
    """Rectangles that have no tile in common and hold all tiles that are true in `flags` (rows, columns).

    Cut where that spares most, and only where what the denoiser must see becomes less.
    """
    rows, columns = np.flatnonzero(flags.any(axis=1)), np.flatnonzero(flags.any(axis=0))
    if not len(rows):
        return
    whole = Region(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
    cut = _best_cut(flags, whole)
    if cut is None:
        yield whole
        return
    for part in cut:
        inside = np.zeros_like(flags)
        inside[part.pixels(1)] = flags[part.pixels(1)]
        yield from regions(inside)


def _best_cut(flags: Flags, whole: Region) -> tuple[Region, Region] | None:
    """The two parts that are cheapest together, where they are cheap enough."""
    best, least = None, WORTH * whole.with_context(*flags.shape).area
    for parts in _cuts(whole):
        held = [_held(flags, part) for part in parts]
        cost = sum(one.with_context(*flags.shape).area for one in held)
        if cost <= least:
            best, least = (held[0], held[1]), cost
    return best


def _cuts(whole: Region) -> Iterator[tuple[Region, Region]]:
    for at in range(whole.top + 1, whole.bottom):
        yield Region(whole.top, at, whole.left, whole.right), Region(at, whole.bottom, whole.left, whole.right)
    for at in range(whole.left + 1, whole.right):
        yield Region(whole.top, whole.bottom, whole.left, at), Region(whole.top, whole.bottom, at, whole.right)


def _held(flags: Flags, part: Region) -> Region:
    """What of a part is needed; of two parts of a rectangle that is held tightly neither is empty."""
    inside = flags[part.pixels(1)]
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    return Region(
        part.top + int(rows[0]), part.top + int(rows[-1]) + 1,
        part.left + int(columns[0]), part.left + int(columns[-1]) + 1,
    )  # fmt: skip


def _widened(first: int, stop: int, most: int) -> tuple[int, int]:
    """With context, at least FEWEST long, at places and of a length that the network can fold."""
    spare = max(0, FEWEST - (stop - first) - 2 * CONTEXT)
    first = max(0, first - CONTEXT - spare // 2)
    first -= first % ALIGNED
    stop = max(stop + CONTEXT, first + FEWEST)
    stop = min(stop + -stop % ALIGNED, most)
    first = min(first, max(0, stop - FEWEST))
    return first - first % ALIGNED, stop
