"""The label queue: every prediction has the stated chance, and the same draw twice is the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from keepfit.data.records import STREAM, Prediction
from keepfit.errors import InvalidInput
from keepfit.monitoring.asking import draw, rate_within


def predictions(n: int, shadow: bool = False) -> list[Prediction]:
    moment = datetime(2025, 1, 1, tzinfo=UTC)
    scores, embedding = np.array([1.0], np.float32), np.zeros(1, np.float32)
    return [Prediction(f"e{i}", 1, ("a",), scores, embedding, moment, id=f"p{i}", shadow=shadow) for i in range(n)]


def test_about_the_wanted_share_is_drawn_with_its_chance() -> None:
    drawn = draw(predictions(20_000), 0.05, "m")
    assert 880 <= len(drawn) <= 1120  # four standard deviations around 1,000
    assert {d.propensity for d in drawn} == {0.05}


def test_drawing_again_or_in_parts_gives_the_same() -> None:
    every = predictions(1000)
    ids = [d.prediction.id for d in draw(every, 0.1, "m")]
    parts = draw(every[:300], 0.1, "m") + draw(every[300:], 0.1, "m")
    assert [d.prediction.id for d in parts] == ids
    assert [d.prediction.id for d in draw(every, 0.1, "other")] != ids


@pytest.mark.parametrize(("rate", "expected"), [(0.0, 0), (1.0, 500)])
def test_nothing_and_everything_can_be_asked(rate: float, expected: int) -> None:
    assert len(draw(predictions(500), rate, "m")) == expected


def test_answers_in_the_shadow_are_not_asked_about() -> None:
    assert draw(predictions(100, shadow=True), 1.0, "m") == []


def test_nobody_is_asked_what_a_live_stream_showed() -> None:
    gone = [replace(prediction, stage=STREAM) for prediction in predictions(100)]
    assert draw(gone, 1.0, "m") == []


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_that_is_no_share_is_refused(rate: float) -> None:
    with pytest.raises(InvalidInput, match="between 0 and 1"):
        draw(predictions(1), rate, "m")


def test_the_budget_lowers_the_rate_of_the_next_stretch() -> None:
    assert rate_within(0.05, 200, 1000) == 0.05
    assert rate_within(0.05, 10, 1000) == 0.01
    assert rate_within(0.05, 0, 1000) == 0.0
    assert rate_within(0.05, -3, 0) == 0.0
    assert rate_within(1.0, 5, 0) == 1.0
