"""The threshold of a video: calibrated on normal seconds, honest about them, and the same live and afterwards."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from keepfit.errors import InvalidInput
from keepfit.tasks.video.thresholding import (
    EXIT_SHARE,
    SECONDS_PER_DAY,
    Hysteresis,
    block_maxima,
    calibrate,
    label,
    p_values,
    usual_score,
)
from keepfit.tasks.video.timeline import Threshold

LEVELS = Threshold(enter=2.0, exit=1.0, min_frames=3)


def clip(n: int, *cuts: int) -> NDArray[np.bool_]:
    starts = np.zeros(n, bool)
    starts[[0, *cuts]] = True
    return starts


def labels_of(*scores: float, cuts: tuple[int, ...] = (), threshold: Threshold = LEVELS) -> list[int]:
    return label(np.array(scores, np.float32), clip(len(scores), *cuts), threshold).tolist()


def test_blocks_are_seconds_that_do_not_cross_a_start_and_short_rests_are_dropped() -> None:
    scores = np.array([1, 2, 3, 4, 9, 5, 6, 7, 8, 7, 20], np.float32)
    assert block_maxima(scores, 4.0, clip(11)).tolist() == [4, 9, 20]
    assert block_maxima(scores, 4.0, clip(11, 5)).tolist() == [4, 8, 20], "9 was a rest of a quarter of a second"
    assert block_maxima(scores, 29.97, clip(11)).tolist() == [], "eleven of thirty frames are less than half a second"
    assert block_maxima(scores[:3], 0.5, clip(3)).tolist() == [1, 2, 3], "a frame may last longer than a second"


def test_a_p_value_counts_the_normal_seconds_that_are_as_high() -> None:
    maxima = np.array([1.0, 2.0, 2.0, 3.0])
    assert p_values(np.array([0.0, 2.0, 3.0, 9.0]), maxima).tolist() == [1.0, 0.8, 0.4, 0.2]
    assert float(p_values(1.0, np.zeros(0))) == 1.0, "no calibration, no evidence"


def test_a_conformal_threshold_has_the_smallest_level_whose_p_value_fits_the_budget() -> None:
    rng = np.random.default_rng(3)
    maxima, budget = rng.normal(size=400).astype(np.float32), 0.05 * SECONDS_PER_DAY
    found = calibrate(maxima, 1.0, clip(400), budget)
    assert (found.method, found.blocks) == ("conformal", 400)
    below = np.nextafter(np.float32(found.enter), np.float32(-9))
    assert float(p_values(found.enter, maxima)) <= 0.05 < float(p_values(below, maxima))
    assert "conformal quantile" in found.note


def test_a_calibrated_threshold_keeps_its_budget_on_fresh_normal_seconds() -> None:
    rng, share = np.random.default_rng(4), []
    for _ in range(200):
        found = calibrate(rng.normal(size=60), 1.0, clip(60), 0.1 * SECONDS_PER_DAY)
        share.append(np.mean(rng.normal(size=100) >= found.enter))
    assert 0.06 < np.mean(share) < 0.11


def test_beyond_what_the_blocks_show_the_threshold_is_extrapolated_and_says_so() -> None:
    rng = np.random.default_rng(5)
    scores = rng.gumbel(3.0, 0.5, size=450).astype(np.float32)
    found = calibrate(scores, 10.0, clip(450, 150, 300))
    assert (found.method, found.blocks) == ("extrapolated", 45)
    assert found.enter > block_maxima(scores, 10.0, clip(450)).max()
    assert found.note == (
        "45 blocks of normal video: the smallest p is 2.2 %; 1 alarm a day needs 86,400 blocks (24 h), "
        "so the threshold is extrapolated by a Gumbel fit"
    )


def test_the_extrapolation_finds_the_quantile_of_a_gumbel_law() -> None:
    rng = np.random.default_rng(6)
    found = [calibrate(rng.gumbel(size=500), 1.0, clip(500), 10.0).enter for _ in range(40)]
    true = -np.log(-np.log1p(-10 / SECONDS_PER_DAY))
    assert np.mean(found) == pytest.approx(true, rel=0.05)
    assert np.std(found) < 0.1 * true


def test_more_alarms_a_day_lower_the_threshold_and_constant_scores_give_one_just_above() -> None:
    scores = np.random.default_rng(7).normal(size=300)
    enters = [calibrate(scores, 10.0, clip(300), budget).enter for budget in (0.1, 1.0, 24.0, 20_000.0)]
    assert enters == sorted(enters, reverse=True)
    constant = calibrate(np.full(60, 0.3, np.float32), 10.0, clip(60))
    assert 0 < constant.enter - float(np.float32(0.3)) < 1e-6
    assert constant.exit <= constant.enter
    assert not label(np.full(60, 0.3, np.float32), clip(60), constant).any(), "normal itself is no alarm"


def test_exit_lies_between_the_usual_score_and_enter_and_never_above_enter() -> None:
    scores = np.random.default_rng(8).normal(size=300)
    found = calibrate(scores, 10.0, clip(300))
    median = float(np.median(scores))
    assert found.exit == pytest.approx(median + EXIT_SHARE * (found.enter - median), abs=1e-5)
    assert usual_score(found) == pytest.approx(median, abs=1e-5)
    low = calibrate(scores, 10.0, clip(300), 86_000.0)
    assert low.exit <= low.enter


@pytest.mark.parametrize(
    ("scores", "fps", "budget", "field", "words"),
    [
        ([np.nan] * 100, 10.0, 1.0, "scores", "100 of 100"),
        ([0.0] * 99 + [np.inf], 10.0, 1.0, "scores", "1 of 100"),
        ([0.0] * 44, 10.0, 1.0, "scores", "4 seconds"),
        ([], 10.0, 1.0, "scores", "no scores"),
        ([0.0] * 100, 0.0, 1.0, "fps", "frame rate"),
        ([0.0] * 100, float("nan"), 1.0, "fps", "frame rate"),
        ([0.0] * 100, 10.0, 0.0, "alarms_per_day", "no budget"),
        ([0.0] * 100, 10.0, 1e6, "alarms_per_day", "86,400"),
    ],
)
def test_a_calibration_that_cannot_be_is_refused(
    scores: list[float], fps: float, budget: float, field: str, words: str
) -> None:
    with pytest.raises(InvalidInput, match=words) as refused:
        calibrate(np.array(scores), fps, np.zeros(len(scores), bool), budget)
    assert refused.value.field == field


def test_starts_of_another_length_are_refused() -> None:
    for refuse in (lambda: block_maxima(np.zeros(9), 3.0, clip(8)), lambda: label(np.zeros(9), clip(8), LEVELS)):
        with pytest.raises(InvalidInput, match="one for each"):
            refuse()


def test_an_alarm_needs_enough_scores_in_a_row_and_ends_below_exit() -> None:
    assert labels_of(2, 2, 0, 2, 2, 2, 1.5, 1, 0.9, 2, 2) == [0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0]


def test_after_an_alarm_the_next_needs_its_own_scores_in_a_row() -> None:
    assert labels_of(3, 3, 3, 0, 3, 3, 3) == [0, 0, 1, 0, 0, 0, 1]


def test_a_start_ends_an_alarm_and_forgets_what_led_to_one() -> None:
    assert labels_of(3, 3, 3, 3, 3, 3, cuts=(3,)) == [0, 0, 1, 0, 0, 1]
    assert labels_of(3, 3, 3, 3, cuts=(2,)) == [0, 0, 0, 0]


def test_one_frame_is_enough_where_the_threshold_says_so() -> None:
    assert labels_of(0, 2, 1, 0, threshold=replace(LEVELS, min_frames=1)) == [0, 1, 1, 0]


def test_the_stream_says_what_the_whole_array_says_even_when_paused_at_any_frame() -> None:
    rng = np.random.default_rng(11)
    scores, starts = (rng.normal(1.2, 1.0, 300)).astype(np.float32), rng.random(300) < 0.03
    whole = label(scores, starts, LEVELS)
    assert 0 < whole.sum() < 300
    machine, heard = Hysteresis(LEVELS), []
    for score, start in zip(scores, starts, strict=True):
        heard.append(machine.step(score, bool(start)))
        state = json.loads(json.dumps(machine.state()))
        machine = Hysteresis(LEVELS)
        machine.restore(state)
    assert heard == whole.tolist()


def test_labels_look_back_only() -> None:
    scores = np.random.default_rng(12).normal(1.2, 1.0, 120).astype(np.float32)
    whole = label(scores, clip(120), LEVELS)
    for n in range(1, 120, 7):
        assert label(scores[:n], clip(n), LEVELS).tolist() == whole[:n].tolist()


def test_a_score_a_hair_below_enter_is_no_alarm_whatever_its_precision() -> None:
    narrow = Threshold(enter=0.1 + 1e-12, exit=0.0, min_frames=1)
    assert Hysteresis(narrow).step(0.1) == 0
    assert Hysteresis(Threshold(enter=float(np.float32(0.1)), exit=0.0, min_frames=1)).step(np.float32(0.1)) == 1


@pytest.mark.parametrize(
    "threshold",
    [
        Threshold(1.0, 2.0),
        Threshold(float("nan"), 0.0),
        Threshold(2.0, float("nan")),
        Threshold(2.0, 1.0, min_frames=0),
    ],
)
def test_a_threshold_that_makes_no_sense_is_refused(threshold: Threshold) -> None:
    with pytest.raises(InvalidInput, match="make no threshold"):
        Hysteresis(threshold)


@pytest.mark.parametrize("state", [{}, {"on": 2, "run": 0}, {"on": 0, "run": -1}, {"on": "x", "run": 0}])
def test_a_state_that_is_none_is_refused(state: dict[str, int]) -> None:
    with pytest.raises(InvalidInput, match="start the stream anew"):
        Hysteresis(LEVELS).restore(state)


def test_a_score_that_is_no_number_is_refused_in_a_stream() -> None:
    with pytest.raises(InvalidInput, match="no finite number"):
        Hysteresis(LEVELS).step(float("nan"))
