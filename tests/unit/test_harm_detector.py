"""The harm detector: false alarms no more often than stated, quick when there is harm, the same after a restart."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfit.monitoring.baseline import Baseline, Bursts, Sums, learn
from keepfit.monitoring.cycles import CYCLES, season, width
from keepfit.monitoring.harm import HarmDetector, Observations, Proxy, Shared

Chance = st.floats(0.01, 0.99)


@given(bound=Chance, risk=Chance, share=st.floats(0, 1), weight=st.floats(0.01, 1), surprise=st.floats(-0.9, 0.9))
def test_a_wager_is_not_expected_to_win_while_the_risk_is_within_its_bound(
    bound: float, risk: float, share: float, weight: float, surprise: float
) -> None:
    risk = min(risk, bound)
    detector = HarmDetector(proxy=Proxy(share, 0.3))
    # a surprise has mean 0 over the answers from which a label is drawn: here two that are alike in the rest
    expected = np.mean(
        [
            risk * detector.factors(1.0, bound, weight, s) + (1 - risk) * detector.factors(0.0, bound, weight, s)
            for s in (surprise, -surprise)
        ],
        axis=0,
    )
    assert (expected <= 1 + 1e-12).all()


@given(bound=Chance, share=st.floats(0, 1), mean=st.floats(0, 1), proxy=st.floats(0, 1), loss=st.floats(0, 1))
def test_no_label_takes_all_the_capital(bound: float, share: float, mean: float, proxy: float, loss: float) -> None:
    detector = HarmDetector(proxy=Proxy(share, 0.9))
    assert (detector.factors(loss, bound, 1.0, proxy - mean) > 0).all()


def test_false_alarms_come_no_more_often_than_stated() -> None:
    rng, streams, steps, answers = np.random.default_rng(7), 400, 4_000, 20_000.0
    detector = HarmDetector(
        capital=np.zeros((streams, 3)), rise=np.zeros((streams, 3)), since=np.zeros((streams, 3), int)
    )
    alarms = 0
    for _ in range(steps):
        # half of the labels are asked for with 1 %, half with 5 %, whatever the answer was
        chance = np.where(rng.random(streams) < 0.5, 0.01, 0.05)
        factor = detector.factors((rng.random(streams) < 0.1).astype(float), 0.1, 0.01 / chance)
        hit = detector.observe(factor, 1 / chance) >= answers
        alarms += int(hit.sum())
        detector.capital[hit] = 0.0
    seen = streams * steps * (0.5 / 0.01 + 0.5 / 0.05)
    assert alarms <= seen / answers
    assert alarms > 0


def test_five_points_more_errors_are_seen_soon() -> None:
    rng, delays = np.random.default_rng(8), []
    for _ in range(30):
        detector = HarmDetector()
        detector.watch(Observations.of(rng.random(500) < 0.10, 0.112), 1e4)
        found = detector.watch(Observations.of(rng.random(5_000) < 0.15, 0.112), 1e4)
        delays.append(5_000 if found is None else found - 500)
    assert np.median(delays) < 700


def test_the_beginning_of_the_harm_is_found() -> None:
    rng = np.random.default_rng(9)
    detector = HarmDetector()
    detector.watch(Observations.of(rng.random(2_000) < 0.1, 0.11), 1e6)
    detector.watch(Observations.of(rng.random(300) < 0.3, 0.11), 1e6)
    assert 1_900 <= detector.began <= 2_100


@given(st.lists(st.tuples(st.booleans(), Chance, Chance, st.floats(-0.5, 0.5)), min_size=1, max_size=80), st.data())
def test_a_restart_of_the_process_changes_no_bit(
    labels: list[tuple[bool, float, float, float]], data: st.DataObject
) -> None:
    seen = Observations.of(*map(np.array, zip(*labels, strict=True)))
    at = data.draw(st.integers(0, len(labels)))
    whole, before = HarmDetector(proxy=Proxy(0.5, 0.2)), HarmDetector(proxy=Proxy(0.5, 0.2))
    whole.watch(seen, 1e3)
    before.watch(Observations(*(column[:at] for column in vars(seen).values())), 1e3)
    after = HarmDetector.from_json(json.loads(json.dumps(before.to_json())))
    after.watch(Observations(*(column[at:] for column in vars(seen).values())), 1e3)
    assert after.to_json() == whole.to_json()


def test_the_proxy_takes_noise_away_and_leaves_the_mean() -> None:
    rng = np.random.default_rng(10)
    expected = rng.beta(1, 9, 20_000)
    losses = (rng.random(20_000) < expected).astype(float)
    proxy = Proxy.learn(losses, expected)
    left = losses - proxy.share * (expected - expected.mean())
    assert left.mean() == pytest.approx(losses.mean(), abs=1e-9)
    assert left.var() / losses.var() == pytest.approx(1 - proxy.explained, abs=0.01)
    assert proxy.explained > 0.04


@pytest.mark.parametrize("expected", [np.full(50, 0.1), np.random.default_rng(1).random(50)])
def test_a_proxy_that_explains_nothing_is_not_used(expected: np.ndarray) -> None:
    assert Proxy.learn(np.tile([0.0, 1.0], 25), expected).explained == 0.0


@given(st.integers(1, 200))
def test_the_guarantee_is_shared_out_whatever_slices_appear(slices: int) -> None:
    shared = Shared(1e6, True)
    assert sum(1e6 / shared.needed(place) for place in range(slices + 1)) <= 1 + 1e-9


def test_answers_that_are_asked_for_more_often_count_less() -> None:
    """Uncertain answers are asked five times as often and err more: the risk of all answers is what is judged."""
    rng, n = np.random.default_rng(11), 30_000
    unsure = rng.random(n) < 0.3
    chance = np.where(unsure, 0.1, 0.02)
    wrong = rng.random(n) < np.where(unsure, 0.25, 0.04)  # 10.3 % of all answers, 18 % of the labels
    asked = rng.random(n) < chance
    detector = HarmDetector()
    assert detector.watch(Observations.of(wrong[asked], 0.11, chance[asked]), 1e5) is None
    assert wrong[asked].mean() > 0.15


def moments(n: int) -> list[datetime]:
    start = datetime(2025, 3, 1, tzinfo=UTC)
    return [start + timedelta(minutes=7 * i) for i in range(n)]


def test_an_hour_that_is_always_bad_is_normal_then_and_nowhere_else() -> None:
    rng, times = np.random.default_rng(12), moments(6_000)
    columns = season(times, CYCLES)
    night = np.array([at.hour < 6 for at in times])
    losses = (rng.random(6_000) < np.where(night, 0.2, 0.08)).astype(float)
    level = Sums.none(width(CYCLES)).add((rng.random(3_000) < 0.11).astype(float), np.zeros((3_000, width(CYCLES))))
    baseline = learn(level, Sums.none(width(CYCLES)).add(losses, columns))
    at = season([datetime(2025, 5, 5, hour, tzinfo=UTC) for hour in (3, 14)], CYCLES)
    assert baseline.risk(at) == pytest.approx([0.19, 0.08], abs=0.03)


def test_life_cannot_raise_the_level_that_was_promised() -> None:
    rng, times = np.random.default_rng(13), moments(4_000)
    level = Sums.none(width(CYCLES)).add(np.repeat([1.0, 0.0], [100, 900]), np.zeros((1_000, width(CYCLES))))
    worse = Sums.none(width(CYCLES)).add((rng.random(4_000) < 0.3).astype(float), season(times, CYCLES))
    assert learn(level, worse).risk(np.zeros((1, width(CYCLES)))) == pytest.approx([0.1], abs=0.01)


def test_what_was_not_seen_widens_the_bound() -> None:
    columns = width(CYCLES)
    level = Sums.none(columns).add(np.repeat([1.0, 0.0], [1_000, 9_000]), np.zeros((10_000, columns)))
    known = Sums.none(columns).add(np.tile([1.0] + [0.0] * 9, 1_000), season(moments(10_000), CYCLES))
    noon = season([datetime(2025, 5, 5, 12, tzinfo=UTC)], CYCLES)
    assert learn(level).upper(noon, 1.0, 0.0) > learn(level, known).upper(noon, 1.0, 0.0) + 0.01


def test_a_baseline_survives_the_store() -> None:
    baseline = learn(Sums.none(2).add(np.array([0.0, 1.0, 0.0]), np.zeros((3, 2))))
    again = Baseline.from_json(json.loads(json.dumps(baseline.to_json())))
    assert (again.covariance == baseline.covariance).all()
    assert (again.coefficients == baseline.coefficients).all()


def test_seasons_are_read_in_local_time() -> None:
    """Six in the evening in Berlin, before and after the clocks change."""
    winter, summer = (datetime(2025, 1, 15, 17, tzinfo=UTC), datetime(2025, 7, 16, 16, tzinfo=UTC))
    columns = season([winter, summer], CYCLES, "Europe/Berlin")
    assert columns[0] == pytest.approx(columns[1])


def test_bursts_of_mistakes_make_labels_worth_less_and_independent_ones_do_not() -> None:
    rng, n = np.random.default_rng(14), 30_000
    alone, together = Bursts(), Bursts()
    alone.add(rng.random(n) < 0.1, np.full(n, 0.1))
    bad = np.repeat(rng.random(n // 50) < 0.2, 50)  # stretches of 50 answers, one in five of them bad
    together.add(rng.random(n) < np.where(bad, 0.3, 0.05), np.full(n, 0.1))
    assert alone.inflation == 1.0
    assert together.inflation > 3


@given(st.lists(st.booleans(), max_size=40).map(lambda some: some * 25), st.integers(0, 1000))
def test_bursts_are_counted_the_same_in_parts_and_at_once(losses: list[bool], at: int) -> None:
    whole, parts = Bursts(), Bursts()
    whole.add(losses, np.full(len(losses), 0.2))
    parts.add(losses[:at], np.full(len(losses[:at]), 0.2))
    parts.add(losses[at:], np.full(len(losses[at:]), 0.2))
    assert whole == parts
