"""Triggers on drift: how often each cries wolf on a world that does not change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from keepfit.data.records import Window
from keepfit.decision import Outcome
from keepfit.monitoring.detectors import ks
from keepfit.monitoring.measurement import Measurement
from keepfit.triggers.drift import Ks, KsPlain, remembered
from keepfit.triggers.trigger import Situation

START = datetime(2025, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
FEATURES = 11


def hour(number: float) -> Window:
    return Window(START + number * HOUR, START + (number + 1) * HOUR)


def compared(gaps: Sequence[float], ps: Sequence[float], when: Window, note: str = "") -> tuple[Measurement, ...]:
    return tuple(
        Measurement(f"ks:f{j}", gap, gap, gap, 200, when, 1, p=p, note=note)
        for j, (gap, p) in enumerate(zip(gaps, ps, strict=True))
    )


def situation(*newest_first: tuple[Measurement, ...]) -> Situation:
    return Situation(START, "m", 1, measurements=newest_first[0], history=tuple(newest_first[1:]))


def test_a_lasting_difference_of_one_feature_fires_as_routine() -> None:
    windows = [compared([0.3, 0.01], [1e-6, 0.9], hour(h)) for h in (2, 1, 0)]
    decision = Ks(persist=3).decide(situation(*windows))
    assert decision.outcome is Outcome.FIRE
    assert decision.because == ("the inputs have changed for 3 windows in a row: f0 (gap 0.300)",)
    assert decision.evidence["reason"] == "routine", "drift of the inputs alone is no harm"


def test_overlapping_windows_do_not_count_twice() -> None:
    windows = [compared([0.3], [1e-6], hour(h)) for h in (2, 1.9, 1.8, 1.5)]
    decision = Ks(persist=2).decide(situation(*windows))
    assert decision.outcome is Outcome.WAIT
    assert "not yet in 2 windows in a row (1 seen)" in decision.because[0]
    assert Ks(persist=2).decide(situation(*windows, compared([0.3], [1e-6], hour(1)))).outcome is Outcome.FIRE


@pytest.mark.parametrize(
    ("gaps", "ps"),
    [
        pytest.param([[0.3, 0.0], [0.0, 0.3]], [[1e-6, 1.0], [1.0, 1e-6]], id="another feature each time"),
        pytest.param([[0.04, 0.0]] * 2, [[1e-9, 1.0]] * 2, id="sure but too small to matter"),
        pytest.param([[0.3, 0.0]] * 2, [[0.03, 1.0]] * 2, id="not sure after correction"),
        pytest.param([[0.3, 0.0], [0.01, 0.0]], [[1e-9, 1.0], [0.9, 1.0]], id="only now"),
    ],
)
def test_what_does_not_count_as_a_lasting_difference(gaps: list[list[float]], ps: list[list[float]]) -> None:
    windows = [compared(g, p, hour(1 - i)) for i, (g, p) in enumerate(zip(gaps, ps, strict=True))]
    assert Ks(persist=2).decide(situation(*windows)).outcome is Outcome.WAIT


def test_the_history_keeps_windows_that_share_no_moment() -> None:
    """A check every six minutes of the last hour."""
    history: tuple[tuple[Measurement, ...], ...] = ()
    for tenth in range(35):
        history = remembered(history, compared([0.3], [1e-6], hour(tenth / 10)), most=3)
    assert [round((w[0].window.start - START) / HOUR, 1) for w in history] == [3.0, 2.0, 1.0]
    assert remembered(history, ()) == history
    assert remembered(history, compared([0.3], [0.5], hour(9), note="too few: 1 of 30")) == history
    other = tuple(replace(m, model_version=2) for m in compared([0.3], [0.5], hour(9)))
    assert remembered(history, other) == (other,)


def test_windows_too_small_to_judge_do_not_count() -> None:
    windows = [compared([0.9], [1e-6], hour(h), note="too few: 9 of 30") for h in (1, 0)]
    decision = Ks(persist=2).decide(situation(*windows))
    assert decision.because == ("the window is too small to compare (too few: 9 of 30)",)


def test_the_plain_rule_fires_on_any_small_p() -> None:
    assert KsPlain().decide(situation(compared([0.01, 0.02], [0.9, 0.04], hour(0)))).outcome is Outcome.FIRE
    decision = KsPlain().decide(situation(compared([0.01, 0.02], [0.9, 0.06], hour(0))))
    assert decision.because == ("the smallest p is 0.06 (f1), not below 0.05",)


def rates(shift: float, rounds: int, seed: int, windows: int = 20, size: int = 200) -> dict[str, float]:
    """Share of streams of 20 windows of 200 in which each rule fires; 11 features, one of them shifted."""
    rng = np.random.default_rng(seed)
    fired = {"ks": 0, "ks_plain": 0}
    for _ in range(rounds):
        reference = rng.normal(size=(1000, FEATURES))
        seen: list[tuple[Measurement, ...]] = []
        heard = dict.fromkeys(fired, False)
        for number in range(windows):
            current = rng.normal(size=(size, FEATURES))
            current[:, 0] += shift
            results = [ks(reference[:, j], current[:, j]) for j in range(FEATURES)]
            seen.insert(0, compared([r.gap for r in results], [r.p for r in results], hour(number)))
            for trigger in (Ks(), KsPlain()):
                heard[trigger.kind] |= trigger.decide(situation(*seen)).outcome is Outcome.FIRE
        for name, was in heard.items():
            fired[name] += was
    return {name: count / rounds for name, count in fired.items()}


def test_the_plain_rule_cries_wolf_and_the_corrected_one_does_not() -> None:
    quiet = rates(0.0, rounds=6, seed=1)
    assert quiet["ks_plain"] > 0.9
    assert quiet["ks"] == 0.0


def test_the_corrected_rule_still_sees_a_real_change() -> None:
    assert rates(0.8, rounds=5, seed=2, windows=3)["ks"] == 1.0
