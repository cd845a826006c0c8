"""Limits: the static ones, and those whose false alarm rate is promised."""

from __future__ import annotations

import numpy as np
import pytest

from keepfit.monitoring.detectors import MeanShift, ks, ks_limit
from keepfit.monitoring.thresholds import Above, Below, mean_limit, mix_limit, shift_limit


def test_only_a_whole_interval_beyond_the_limit_is_a_breach() -> None:
    assert Above(0.3).breached(0.31, 0.5)
    assert not Above(0.3).breached(0.29, 0.5)
    assert Below(0.8).breached(0.7, 0.79)
    assert not Below(0.8).breached(0.7, 0.81)


@pytest.mark.parametrize("reference_size", [200, 2000])
def test_calibrated_limits_keep_their_promise_for_a_small_reference_too(reference_size: int) -> None:
    """Fresh references and fresh windows of one world: about 5 in 100 windows may be beyond, on either statistic."""
    rng, rounds, size, promised = np.random.default_rng(5), 300, 100, 0.05
    beyond = np.zeros(3)
    shares = np.array([0.6, 0.3, 0.1])
    for _ in range(rounds):
        reference, window = rng.normal(size=(reference_size, 4)), rng.normal(size=(size, 4))
        value = float(window[:, 0].mean())
        beyond[0] += mean_limit(reference[:, 0], size, value, promised).breached(value, value)
        score = MeanShift().fit(reference).score(window)
        beyond[1] += shift_limit(reference, size, promised, rng, 100).breached(score, score)
        before, after = rng.multinomial(reference_size, shares), rng.multinomial(size, shares)
        distance = 0.5 * float(np.abs(before / reference_size - after / size).sum())
        beyond[2] += mix_limit(before, size, promised, rng, 100).breached(distance, distance)
    assert (beyond / rounds < 0.10).all(), beyond / rounds
    assert (beyond / rounds > 0.01).all(), "a limit that is never reached is useless"


def test_a_limit_says_what_it_promises() -> None:
    limit = mean_limit(np.zeros(10), 5, 1.0, 0.01)
    assert "0.01 of windows like the reference" in limit.note
    assert limit.breached(1.0, 1.0)
    assert not mean_limit(np.zeros(10), 5, 0.0, 0.01).breached(0.0, 0.0), "a constant is no drift of itself"


@pytest.mark.parametrize("size", [1, 2, 1000])
def test_limits_are_finite_on_any_size(size: int) -> None:
    rng = np.random.default_rng(0)
    limits = [
        mean_limit(np.ones(1), size, 0.5, 0.01),
        shift_limit(np.zeros((0, 3)), size, 0.01, rng),
        shift_limit(np.zeros((4, 0)), size, 0.01, rng),
        mix_limit(np.array([0, 0]), size, 0.01, rng),
    ]
    assert np.isfinite([limit.limit for limit in limits]).all()


def test_the_gap_at_the_ks_limit_has_the_wanted_p() -> None:
    rng = np.random.default_rng(2)
    reference, current = rng.normal(size=3000), rng.normal(0.1, size=700)
    found = ks(reference, current)
    assert (found.gap > ks_limit(0.01, 3000, 700)) == (found.p < 0.01)
    assert ks_limit(found.p, 3000, 700) == pytest.approx(found.gap, rel=0.02)
    assert ks_limit(0.01, 0, 5) == 1.0
