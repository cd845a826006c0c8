"""What errors are usual, and when a motion error is a surprise."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from keepfit.errors import InvalidInput
from keepfit.tasks.video.features import CHANNELS
from keepfit.tasks.video.normality import HIGHEST, MOTION, SURPRISES, WIDTH, Normal, expected, usual

ROWS, COLUMNS = 16, 24


def scene(n: int, seed: int, factor: float = 1.0) -> NDArray[np.float32]:
    """Things of different texture on an empty ground; their motion error is `factor` times half their look error."""
    rng = np.random.default_rng(seed)
    look = np.zeros((n, ROWS, COLUMNS))
    for frame in look:
        row, column = rng.integers(0, ROWS - 8), rng.integers(0, COLUMNS - 8)
        frame[row : row + 8, column : column + 8] = rng.uniform(0.1, 0.6)
    maps = np.abs(rng.normal(0, 0.002, (n, CHANNELS, ROWS, COLUMNS)))
    maps[:, :4] += look[:, None]
    maps[:, 4:8] += factor * 0.5 * look[:, None]
    return maps.astype(np.float32)


@pytest.fixture(scope="module")
def normal() -> Normal:
    return usual(scene(64, seed) for seed in range(4))


def highest(normal: Normal, maps: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(normal(maps)[:, -SURPRISES:].mean(axis=1).max(axis=(1, 2)))


def test_normal_frames_are_within_a_few_spreads_of_the_usual_surprise(normal: Normal) -> None:
    said = highest(normal, scene(200, 9))
    assert abs(np.median(said)) < 1
    assert np.percentile(said, 99) < 4


def test_a_motion_error_beyond_what_goes_with_the_look_is_a_surprise(normal: Normal) -> None:
    assert np.percentile(highest(normal, scene(200, 9, factor=1.6)), 20) > 4


def test_a_hard_look_alone_is_none(normal: Normal) -> None:
    """The largest look errors of all, with the motion errors that go with them."""
    maps = scene(200, 9)
    hard = maps[:, :4].max(axis=(1, 2, 3)) > 0.55
    assert hard.sum() > 5
    assert np.median(highest(normal, maps)[hard]) < 3


def test_a_look_harder_than_all_that_was_seen_is_allowed_no_more_motion_error(normal: Normal) -> None:
    """New texture is a surprise even where it moves as usual: nobody has seen what goes with it."""
    assert np.median(highest(normal, scene(100, 9) * 2)) > 4


def test_values_are_bounded_and_fit_the_head(normal: Normal) -> None:
    found = normal(scene(3, 1) * 100)
    assert found.shape == (3, WIDTH, ROWS, COLUMNS)
    assert found.max() <= HIGHEST


def test_the_usual_motion_error_rises_with_the_look_and_ends_where_the_boxes_end() -> None:
    look = np.linspace(0, 1, 4_800, dtype=np.float32).reshape(2, 40, 60)
    looks, curves = expected(look, np.stack([look * 2, look * 0 + 1], axis=1))
    assert curves[0] == pytest.approx(2 * looks, abs=1e-6)
    assert curves[1] == pytest.approx(np.ones(len(looks)))
    assert np.all(np.diff(looks) > 0)
    assert len(MOTION) == SURPRISES == 2


def test_too_few_boxes_make_no_range_of_their_own() -> None:
    look = np.concatenate([np.zeros(1_000), [1.0]]).astype(np.float32).reshape(1, 1, -1)
    looks, _ = expected(look, look[:, None])
    assert looks.tolist() == [0.0]


def test_without_frames_there_is_nothing_usual() -> None:
    with pytest.raises(InvalidInput, match="longer video"):
        usual([])


def test_it_comes_back_from_the_arrays_that_it_is_kept_as(normal: Normal) -> None:
    again = Normal.of(vars(normal))
    assert np.array_equal(again(scene(2, 3)), normal(scene(2, 3)))
