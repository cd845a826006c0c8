"""Triggers on harm: sure before they fire, however often one looks, and clear about what is missing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from keepfit.data.records import Window
from keepfit.decision import Decision, Outcome
from keepfit.errors import SettingsError
from keepfit.intervals import Interval, wilson
from keepfit.monitoring.measurement import Measurement
from keepfit.monitoring.performance import stretches
from keepfit.triggers.harm import AccuracyDrop, AccuracyFloor, evidence_below, labels_missing, proven_below
from keepfit.triggers.trigger import Situation

NOW = datetime(2025, 1, 2, tzinfo=UTC)
DAY = Window(datetime(2025, 1, 1, tzinfo=UTC), NOW)
GOOD = Interval(0.9, 0.88, 0.92, 900)


def situation(right: int, n: int, reference: Interval | None = GOOD, **more: Any) -> Situation:
    i = wilson(right, n)
    return Situation(
        NOW, "m", 1, reference_accuracy=reference,
        measurements=(Measurement("accuracy", i.value, i.low, i.high, n, DAY, 1, **more),),
    )  # fmt: skip


def stream(right: np.ndarray) -> Situation:
    """All labels together, and the newest 64, 128, ... of them, as the monitor measures them."""
    parts = {"accuracy": right} | {f"accuracy:last{size}": right[-size:] for size in stretches(len(right))}
    found = {name: wilson(int(part.sum()), len(part)) for name, part in parts.items()}
    measurements = tuple(Measurement(name, i.value, i.low, i.high, i.n, DAY, 1) for name, i in found.items())
    return Situation(NOW, "m", 1, reference_accuracy=GOOD, measurements=measurements)


def words(decision: Decision) -> str:
    return " ".join(decision.because)


def test_above_the_floor_it_says_what_it_saw() -> None:
    decision = AccuracyFloor(0.8).decide(situation(269, 312))
    assert decision.outcome is Outcome.WAIT
    assert words(decision) == "accuracy 0.862 (0.820 to 0.896, 312 labels) is above the floor 0.80"


def test_below_the_floor_with_enough_labels_it_fires_as_harm() -> None:
    decision = AccuracyFloor(0.8).decide(situation(130, 200))
    assert decision.outcome is Outcome.FIRE
    assert words(decision) == "accuracy 0.650 (0.582 to 0.713, 200 labels) is below the floor 0.80"
    assert decision.evidence["reason"] == "harm"
    assert decision.evidence["evidence"] > decision.evidence["needed"]


def test_below_the_floor_with_too_few_labels_it_says_how_many_are_missing() -> None:
    decision = AccuracyFloor(0.8).decide(situation(30, 40))
    missing = decision.evidence["missing"]
    assert decision.outcome is Outcome.WAIT
    assert f"about {missing} more labels like these would prove it" in words(decision)
    proven = 40 + missing
    assert proven_below(0.75, proven, 0.8, 0.05)
    assert not proven_below(0.75, proven - 2, 0.8, 0.05)


def test_a_window_too_small_to_judge_does_not_fire() -> None:
    decision = AccuracyFloor(0.8).decide(situation(2, 12, note="too few: 12 of 30"))
    assert decision.outcome is Outcome.WAIT
    assert "too few: 12 of 30" in words(decision)


def test_labels_of_unequal_chances_count_as_what_they_are_worth() -> None:
    assert AccuracyFloor(0.8).decide(situation(130, 200, effective=15.0)).outcome is Outcome.WAIT


def test_a_long_good_past_does_not_hide_a_change() -> None:
    """5,000 good labels, then 250 of which two in five are wrong: all together are far above the floor."""
    right = np.array([True] * 5000 + [i % 5 > 1 for i in range(250)])
    decision = AccuracyFloor(0.8).decide(stream(right))
    assert decision.outcome is Outcome.FIRE
    assert "the newest 256 labels) is below the floor 0.80" in words(decision)
    assert decision.evidence["measurement"] == "accuracy:last256"


def test_a_suspicion_among_the_newest_labels_is_told() -> None:
    right = np.array([True] * 900 + [i % 3 > 0 for i in range(80)])
    decision = AccuracyFloor(0.8).decide(stream(right))
    assert decision.outcome is Outcome.WAIT
    assert "the newest 64 labels) may be below the floor 0.80; about" in words(decision)


def test_without_labels_it_waits() -> None:
    assert "no asked or complete label" in words(AccuracyFloor().decide(Situation(NOW, "m", 1)))


def test_a_champion_below_the_floor_is_refused_with_a_proposal() -> None:
    weak = Interval(0.7, 0.67, 0.73, 900)
    objection = AccuracyFloor(0.8).objection(weak)
    assert objection is not None
    assert "accuracy_drop" in objection
    decision = AccuracyFloor(0.8).decide(situation(300, 600, weak))
    assert decision.outcome is Outcome.WAIT
    assert decision.evidence["refused"] is True
    assert AccuracyDrop().decide(situation(300, 600, weak)).outcome is Outcome.FIRE


def test_a_model_elsewhere_that_was_never_above_the_floor_is_what_a_training_is_for() -> None:
    weak = Interval(0.7, 0.67, 0.73, 900)
    assert AccuracyFloor(0.8).decide(replace(situation(300, 600, weak), elsewhere=True)).outcome is Outcome.FIRE


def test_a_drop_is_judged_against_the_champions_own_uncertainty() -> None:
    sure, unsure = Interval(0.9, 0.89, 0.91, 4000), Interval(0.9, 0.80, 0.95, 40)
    assert AccuracyDrop(0.02).decide(situation(800, 1000, sure)).outcome is Outcome.FIRE
    decision = AccuracyDrop(0.02).decide(situation(800, 1000, unsure))
    assert decision.outcome is Outcome.WAIT
    assert "0.780 (the champion's 0.800 to 0.950 less 0.02)" in words(decision)


@pytest.mark.parametrize("reference", [None, Interval(float("nan"), 0.0, 1.0, 0)])
def test_a_drop_needs_something_to_compare_with(reference: Interval | None) -> None:
    assert "evaluate it first" in words(AccuracyDrop().decide(situation(1, 100, reference)))


@pytest.mark.parametrize("value", [-0.1, 1.5, "high", True, float("nan")])
def test_a_floor_that_is_no_share_is_refused(value: Any) -> None:
    with pytest.raises(SettingsError, match="floor of the trigger accuracy_floor"):
        AccuracyFloor(value)


@pytest.mark.parametrize(("share", "n"), [(0.0, 0), (0.0, 1e6), (1.0, 1e6), (0.5, 0.3)])
@pytest.mark.parametrize("bound", [-0.1, 0.0, 0.8, 1.0])
def test_evidence_is_finite_on_anything(share: float, n: float, bound: float) -> None:
    assert np.isfinite(evidence_below(share, n, bound))
    labels_missing(share, n, bound, 0.05)


def first_alarms(truth: float, rounds: int, most: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Looking after every 10th label from the 30th on: when the floor 0.80 fires, when a plain interval does."""
    rng, floor = np.random.default_rng(seed), AccuracyFloor(0.8)
    looks = np.arange(30, most + 1, 10)
    ours, plain = np.full(rounds, np.inf), np.full(rounds, np.inf)
    for number in range(rounds):
        right = rng.random(most) < truth
        for n in looks:
            now = stream(right[:n])
            if now.measurements[0].high < 0.8:
                plain[number] = min(plain[number], n)
            if floor.decide(now).outcome is Outcome.FIRE:
                ours[number] = n
                break
    return ours, plain


def test_looking_often_does_not_wear_the_floor_down() -> None:
    """78 looks at a model whose true accuracy is the floor itself: the worst case."""
    ours, plain = first_alarms(0.80, rounds=60, most=800, seed=1)
    assert np.isfinite(ours).mean() <= 0.05
    assert np.isfinite(plain).mean() > 0.10, "a plain 95 % interval is what this protects from"


def test_real_harm_is_seen_soon() -> None:
    ours, _ = first_alarms(0.65, rounds=40, most=400, seed=2)
    assert np.isfinite(ours).all()
    assert np.median(ours) <= 110
