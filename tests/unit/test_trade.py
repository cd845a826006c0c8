"""The threshold of a first stage is honest: what is not kept is taken no more often than stated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from keepfit.intervals import exact_high, exact_low
from keepfit.tasks.trade import COVERAGES, Point, Terms, Trade, accept, measure, thresholds_for


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.001, 0.4))
def test_exact_bounds_are_those_of_clopper_and_pearson(counts: tuple[int, int], alpha: float) -> None:
    k, n = counts
    high = 1.0 if k == n else beta.ppf(1 - alpha, k + 1, n - k)
    low = 0.0 if k == 0 else beta.ppf(alpha, k, n - k + 1)
    assert exact_high(k, n, alpha) == pytest.approx(high, abs=1e-6)
    assert exact_low(k, n, alpha) == pytest.approx(low, abs=1e-6)


def drawn(rng: np.random.Generator, chances: np.ndarray, n: int) -> Trade:
    """Rows whose first stage is as sure as its place; chances (m, 3) of win, loss, both wrong otherwise by place."""
    places = rng.integers(0, len(chances), n)
    kind = (rng.random(n)[:, None] > np.cumsum(chances[places], axis=1)).sum(axis=1)
    points = []
    for m in range(1, len(chances) + 1):
        sure = places < m
        wins, losses, others = (int((sure & (kind == k)).sum()) for k in range(3))
        points.append(Point(1 - m / 100, int(sure.sum()), wins, losses, wins + losses + others))
    return Trade(n, n, n, tuple(points))


@pytest.mark.parametrize("keeps", ["accuracy", "agreement"])
@pytest.mark.parametrize("n", [900, 3000])
def test_a_threshold_that_breaks_the_terms_is_taken_in_at_most_the_stated_share(keeps: str, n: int) -> None:
    rng, runs = np.random.default_rng(5), 400
    # just beyond the tolerance from the fourth place on: the hardest case
    chances = np.array([[0.002, 0.004, 0.001]] * 3 + [[0.002, 0.0445, 0.001]] * 7)
    risk = np.cumsum((chances[:, 1] - chances[:, 0]) if keeps == "accuracy" else chances.sum(axis=1)) / len(chances)
    terms = Terms(keeps, loss=0.0048, differing=0.0067, confidence=0.9)  # type: ignore[arg-type]
    broken = 0
    for _ in range(runs):
        trade = drawn(rng, chances, n)
        found = accept(trade, terms)
        if found.point is not None:
            broken += risk[trade.points.index(found.point)] > terms.most
    assert risk[2] < terms.most < risk[3]
    assert broken / runs <= 0.1 + 3 * (0.1 * 0.9 / runs) ** 0.5


def test_with_rows_enough_most_of_what_may_be_answered_is_answered() -> None:
    chances = np.array([[0.004, 0.002, 0.0]] * 8 + [[0.01, 0.2, 0.0]] * 2)
    found = accept(drawn(np.random.default_rng(0), chances, 20_000), Terms())
    assert found.point is not None
    assert found.point.sure / 20_000 == pytest.approx(0.8, abs=0.02)


def test_too_few_rows_are_said_to_be_too_few_with_the_number_that_is_needed() -> None:
    trade = Trade(200, 180, 170, (Point(0.9, 100),))
    found = accept(trade, Terms())
    assert found.threshold is None
    assert "200 held-out rows" in found.because
    assert f"{Terms().rows} or more" in found.because
    enough = Terms().rows
    assert accept(Trade(enough, enough, enough, (Point(0.9, 100),)), Terms()).threshold == 0.9
    assert accept(Trade(enough - 1, enough, enough, (Point(0.9, 100),)), Terms()).threshold is None


def test_what_comes_after_a_failure_is_not_taken_however_good_it_looks() -> None:
    points = (Point(0.9, 500), Point(0.8, 1000, losses=60, differing=60), Point(0.7, 3000, wins=90, differing=150))
    assert accept(Trade(4000, 3600, 3500, points), Terms()).threshold == 0.9


def test_a_first_stage_that_is_worse_throughout_answers_nothing_and_says_why() -> None:
    found = accept(Trade(3000, 2900, 1500, (Point(0.9, 300, losses=100, differing=100),)), Terms())
    assert found.threshold is None
    assert "surest" in found.because


@given(st.integers(2, 5), st.integers(0, 400), st.integers(0, 2**32 - 1))
def test_counts_add_up_whatever_is_measured(k: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.dirichlet(np.ones(k), n).astype(np.float32)
    truth, full = rng.integers(-1, k, n), rng.integers(0, k, n)
    trade = measure(scores, full, truth, [*thresholds_for(scores.max(axis=1, initial=0.0)), 0.0])
    everything = trade.points[-1]
    assert everything.sure == n == trade.n
    assert trade.full_right + everything.wins - everything.losses == trade.first_right
    sure = [point.sure for point in trade.points]
    assert sure == sorted(sure)
    assert all(point.wins + point.losses <= point.differing <= point.sure for point in trade.points)
    assert Trade.from_json(trade.to_json()) == trade


def test_thresholds_lie_where_they_cover_the_shares_that_are_tested() -> None:
    sure = np.random.default_rng(1).random(1000).astype(np.float32)
    found = [float((sure >= t).mean()) for t in thresholds_for(sure)]
    assert found == pytest.approx(list(COVERAGES), abs=0.003)


def test_the_speed_is_said_by_the_processor_time_of_both() -> None:
    trade = Trade(100, 90, 80, (Point(0.9, 75),), first_ms=0.1, full_ms=10.0)
    assert trade.times_faster(trade.points[0]) == pytest.approx(10 / 2.6)
    assert Trade(100, 90, 80, (Point(0.9, 75),)).times_faster(Point(0.9, 75)) is None


def test_where_nothing_is_answered_below_a_floor_no_threshold_lies_below_it() -> None:
    trade = Trade(1000, 900, 880, (Point(0.95, 400, 3, 1, 5), Point(0.8, 700, 9, 4, 15), Point(0.6, 900, 12, 9, 30)))
    assert trade.above(None) is trade
    assert trade.above(0.5) is trade
    lifted = trade.above(0.9)
    assert lifted.points == (Point(0.95, 400, 3, 1, 5), Point(0.9, 700, 3, 4, 15)), "no better than what was counted"
    assert trade.above(0.95).points == trade.points[:1]
    assert trade.above(0.99).points == (Point(0.99, 400, 0, 1, 5),)
