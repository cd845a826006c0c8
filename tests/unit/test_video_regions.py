"""Where something is, and what the denoiser is asked about."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from keepfit.tasks.video.features import CELL, CHANNELS, LEVELS, ErrorMaps
from keepfit.tasks.video.preparation import MULTIPLE, PAST, Preparation
from keepfit.tasks.video.regions import FEWEST, MOST, TILE, Region, busy, noise_of, regions

ROWS, COLUMNS = 12, 20


class Asked:
    """Stands where the denoiser stands: notes what it is asked about, and is wrong by a tenth everywhere."""

    precision, device = "fp32", "cpu"

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.places: list[NDArray[np.float32]] = []

    def infer(self, inputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        self.shapes.append(inputs["noisy"].shape)
        self.places.append(inputs["place"][0])
        return {"denoised": inputs["noisy"] + np.float32(0.1)}


def pictures(things: list[tuple[int, int]], n: int = 1) -> NDArray[np.float32]:
    """An empty scene with things of two tiles on each side, by their first row and column of tiles."""
    found = np.zeros((n, ROWS * TILE, COLUMNS * TILE), np.float32)
    for row, column in things:
        found[:, row * TILE : (row + 2) * TILE, column * TILE : (column + 2) * TILE] = 0.5
    return found


def maps_of(still: float, things: list[tuple[int, int]], n: int = 1) -> tuple[Asked, NDArray[np.float32]]:
    asked, now = Asked(), pictures(things, n)
    preparation = Preparation(np.zeros((ROWS * TILE, COLUMNS * TILE), np.uint8), still)
    return asked, ErrorMaps(asked, preparation).of(now, np.repeat(now[:, None], len(PAST), axis=1))


flags = st.lists(st.tuples(st.integers(0, ROWS - 1), st.integers(0, COLUMNS - 1)), max_size=12)


@given(flags)
def test_regions_hold_what_is_busy_and_have_nothing_in_common(places: list[tuple[int, int]]) -> None:
    wanted = np.zeros((ROWS, COLUMNS), np.bool_)
    for row, column in places:
        wanted[row, column] = True
    count = np.zeros((ROWS, COLUMNS), np.int64)
    for region in regions(wanted):
        count[region.pixels(1)] += 1
    assert count.max(initial=0) <= 1
    assert (count[wanted] == 1).all()


@given(flags)
def test_what_the_denoiser_sees_lies_in_the_picture_and_can_be_folded(places: list[tuple[int, int]]) -> None:
    wanted = np.zeros((ROWS, COLUMNS), np.bool_)
    for row, column in places:
        wanted[row, column] = True
    for region in regions(wanted):
        seen = region.with_context(ROWS, COLUMNS)
        assert 0 <= seen.top <= region.top < region.bottom <= seen.bottom <= ROWS
        assert 0 <= seen.left <= region.left < region.right <= seen.right <= COLUMNS
        for size in (seen.bottom - seen.top, seen.right - seen.left):
            assert size >= FEWEST
            assert size * TILE % MULTIPLE == 0


def test_things_far_apart_are_looked_at_one_by_one_and_things_side_by_side_together() -> None:
    far, near = np.zeros((30, 48), np.bool_), np.zeros((30, 48), np.bool_)
    far[2:4, 2:4] = far[25:27, 40:42] = True
    near[10:12, 10:12] = near[10:12, 15:17] = True
    assert len(list(regions(far))) == 2
    assert len(list(regions(near))) == 1


def test_an_empty_scene_is_not_asked_about_and_has_no_error() -> None:
    asked, maps = maps_of(0.05, [])
    assert asked.shapes == []
    assert maps.shape == (1, CHANNELS, ROWS * TILE // CELL, COLUMNS * TILE // CELL)
    assert not maps.any()


def test_only_what_differs_from_the_empty_scene_is_asked_about() -> None:
    asked, maps = maps_of(0.05, [(5, 11)], n=2)
    assert asked.shapes == [(2 * len(LEVELS), 1, FEWEST * TILE, FEWEST * TILE)]
    top, left, height, width = asked.places[0]
    assert (height, width) == pytest.approx((FEWEST / ROWS, FEWEST / COLUMNS))
    assert top <= 5 / ROWS
    assert left <= 11 / COLUMNS
    per_tile = TILE // CELL
    inside = maps[:, 0, 5 * per_tile : 7 * per_tile, 11 * per_tile : 13 * per_tile]
    assert np.allclose(inside, 0.1, atol=1e-6)
    assert not maps[:, :, :, : 8 * per_tile].any()


def test_without_gating_the_whole_picture_is_asked_about() -> None:
    asked, maps = maps_of(0.0, [(4, 10)])
    assert asked.shapes == [(len(LEVELS), 1, ROWS * TILE, COLUMNS * TILE)]
    assert np.allclose(maps[:, 0], 0.1, atol=1e-6)


def test_what_has_vanished_is_looked_at_once_more() -> None:
    assert busy(pictures([]), pictures([(4, 10)]), 0.05)[0, 4, 10]


def test_one_tile_alone_is_noise() -> None:
    now = pictures([])
    now[0, 32:40, 80:88] = 0.5
    assert not busy(now, now, 0.05).any()


def test_still_is_what_the_noise_of_the_sensor_makes_and_never_more_than_a_bound() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.005, (8, 64, 64)).astype(np.float32)
    still = noise_of(noise)
    assert not busy(noise[4:], noise[:4], still).any()
    assert still < 0.03
    assert noise_of(noise * 100) == MOST


def test_a_drawn_scene_has_no_noise_and_is_still_all_the_same() -> None:
    still = noise_of(pictures([(4, 10)]))
    assert still > 0, "zero would say that no place is still"
    assert busy(pictures([(4, 10)]), pictures([]), still).any()


def test_regions_are_counted_from_the_corner_of_what_holds_them() -> None:
    assert Region(4, 6, 10, 12).inside(Region(2, 10, 6, 14)) == Region(2, 4, 4, 6)
