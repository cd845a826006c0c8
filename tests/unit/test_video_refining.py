"""A camera's threshold, judged anew from what its windows reached: when, from what, and what comes of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from keepfit.decision import Decision, Outcome
from keepfit.tasks.video.refining import FEWEST, GROWTH, STEP, Levels, judge
from keepfit.tasks.video.thresholding import SECONDS_PER_DAY
from keepfit.tasks.video.timeline import Threshold

WINDOW_S = 3.2
PER_DAY = SECONDS_PER_DAY / WINDOW_S
OWN = Threshold(enter=12.0, exit=3.6, alarms_per_day=PER_DAY / 20, blocks=23, method="extrapolated")


def life(n: int, seed: int = 1) -> NDArray[np.float64]:
    return np.random.default_rng(seed).gumbel(1.0, 0.8, n)


def judged(n: int, before: int = 0, base: Threshold = OWN) -> Decision | None:
    return judge("gate 3", base, Levels().changed(life(n)), WINDOW_S, before)


def test_levels_are_counted_in_steps_and_stand_for_their_tops() -> None:
    values = life(500)
    kept = Levels().changed(values[:200]).changed(values[200:]).changed(fewer=values[:100])
    assert kept.n == 400
    above = kept.values - np.sort(values[100:])
    assert (above > 0).all()
    assert (above <= STEP + 1e-9).all()


def test_a_day_of_life_takes_no_more_room_than_an_hour() -> None:
    assert len(Levels().changed(life(27_000)).counts) < 1_000


def test_a_window_that_was_not_there_cannot_be_taken_away() -> None:
    assert Levels().changed([1.0], fewer=[5.0, 5.0]).n == 1


def test_too_little_life_is_waited_for_and_said_once() -> None:
    first = judged(2)
    assert first is not None
    assert first.outcome is Outcome.WAIT
    assert f"has shown 2 windows and {FEWEST} are needed" in first.because[0]
    assert judged(FEWEST - 1, before=2) is None


def test_life_must_have_lasted_as_long_as_what_the_version_was_judged_by() -> None:
    known = replace(OWN, blocks=1_000)
    assert judged(312, before=2, base=known) is None
    found = judged(313, before=2, base=known)
    assert found is not None
    assert found.outcome is Outcome.PASS


def test_it_is_judged_again_only_after_much_more_life() -> None:
    assert judged(int(200 * GROWTH) - 1, before=200) is None
    assert judged(int(200 * GROWTH), before=200) is not None


@pytest.mark.parametrize("n", [400, 4_000])
def test_fresh_life_reaches_the_threshold_about_as_often_as_the_budget_says(n: int) -> None:
    found = judged(n)
    assert found is not None
    threshold = Threshold(**found.evidence["threshold"])
    assert (threshold.method, threshold.blocks) == ("conformal", n)
    share = np.mean(life(200_000, seed=2) >= threshold.enter)
    assert 0.02 < share < 0.08, "a twentieth is the budget"
    assert threshold.exit < threshold.enter


def test_beyond_what_was_seen_it_is_extrapolated_and_says_so() -> None:
    found = judged(400, base=replace(OWN, alarms_per_day=1.0))
    assert found is not None
    threshold = Threshold(**found.evidence["threshold"])
    assert threshold.method == "extrapolated"
    assert "extrapolated by a Gumbel fit" in found.because[0]
    assert threshold.alarms_per_day == 1.0
    assert threshold.enter == pytest.approx(1.0 + 0.8 * np.log(PER_DAY), rel=0.2), "the law that life was drawn from"


def test_what_is_usual_stays_that_of_the_version() -> None:
    found = judged(400)
    assert found is not None
    threshold = Threshold(**found.evidence["threshold"])
    usual = 12.0 - (12.0 - 3.6) / 0.3
    assert threshold.exit == pytest.approx(usual + 0.7 * (threshold.enter - usual), rel=1e-5)


def test_a_budget_that_windows_cannot_keep_is_said() -> None:
    found = judged(400, base=replace(OWN, alarms_per_day=30_000.0))
    assert found is not None
    assert found.outcome is Outcome.FAIL
    assert "cannot be judged anew: 30000.0 alarms a day are no budget" in found.because[0]
