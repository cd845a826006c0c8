"""The e-processes cross 1/alpha no more often than alpha while nothing is the matter, and quickly when it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from keepfit.sequential import (
    BETS,
    LARGE_ODDS,
    SMALL_ODDS,
    Tally,
    e_better,
    e_more_often,
    e_not_worse,
    mean_bounds,
)

ALPHA = 0.05
RUNS, LENGTH = 400, 1000


def running_mixture(steps: NDArray[np.float64], bets: NDArray[np.float64]) -> NDArray[np.float64]:
    """The wagers after each of the steps, shape (runs, length): the same sum as in the code, kept at every look."""
    logs = [np.log1p(bet * steps).cumsum(axis=1) for bet in bets]
    return np.asarray(np.exp(np.logaddexp.reduce(logs, axis=0) - math.log(len(bets))))


@pytest.fixture(scope="module")
def table() -> NDArray[np.float64]:
    """e_better for up to 200 disagreements."""
    return np.array(
        [[e_better(won, lost) if won + lost <= 200 else np.nan for lost in range(201)] for won in range(201)]
    )


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (3, 0), (0, 3), (7, 5), (40, 20)])
def test_e_better_is_the_integral_that_it_claims_to_be(wins: int, losses: int) -> None:
    n = wins + losses
    exact = Fraction(sum(math.comb(n + 1, i) for i in range(wins + 1)), (n + 1) * math.comb(n, wins))
    assert e_better(wins, losses) == pytest.approx(float(exact), rel=1e-9)
    p = (np.arange(200_000) + 0.5) / 400_000 + 0.5
    assert e_better(wins, losses) == pytest.approx(float(np.mean((2 * p) ** wins * (2 * (1 - p)) ** losses)), rel=1e-4)


@pytest.mark.parametrize("n", [0, 1, 7, 100])
def test_a_fair_coin_is_not_expected_to_win_anything(n: int) -> None:
    expected = sum(math.comb(n, w) / 2**n * e_better(w, n - w) for w in range(n + 1))
    assert expected <= 1 + 1e-9


def crossing_share(table: NDArray[np.float64], chance: float) -> float:
    wins = (np.random.default_rng(5).random((RUNS, 200)) < chance).cumsum(axis=1)
    losses = np.arange(1, 201) - wins
    return float((table[wins, losses] >= 1 / ALPHA).any(axis=1).mean())


def test_e_better_seldom_proves_what_is_not_so(table: NDArray[np.float64]) -> None:
    assert crossing_share(table, 0.5) <= ALPHA
    assert crossing_share(table, 0.4) <= ALPHA / 5


def test_e_better_proves_what_is_so(table: NDArray[np.float64]) -> None:
    assert crossing_share(table, 0.65) > 0.95


@pytest.mark.parametrize("mean", [-0.02, -0.05])
def test_e_not_worse_seldom_clears_a_candidate_that_is_worse(mean: float) -> None:
    diffs = disagreements(mean)
    running = running_mixture(diffs + 0.02, BETS / 0.98)
    assert e_not_worse(diffs[0], 0.02) == pytest.approx(running[0, -1])
    assert (running >= 1 / ALPHA).any(axis=1).mean() <= ALPHA


def test_e_not_worse_clears_an_equal_candidate() -> None:
    running = running_mixture(disagreements(0.0) + 0.04, BETS / 0.96)
    assert (running >= 1 / ALPHA).any(axis=1).mean() > 0.8


def disagreements(mean: float, share: float = 0.08) -> NDArray[np.float64]:
    """Differences of two models that disagree on 8 % of the examples."""
    draws = np.random.default_rng(3).random((RUNS, LENGTH))
    win, loss = (share + mean) / 2, (share - mean) / 2
    return np.where(draws < win, 1.0, np.where(draws < win + loss, -1.0, 0.0))


@pytest.mark.parametrize("mean", [0.1, 0.5, 0.93])
def test_mean_bounds_hold_at_every_moment_together(mean: float) -> None:
    values = (np.random.default_rng(7).random((RUNS, LENGTH)) < mean).astype(np.float64)
    above = running_mixture(values - mean, BETS / mean) >= 2 / ALPHA
    below = running_mixture(mean - values, BETS / (1 - mean)) >= 2 / ALPHA
    assert (above | below).any(axis=1).mean() <= ALPHA
    low, high = mean_bounds(values[0], ALPHA)
    assert (low > mean) == above[0, -1]
    assert (high < mean) == below[0, -1]


@pytest.mark.parametrize(("n", "width"), [(100, 0.25), (1000, 0.085), (20_000, 0.02)])
def test_mean_bounds_close_in(n: int, width: float) -> None:
    values = np.arange(n) % 10 != 0
    low, high = mean_bounds(values, ALPHA)
    assert low < 0.9 < high
    assert high - low < width


def test_mean_bounds_take_shares_between_nothing_and_everything() -> None:
    assert mean_bounds([], 0.05) == (0.0, 1.0)
    assert mean_bounds([1.0] * 50)[1] == 1.0
    assert mean_bounds([0.0] * 50)[0] == 0.0
    low, high = mean_bounds(np.full(200, 0.4))
    assert low < 0.4 < high
    assert high - low < 0.2


@pytest.mark.parametrize(
    "call",
    [
        lambda: e_better(-1, 0),
        lambda: e_not_worse([1.5], 0.1),
        lambda: e_not_worse([0.5], 1.0),
        lambda: e_not_worse([math.nan], 0.1),
        lambda: mean_bounds([2.0]),
        lambda: mean_bounds([0.5], 0.0),
    ],
)
def test_values_out_of_range_are_refused(call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"count|within|between"):
        call()


def test_overwhelming_evidence_stays_a_finite_number() -> None:
    assert math.isfinite(e_better(5000, 0))
    assert math.isfinite(e_not_worse(np.ones(5000), 0.1))


def test_e_more_often_is_the_product_of_what_each_case_says() -> None:
    odds = np.array([2.0])
    hit, miss = 2 / (1 - 0.25 + 2 * 0.25), 1 / (1 - 0.25 + 2 * 0.25)
    assert e_more_often([Tally(2, 5, 0.25)], odds) == pytest.approx(hit**2 * miss**3)
    steps = [Tally(1, 2, 0.25), Tally(1, 3, 0.25)]
    assert e_more_often(steps) == pytest.approx(e_more_often([Tally(2, 5, 0.25)]))


@pytest.mark.parametrize("chance", [0.01, 0.05, 0.5])
def test_cases_with_their_chance_are_not_expected_to_prove_anything(chance: float) -> None:
    for odds in (SMALL_ODDS, LARGE_ODDS):
        n = 40
        weights = [math.comb(n, k) * chance**k * (1 - chance) ** (n - k) for k in range(n + 1)]
        expected = sum(w * e_more_often([Tally(k, n, chance)], odds) for k, w in enumerate(weights))
        assert expected == pytest.approx(1.0)


def test_a_chance_of_one_proves_nothing() -> None:
    assert e_more_often([Tally(50, 50, 1.0)]) == 1.0


@pytest.mark.parametrize("wrong", [Tally(3, 2, 0.5), Tally(-1, 2, 0.5), Tally(1, 2, 0.0), Tally(1, 2, 1.5)])
def test_tallies_that_cannot_be_are_refused(wrong: Tally) -> None:
    with pytest.raises(ValueError, match="no tally can be"):
        e_more_often([wrong])
