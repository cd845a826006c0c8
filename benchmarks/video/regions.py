"""Regions: how well a map of scores says where in the picture an anomaly is, by RBDC and TBDC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from keepfit.errors import InvalidInput

Array = NDArray[Any]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

OVERLAP = 0.1
TRACK_SHARE = 0.1
LEVELS = 50
"""Thresholds of the region curves; four times as many moved both areas by less than a point of 100 on Ped2."""

IN_FRAME = np.zeros((3, 3, 3), np.int64)
IN_FRAME[1] = 1
"""Neighbours in the picture, corners included, but not over time."""
OVER_TIME = np.ones((3, 3, 3), np.int64)


@dataclass(frozen=True)
class Regions:
    """Where, not only when: areas under the detection curves up to one false region per frame."""

    rbdc: float
    tbdc: float
    regions: int
    tracks: int


def rbdc_tbdc(heat: Array, masks: Array, clips: Array, overlap: float = OVERLAP, share: float = TRACK_SHARE) -> Regions:
    """Region- and track-based detection criteria (Ramachandra & Jones, Street Scene, WACV 2020).

    `heat` (n, gh, gw) is the score of each cell of a grid that covers the picture, `masks` (n, h, w) the truth. At each
    threshold the connected cells above it are a found region; one whose IoU with every true region of its frame is
    below `overlap` is false. A true region is detected at that IoU, a track when `share` of its regions are.

    Simplified: regions are pixel sets, not boxes; true regions and tracks come from the masks by connectivity
    (8 neighbours, over time 26), so that objects which ever touch are one track; 50 thresholds, quantiles of the
    heat, dense towards its top; at each false-positive rate the best detection rate reached so far counts, linear
    between points and held after the last. A coarse grid bounds the IoU that can be reached.
    """
    scores = np.asarray(heat, np.float32)
    _check_regions(scores, masks, clips)
    truth = _true_regions(masks, clips, (scores.shape[1], scores.shape[2]))
    levels = np.quantile(scores, 1 - np.geomspace(1, 1 / scores.size, LEVELS))
    curve = np.array([_detected(scores > level, truth, overlap, share) for level in levels])
    rbdc, tbdc = (_area(curve[:, 0], curve[:, column]) for column in (1, 2))
    return Regions(rbdc, tbdc, len(truth.areas), int(truth.tracks.max()) + 1)


@dataclass(frozen=True, eq=False)
class _Truth:
    """r true regions, cut by the cells of the heat into p pieces."""

    areas: Doubles
    """Pixels of each region, shape (r,)."""
    tracks: Ints
    """Track of each region, shape (r,)."""
    region: Ints
    cell: Ints
    """In the flattened heat."""
    pixels: Ints
    """Of each piece, as `region` and `cell`: shape (p,)."""
    cell_areas: Ints
    """Pixels of each cell of the grid, flattened."""


def _check_regions(heat: Array, masks: Array, clips: Array) -> None:
    if heat.ndim != 3 or masks.ndim != 3 or not len(heat) == len(masks) == len(clips):
        raise InvalidInput("Heat, masks and clips differ in length or shape; give one of each per frame.", "heat")
    if heat.shape[1] > masks.shape[1] or heat.shape[2] > masks.shape[2]:
        raise InvalidInput("The grid of the heat is finer than the masks; pool the heat to cells first.", "heat")
    if not np.isfinite(heat).all():
        raise InvalidInput("The heat holds NaN or infinity; correct the model that made it.", "heat")
    if not masks.any():
        raise InvalidInput("The masks are all empty; region measures need at least one anomaly.", "masks")


def _true_regions(masks: Array, clips: Array, grid: tuple[int, int]) -> _Truth:
    (high, wide), (gh, gw) = masks.shape[1:], grid
    rows, columns = np.arange(high) * gh // high, np.arange(wide) * gw // wide
    regions, tracks, cells = [], [], []
    n_regions = n_tracks = 0
    for clip in np.unique(clips):
        frames = np.flatnonzero(clips == clip)
        part = masks[frames].astype(np.bool_, copy=False)
        at, y, x = np.nonzero(part)
        (region, more), (track, moving) = ndimage.label(part, IN_FRAME), ndimage.label(part, OVER_TIME)
        regions.append(region[at, y, x].astype(np.int64) - 1 + n_regions)
        tracks.append(track[at, y, x].astype(np.int64) - 1 + n_tracks)
        cells.append((frames[at] * gh + rows[y]) * gw + columns[x])
        n_regions, n_tracks = n_regions + more, n_tracks + moving
    region, cell = np.concatenate(regions), np.concatenate(cells)
    track_of = np.zeros(n_regions, np.int64)
    track_of[region] = np.concatenate(tracks)
    pieces, pixels = np.unique(np.stack([region, cell]), axis=1, return_counts=True)
    cell_areas = np.outer(np.bincount(rows, minlength=gh), np.bincount(columns, minlength=gw)).ravel()
    return _Truth(np.bincount(region).astype(np.float64), track_of, pieces[0], pieces[1], pixels, cell_areas)


def _detected(hot: Array, truth: _Truth, overlap: float, share: float) -> tuple[float, float, float]:
    """False regions per frame, share of the regions detected, share of the tracks detected."""
    labels, count = ndimage.label(hot, IN_FRAME)
    flat = labels.ravel()
    sizes = np.bincount(flat, weights=np.tile(truth.cell_areas, len(hot)), minlength=count + 1)
    met = flat[truth.cell] > 0
    key = truth.region[met] * (count + 1) + flat[truth.cell][met]
    pairs, place = np.unique(key, return_inverse=True)
    shared = np.bincount(place, weights=truth.pixels[met], minlength=len(pairs))
    region, found = np.divmod(pairs, count + 1)
    right = shared / (sizes[found] + truth.areas[region] - shared) >= overlap
    seen = np.zeros(len(truth.areas), np.bool_)
    seen[region[right]] = True
    followed = np.bincount(truth.tracks, weights=seen) / np.bincount(truth.tracks) >= share
    false = count - len(np.unique(found[right]))
    return false / len(hot), float(seen.mean()), float(followed.mean())


def _area(fpr: Doubles, rate: Doubles) -> float:
    order = np.lexsort((rate, fpr))
    x, y = fpr[order], np.maximum.accumulate(rate[order])
    inside = x <= 1
    end = np.interp(1.0, x, y)
    x, y = np.concatenate([[0.0], x[inside], [1.0]]), np.concatenate([[0.0], y[inside], [end]])
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))
