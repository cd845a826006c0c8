"""In steps a retraining begins with the cheapest that has not just been tried."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from keepfit.data.snapshot import Split
from keepfit.evaluation.evaluator import Evaluation
from keepfit.pipelines.starting import SETTLED, begin
from keepfit.registry.registry import Lineage, ModelVersion
from keepfit.training.recipe import Recipe, Start

NOW = datetime(2025, 3, 1, tzinfo=UTC)
NOTHING = Evaluation("snapshot", Split.TEST, 0, (), {}, {}, ())


def made(start: Start, ago: timedelta, number: int = 3) -> ModelVersion:
    lineage = Lineage("snapshot", Recipe(start=start), "routine", "job", number - 1, "code")
    return ModelVersion("m", number, lineage, NOTHING, NOW - ago)


@pytest.mark.parametrize(
    ("tried", "ago", "start"),
    [
        ("new", timedelta(hours=1), "recalibrate"),
        ("recalibrate", timedelta(hours=1), "warm"),
        ("warm", timedelta(days=6), "new"),
        ("warm", SETTLED, "recalibrate"),
    ],
)
def test_the_next_step_follows_from_the_last_one(tried: Start, ago: timedelta, start: Start) -> None:
    decision = begin("steps", 2, [made(tried, ago), made("new", ago + timedelta(days=1), 2)], NOW)
    assert decision.evidence["start"] == start
    assert start in decision.because[0]


STARTS: tuple[Start, ...] = ("steps", "warm", "recalibrate", "new")


@pytest.mark.parametrize("asked", STARTS)
def test_the_first_version_begins_anew_whatever_is_asked(asked: Start) -> None:
    assert begin(asked, None, [], NOW).evidence["start"] == "new"


def test_a_step_that_is_named_is_taken() -> None:
    decision = begin("warm", 2, [made("recalibrate", timedelta(hours=1))], NOW)
    assert decision.evidence["start"] == "warm"
    assert "version 2" in decision.because[0]
