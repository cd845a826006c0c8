"""Intervals are as wide as they must be, and no wider where they are exact."""

from __future__ import annotations

import math

import numpy as np
import pytest

from keepfit.intervals import paired_interval, sign_test, wilson


@pytest.mark.parametrize(("successes", "n", "low", "high"), [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (0, 0, 0, 1)])
def test_wilson_stays_between_nothing_and_everything(successes: int, n: int, low: float, high: float) -> None:
    found = wilson(successes, n)
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-3), pytest.approx(high, abs=1e-3))


@pytest.mark.parametrize(("wins", "losses"), [(1, 0), (8, 2), (2, 8), (60, 41)])
def test_the_sign_test_is_the_tail_of_a_fair_coin(wins: int, losses: int) -> None:
    n = wins + losses
    assert sign_test(wins, losses) == pytest.approx(sum(math.comb(n, i) for i in range(wins, n + 1)) / 2**n)


@pytest.mark.parametrize(("n", "gain", "loss"), [(40, 0.05, 0.05), (300, 0.08, 0.04), (300, 0.01, 0.0)])
def test_the_paired_interval_covers_the_true_difference(n: int, gain: float, loss: float) -> None:
    draws = np.random.default_rng(2).multinomial(n, [gain, loss, 1 - gain - loss], size=1000)
    found = [paired_interval(int(won), int(lost), n) for won, lost, _ in draws]
    assert np.mean([i.low <= gain - loss <= i.high for i in found]) >= 0.935


def test_no_pairs_leave_the_difference_open() -> None:
    assert (paired_interval(0, 0, 0).low, paired_interval(0, 0, 0).high) == (-1.0, 1.0)
