"""Late labels: their lag is told, and where it depends on the answer a day counts together or not at all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from keepfit.data.asked import Question
from keepfit.intervals import Interval
from keepfit.monitoring.cohorts import cohorts_of, lag

NOW = datetime(2025, 3, 1, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def question(days: float, hours: float | None, name: str = "e", chance: float = 0.5) -> Question:
    """Asked so many days ago, and answered so many hours later."""
    at = NOW - days * DAY
    return Question(at, at, None if hours is None else at + hours * HOUR, name, chance)


def test_the_lag_is_that_of_the_labels_that_came_and_the_rest_is_told_by_age() -> None:
    found = lag([question(3, 1), question(3, 3), question(3, None), question(0.5, 2)], NOW)
    assert (found["asked"], found["answered"]) == (4, 3)
    assert found["median_s"] == 2 * 3600
    assert found["by_age"]["hour"] == pytest.approx(1 / 4)
    assert found["by_age"]["day"] == pytest.approx(2 / 3)
    assert found["by_age"]["month"] is None


def test_nothing_asked_has_no_lag() -> None:
    assert lag([], NOW)["median_s"] is None


def test_a_day_waits_until_enough_of_it_is_answered() -> None:
    early = [question(2, 1, f"a{n}") for n in range(19)] + [question(2, None, "a19")]
    late = [question(1, 1, f"b{n}") for n in range(5)] + [question(1, None, f"b{n}") for n in range(5, 10)]
    found = cohorts_of([*early, *late], 0.95, "UTC", NOW - 30 * DAY)
    assert found.open == {f"b{n}" for n in range(10)}
    assert found.missing == pytest.approx(1 / 20)


def test_a_day_that_nobody_will_answer_any_more_counts_with_the_missing_at_their_worst() -> None:
    old = [question(40, 1, "a"), question(40, None, "b")]
    found = cohorts_of(old, 0.95, "UTC", NOW - 30 * DAY)
    assert (found.open, found.missing) == (frozenset(), 0.5)
    bounded = found.bounded(Interval(0.9, 0.8, 0.95, 10))
    assert (bounded.low, bounded.high) == pytest.approx((0.4, 0.975))


def test_a_lag_that_knows_the_answer_biases_what_counts_at_arrival_and_no_complete_day() -> None:
    rng = np.random.default_rng(0)
    asked, right = [], {}
    for n in range(3000):
        days = float(rng.uniform(0, 30))
        right[f"e{n}"] = bool(rng.random() < 0.8)
        hours = 1.0 if right[f"e{n}"] else 24.0 * 10
        arrived = hours <= days * 24
        asked.append(question(days, hours if arrived else None, f"e{n}"))
    came = [one for one in asked if one.answered is not None]
    found = cohorts_of(asked, 0.95, "UTC", NOW - 60 * DAY)
    counted = [right[one.example_id] for one in came if one.example_id not in found.open]
    assert np.mean([right[one.example_id] for one in came]) > 0.84
    assert np.mean(counted) == pytest.approx(0.8, abs=0.04)
