"""What is counted of two versions, and what it says: pairs of labels, and signs without labels."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from keepfit.data.comparing import Brief
from keepfit.data.records import ABSTAINED, MS
from keepfit.monitoring.comparison import COMPARED, Counts, Normal, Paired, Sides, counted

NOW = datetime(2025, 1, 1, tzinfo=UTC)
NORMAL = Normal(slow_ms=100.0, unsure_below=0.6)


def brief(version: int, label: str = "a", confidence: float = 0.9, **more: object) -> Brief:
    return Brief(version, label, confidence, NOW, **more)  # type: ignore[arg-type]


def test_an_answer_is_counted_under_all_that_it_is() -> None:
    slow = brief(2, measures={MS: 200.0, ABSTAINED: 1.0}, confidence=0.5)
    counts = counted({}, [slow, brief(1, "b", shadow=True)], NORMAL)
    assert counts["answered"] == {"2": 1, "1": 1}
    assert counts["heard"] == {"2": 1}
    assert counts["abstained"] == counts["unsure"] == counts["timed"] == counts["slow"] == {"2": 1}
    assert (counts["class a"], counts["class b"]) == ({"2": 1}, {"1": 1})


def test_counts_add_up_and_what_was_counted_stays_as_it_was() -> None:
    before = counted({}, [brief(1)], NORMAL)
    after = counted(before, [brief(1), brief(2)], NORMAL)
    assert (before["answered"], after["answered"]) == ({"1": 1}, {"1": 2, "2": 1})


def test_what_was_asked_later_is_no_part_of_the_traffic() -> None:
    assert counted({}, [brief(2, stage=COMPARED, shadow=True)], NORMAL) == {}


def test_answers_from_the_cache_are_not_timed() -> None:
    assert "timed" not in counted({}, [brief(2, stage="cache", measures={MS: 1.0})], NORMAL)


def test_what_is_slow_is_not_known_from_a_few_answers() -> None:
    few = [brief(1, measures={MS: 10.0}) for _ in range(99)]
    assert Normal.of(few) == Normal(None, None)
    found = Normal.of([*few, brief(1, measures={MS: 10.0})])
    assert (found.slow_ms, found.unsure_below) == (20.0, 0.9)


def test_an_event_is_the_challengers_with_the_chance_of_its_share_and_the_tolerance() -> None:
    counts: Counts = {"answered": {"2": 100, "1": 900}, "abstained": {"2": 3, "1": 7}}
    tally = Sides(2, 1, 1.0).tally(counts, "abstained")
    assert tally is not None
    assert (tally.hits, tally.cases) == (3, 10)
    assert tally.chance == pytest.approx(0.1)
    wider = Sides(2, 1, 1.5).tally(counts, "abstained")
    assert wider is not None
    assert wider.chance == pytest.approx(1.5 / 10.5)


def test_where_only_one_of_the_two_was_asked_there_is_nothing_to_compare() -> None:
    counts: Counts = {"answered": {"2": 100}, "abstained": {"2": 100}}
    assert Sides(2, 1).tally(counts, "abstained") is None


def test_alike_versions_give_no_sign_and_a_worse_one_does() -> None:
    rng = np.random.default_rng(3)

    def steps(rate: float) -> list[Counts]:
        return [
            {
                "answered": {"2": mine, "1": theirs},
                "abstained": {"2": int(rng.binomial(mine, rate)), "1": int(rng.binomial(theirs, 0.05))},
            }
            for mine, theirs in ((100, 1900), (500, 1500))
        ]

    def e_value(rate: float) -> float:
        return next(s.e_value for s in Sides(2, 1).signs(steps(rate), 0, 0.01) if s.name == "abstained")

    assert max(e_value(0.05) for _ in range(50)) < 20
    assert e_value(0.25) > 1000


def test_the_difference_has_bounds_and_the_sign_of_the_better_one() -> None:
    better, worse = Paired(500, 60, 10).difference(), Paired(500, 10, 60).difference()
    assert better.low > 0
    assert worse.high < 0
    assert Paired().difference().n == 0


def test_not_worse_is_proven_by_agreement_and_never_by_a_worse_one() -> None:
    assert Paired(300, 10, 10).e_not_worse(0.05) > 20
    assert Paired(300, 5, 25).e_not_worse(0.05) < 1
