"""What is counted of two versions, and what it says: pairs of labels, and signs without labels."""

from __future__ import annotations

from datetime import UTC, datetime
from math import factorial

import numpy as np
import pytest
from benchmarks.decisions.promotion import proof
from hypothesis import given
from hypothesis import strategies as st

from keepfit.data.comparing import Brief
from keepfit.data.records import ABSTAINED, MS
from keepfit.monitoring.comparison import (
    COMPARED,
    MOST_KEYS,
    Comparison,
    Counts,
    Normal,
    Paired,
    Sides,
    Tallied,
)
from keepfit.rollout.strategies import Limits, evidence_for
from keepfit.sequential import GAIN_BETS, GAIN_WEIGHTS, LARGE_BETS, LARGEST, e_above, e_not_worse, share_bounds

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


# labels where the two disagree


def test_without_a_count_of_disagreements_all_labels_count_as_asked_alike() -> None:
    assert Paired(400, 20, 20).e_not_worse(0.05) == pytest.approx(
        e_not_worse([1.0] * 20 + [-1.0] * 20 + [0.0] * 360, 0.05, LARGE_BETS)
    )


def test_two_versions_that_hardly_ever_disagree_cannot_differ_by_a_margin() -> None:
    alike = Paired(30, 0, 0, 0, met=5000, differ=50)
    assert alike.e_not_worse(0.05) == LARGEST
    assert alike.e_not_worse(0.005) < 1.01
    few = Paired(30, 0, 0, 0, met=20, differ=0)
    assert few.e_not_worse(0.05) < 20  # of twenty answers nobody knows


def test_the_gain_is_the_share_of_disagreements_times_the_gain_there() -> None:
    found = Paired(300, 160, 120, 20, met=10_000, differ=1000).difference()
    assert found.value == pytest.approx(0.1 * 40 / 300)
    assert -0.02 < found.low < found.value < found.high < 0.05
    nothing = Paired(0, 0, 0, 0, met=1000, differ=100).difference()
    assert (nothing.value, nothing.low) == (0.0, pytest.approx(-nothing.high))


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 20), st.floats(0.0, 0.2))
def test_more_wins_never_speak_against_and_a_higher_bar_never_for(
    wins: int, losses: int, ties: int, bar: float
) -> None:
    def of(won: int, least: float) -> float:
        return Paired(won + losses + ties, won, losses, ties, 5000, 500).e_better_by(least)

    assert of(wins + 1, bar) >= of(wins, bar) * (1 - 1e-9)
    assert of(wins, bar + 0.01) <= of(wins, max(bar, 1e-6)) * (1 + 1e-9)


@given(st.floats(-0.9, 0.9), st.floats(0.0, 1.0))
def test_no_bet_can_be_expected_to_grow_under_its_null(mean: float, spread: float) -> None:
    # values 1, -1 and 0 whose mean is the null's, after each of ten labels: the expectation over all outcomes is 1
    tie = spread * (1 - abs(mean))
    win, loss = (1 - tie + mean) / 2, (1 - tie - mean) / 2
    total = 0.0
    for wins in range(7):
        for losses in range(7 - wins):
            ties = 6 - wins - losses
            ways = factorial(6) / (factorial(wins) * factorial(losses) * factorial(ties))
            values = [1.0] * wins + [-1.0] * losses + [0.0] * ties
            total += ways * win**wins * loss**losses * tie**ties * e_above(values, mean, GAIN_BETS, GAIN_WEIGHTS)
    assert total == pytest.approx(1.0, abs=1e-6)


def test_a_challenger_just_at_the_bar_is_seldom_taken_however_often_one_looks() -> None:
    rng, promoted = np.random.default_rng(11), 0
    for _ in range(60):
        wins = losses = met = differ = 0
        for _ in range(20):  # a look after every fifteen labels
            new = int(rng.binomial(15, 0.6))
            wins, losses = wins + new, losses + 15 - new
            met, differ = met + 400, differ + int(rng.binomial(400, 0.1))
            if Paired(wins + losses, wins, losses, 0, met, differ).e_better_by(0.02) >= 20:
                promoted += 1
                break
    assert promoted <= 7  # 5 % of 60 are 3; more than 7 would be seen once in a hundred


def test_a_better_challenger_is_found_with_few_labels() -> None:
    rng, needed = np.random.default_rng(12), []
    for _ in range(60):
        wins = (rng.random(2000) < 0.6).cumsum()
        ends = (n for n in range(5, 2000, 5) if Paired(n, int(wins[n - 1]), n - int(wins[n - 1])).decisive >= 20)
        needed.append(next(ends, 2000))
    assert np.median(needed) < 200


def test_the_benchmark_bets_as_the_product_does() -> None:
    wins = np.array([3, 40, 70])
    n = np.array([5, 60, 100])
    counted = Paired(met=5000, differ=400)
    for limits in (Limits(better_by=0.01), Limits()):
        mine = proof(wins, n, counted, limits)
        for place, expected in enumerate(mine):
            quality = Paired(int(n[place]), int(wins[place]), int(n[place] - wins[place]), 0, 5000, 400)
            assert evidence_for(Comparison(quality), limits) == pytest.approx(float(expected))


def test_later_challengers_of_one_champion_share_the_level() -> None:
    limits = Limits()
    needed = [limits.proves(place) for place in range(1, 200)]
    assert needed[0] == pytest.approx(20)
    assert sum(1 / one for one in needed) < 2 * limits.level


def test_a_share_lies_within_its_bounds_at_all_looks_together() -> None:
    rng, missed = np.random.default_rng(13), 0
    for _ in range(100):
        hits = (rng.random(2000) < 0.08).cumsum()
        looks = [share_bounds(int(hits[n - 1]), n, 0.05) for n in (20, 60, 200, 600, 2000)]
        missed += not all(low <= 0.08 <= high for low, high in looks)
    assert missed <= 8


@given(
    st.integers(0, 40), st.integers(0, 40), st.integers(0, 40), st.integers(0, 8), st.data(),
    st.sampled_from([0, 2000]),
)  # fmt: skip
def test_whatever_the_unanswered_questions_hide_proves_no_less(
    wins: int, losses: int, ties: int, unanswered: int, data: st.DataObject, met: int
) -> None:
    differ = wins + losses + ties + unanswered if met else 0
    known = Paired(wins + losses + ties, wins, losses, ties, met, differ, unanswered=unanswered)
    more = data.draw(st.integers(0, unanswered))
    whole = Paired(known.n + unanswered, wins + more, losses + unanswered - more, ties, met, differ)
    assert known.e_worse <= whole.e_worse * (1 + 1e-9)
    assert known.e_better_by(0.0) <= whole.e_better_by(0.0) * (1 + 1e-9)
    if unanswered == 0:
        assert known.difference() == whole.difference()
