"""In steps a retraining begins with the cheapest that has not just been tried."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from keepfit.data.records import StoredDecision
from keepfit.pipelines.starting import SETTLED, begin, chosen
from keepfit.training.recipe import Start

NOW = datetime(2025, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
EVERY: tuple[Start, ...] = ("new", "warm", "recalibrate")
WITHOUT_NEWER: tuple[Start, ...] = ("new", "warm")


def tried(start: Start, ago: timedelta = HOUR) -> StoredDecision:
    return StoredDecision("job-start", "m", NOW - ago, "start", chosen(start, 1, "it was its turn"))


@pytest.mark.parametrize(
    ("last", "newer", "start"),
    [
        (None, True, "recalibrate"),
        (tried("new"), True, "recalibrate"),
        (tried("recalibrate"), True, "warm"),
        (tried("warm", timedelta(days=6)), True, "new"),
        (tried("warm", SETTLED), True, "recalibrate"),
        (None, False, "warm"),
        (tried("new"), False, "warm"),
        (tried("recalibrate"), False, "warm"),
        (tried("warm"), False, "new"),
        (tried("new", SETTLED), False, "warm"),
    ],
)
def test_the_next_step_follows_from_the_last_one(last: StoredDecision | None, newer: bool, start: Start) -> None:
    decision = begin("steps", 2, EVERY if newer else WITHOUT_NEWER, last, NOW)
    assert decision.evidence == {"start": start, "parent": 2}
    assert start in decision.because[0]


STARTS: tuple[Start, ...] = ("steps", "warm", "recalibrate", "new")


@pytest.mark.parametrize("asked", STARTS)
def test_the_first_version_begins_anew_whatever_is_asked(asked: Start) -> None:
    assert begin(asked, None, EVERY, None, NOW).evidence == {"start": "new", "parent": None}


def test_a_step_that_is_named_is_taken() -> None:
    decision = begin("warm", 2, EVERY, tried("recalibrate"), NOW)
    assert decision.evidence == {"start": "warm", "parent": 2}
    assert "version 2" in decision.because[0]
