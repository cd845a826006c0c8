"""What is counted of two versions, and what it says: pairs of labels, and signs without labels."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from keepfit.data.comparing import Brief
from keepfit.data.records import ABSTAINED, MS
from keepfit.monitoring.comparison import COMPARED, MOST_KEYS, Counts, Normal, Paired, Sides, Tallied

NOW = datetime(2025, 1, 1, tzinfo=UTC)
NORMAL = Normal(slow_ms=100.0, unsure_below=0.6)


def brief(version: int, label: str = "a", confidence: float = 0.9, **more: object) -> Brief:
    return Brief(version, label, confidence, NOW, **{"key": "ann", **more})  # type: ignore[arg-type]


def counted(*briefs: Brief, both: bool = False) -> Tallied:
    tallied = Tallied()
    tallied.take(0, briefs, NORMAL, both)
    return tallied


def test_an_answer_is_counted_under_all_that_it_is() -> None:
    slow = brief(2, measures={MS: 200.0, ABSTAINED: 1.0}, confidence=0.5)
    counts = counted(slow, brief(1, "b", shadow=True)).steps["0"]
    assert counts["answered"] == {"2": 1, "1": 1}
    assert counts["heard"] == {"2": 1}
    assert counts["abstained"] == counts["unsure"] == counts["slow"] == {"2": 1}
    assert (counts["class a"], counts["class b"]) == ({"2": 1}, {"1": 1})


def test_an_event_counts_once_for_each_key_over_all_steps() -> None:
    tallied = counted(*[brief(2, measures={ABSTAINED: 1.0}, key="camera 1") for _ in range(50)])
    tallied.take(1, [brief(2, measures={ABSTAINED: 1.0}, key="camera 1")], NORMAL, False)
    tallied.take(1, [brief(1, measures={ABSTAINED: 1.0}, key="camera 2")], NORMAL, False)
    assert tallied.steps["0"]["abstained"] == {"2": 1}
    assert tallied.steps["1"]["abstained"] == {"1": 1}
    assert tallied.total("answered", 2) == 51


def test_where_both_are_asked_a_key_counts_once_for_each_and_nobody_is_slow() -> None:
    measures = {ABSTAINED: 1.0, MS: 500.0}
    tallied = counted(*[brief(v, measures=measures, shadow=v == 1) for v in (1, 2, 1, 2)], both=True)
    assert tallied.steps["0"]["abstained"] == {"1": 1, "2": 1}
    assert "slow" not in tallied.steps["0"]


def test_what_was_asked_later_is_no_part_of_the_traffic() -> None:
    assert counted(brief(2, stage=COMPARED, shadow=True)) == Tallied()


def test_answers_from_the_cache_are_not_timed() -> None:
    assert "slow" not in counted(brief(2, stage="cache", measures={MS: 1000.0})).steps["0"]


def test_only_so_many_keys_are_remembered() -> None:
    tallied = counted(*[brief(2, key=str(n)) for n in range(MOST_KEYS + 10)])
    assert tallied.total("class a", 2) == len(tallied.keys["class a"]) == MOST_KEYS


def test_what_is_slow_is_not_known_from_a_few_answers() -> None:
    few = [brief(1, measures={MS: 10.0}) for _ in range(99)]
    assert Normal.of(few) == Normal(None, None)
    found = Normal.of([*few, brief(1, measures={MS: 10.0})])
    assert (found.slow_ms, found.unsure_below) == (20.0, 0.9)


def test_an_event_is_the_challengers_with_the_chance_of_its_share_and_the_tolerance() -> None:
    counts: Counts = {"abstained": {"2": 3, "1": 7}}
    tally = Sides(2, 1, 1.0).tally(counts, "abstained", 0.1)
    assert tally is not None
    assert (tally.hits, tally.cases) == (3, 10)
    assert tally.chance == pytest.approx(0.1)
    wider = Sides(2, 1, 1.5).tally(counts, "abstained", 0.1)
    assert wider is not None
    assert wider.chance == pytest.approx(1.5 / 10.5)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_where_only_one_of_the_two_is_asked_there_is_nothing_to_compare(share: float) -> None:
    assert Sides(2, 1).tally({"abstained": {"2": 100}}, "abstained", share) is None


def test_a_worse_version_gives_a_sign() -> None:
    tallied = Tallied({"0": {"abstained": {"2": 20, "1": 60}}, "1": {"abstained": {"2": 120, "1": 70}}})
    signs = {sign.name: sign for sign in Sides(2, 1).signs(tallied, [0.05, 0.25], 0, 0.01)}
    assert signs["abstained"].e_value > 1000
    assert signs["slow"].e_value == 1.0


def test_alike_versions_are_seldom_told_apart_though_keys_differ_and_a_few_ask_most() -> None:
    """500 keys with their own rates and very different traffic, looked at 40 times: signs alone, at their level."""
    rng, harmed = np.random.default_rng(4), 0
    for _ in range(100):
        share, tallied = 0.05, Tallied()
        weights, rates = rng.pareto(1.0, 500) + 0.01, rng.beta(0.3, 4.0, 500)
        versions = np.where(rng.random(500) < share, 2, 1)
        for _ in range(40):
            asking = rng.choice(500, 100, p=weights / weights.sum())
            for key in asking[rng.random(100) < rates[asking]]:
                tallied.add_event(0, "abstained", int(versions[key]), str(key), False)
            signs = Sides(2, 1, 1.0).signs(tallied, [share], 0, 0.01)
            harmed += any(s.e_value >= 4 / (0.1 * 0.05) for s in signs if s.name == "abstained")
    assert harmed <= 2


def test_the_difference_has_bounds_and_the_sign_of_the_better_one() -> None:
    better, worse = Paired(500, 60, 10).difference(), Paired(500, 10, 60).difference()
    assert better.low > 0
    assert worse.high < 0
    assert Paired().difference().n == 0


def test_not_worse_is_proven_by_agreement_and_never_by_a_worse_one() -> None:
    assert Paired(300, 10, 10).e_not_worse(0.05) > 20
    assert Paired(300, 5, 25).e_not_worse(0.05) < 1
