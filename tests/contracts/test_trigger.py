"""What every trigger keeps: it answers anything, explains itself either way, and is pure."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from keepfit.data.records import Event, Window
from keepfit.decision import Outcome
from keepfit.intervals import Interval, wilson
from keepfit.monitoring.measurement import Measurement
from keepfit.triggers.alarm import Harm
from keepfit.triggers.combinators import AllOf, AnyOf, Cooldown, WarmUp
from keepfit.triggers.drift import Ks, KsPlain
from keepfit.triggers.facts import Attempt, Losses, Price
from keepfit.triggers.growth import Growth
from keepfit.triggers.harm import AccuracyDrop, AccuracyFloor
from keepfit.triggers.inputs import InputDrift
from keepfit.triggers.policies import KINDS, trigger_from
from keepfit.triggers.routine import NewLabels, OnDemand, OnEvent, Period, Schedule
from keepfit.triggers.trigger import Reason, Situation, Trigger
from keepfit.triggers.worth import Benefit, SkiRental, WorthIt

NOW = datetime(2025, 6, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def window(hours_ago: int) -> Window:
    return Window(NOW - (hours_ago + 1) * HOUR, NOW - hours_ago * HOUR)


def measured(hours_ago: int, accuracy: float, n: int, p: float) -> tuple[Measurement, ...]:
    when, i = window(hours_ago), wilson(round(accuracy * n), n)
    return (
        Measurement("accuracy", i.value, i.low, i.high, n, when, 2),
        Measurement("ks:length", 0.4, 0.4, 0.4, 500, when, 2, p=p),
        Measurement("ks:confidence", 0.01, 0.01, 0.01, 500, when, 2, p=0.9),
        Measurement("input_drift", 6.0, 6.0, 6.0, 500, when, 2, breached=p < 0.05, limit=6.0, note="moved: length"),
        Measurement("harm", 1 - accuracy, 1 - accuracy, 1 - accuracy, n, when, 2, accuracy < 0.7, 1.0, "since then"),
    )


def losses(hours: int, wrong: tuple[float, ...], answers: int) -> Losses:
    return Losses.of(NOW - hours * HOUR, NOW, answers, wrong, [answers / len(wrong)] * len(wrong))


PRICE = Price(50.0, "as the test sets it", 2)
NOTHING = Situation(NOW, "reviews", 1)
CALM = Situation(
    NOW, "reviews", 2, trained_at=NOW - HOUR, deployed_at=NOW - HOUR, reference_accuracy=Interval(0.9, 0.88, 0.92, 900),
    measurements=measured(0, 0.9, 300, 0.6), history=(measured(1, 0.9, 300, 0.6),), new_labels=2, predictions=500,
    losses=losses(1, (1.0,) + (0.0,) * 9, 500), price=PRICE, learnt=1000,
)  # fmt: skip
LOUD = Situation(
    NOW, "reviews", 2, trained_at=NOW - 30 * 24 * HOUR, deployed_at=NOW - 30 * 24 * HOUR,
    reference_accuracy=Interval(0.9, 0.88, 0.92, 900), measurements=measured(0, 0.6, 300, 1e-9),
    history=tuple(measured(h, 0.6, 300, 1e-9) for h in range(1, 5)), new_labels=5000, predictions=9000,
    events=(Event("1", "reviews", NOW, "retrain", "ann"), Event("2", "reviews", NOW, "new_data")),
    losses=losses(720, (0.0,) * 150 + (1.0, 0.0) * 120, 9000), price=PRICE, learnt=1000,
    attempts=(Attempt(NOW - 40 * 24 * HOUR, True),),
)  # fmt: skip

TRIGGERS: list[Trigger] = [
    Harm(), AccuracyFloor(), AccuracyDrop(), Ks(), KsPlain(), InputDrift(),
    Schedule("0 3 * * 1"), NewLabels(100), OnEvent(), OnDemand(),
    Period(7), SkiRental(), Benefit(), Growth(), WorthIt(),
    AnyOf((AccuracyFloor(), NewLabels(100))), AllOf((AccuracyFloor(), NewLabels(100))),
    Cooldown(NewLabels(100), HOUR), WarmUp(NewLabels(100), HOUR, 10), trigger_from([{"kind": "ks"}]),
]  # fmt: skip


@pytest.fixture(params=TRIGGERS, ids=lambda trigger: trigger.kind)
def trigger(request: pytest.FixtureRequest) -> Trigger:
    chosen: Trigger = request.param
    return chosen


def test_every_shipped_kind_is_held_to_this() -> None:
    assert set(KINDS) <= {trigger.kind for trigger in TRIGGERS}


def test_it_fires_when_everything_is_loud_and_waits_when_all_is_calm(trigger: Trigger) -> None:
    assert trigger.decide(LOUD).outcome is Outcome.FIRE
    assert trigger.decide(CALM).outcome is Outcome.WAIT


def test_a_fire_names_its_reason_and_its_kind(trigger: Trigger) -> None:
    fired = trigger.decide(LOUD)
    assert Reason(fired.evidence["reason"])
    assert isinstance(fired.evidence["demanded"], bool)
    assert fired.evidence["kind"]


@pytest.mark.parametrize("situation", [NOTHING, CALM, LOUD], ids=["nothing", "calm", "loud"])
def test_it_always_explains_itself_in_words_and_storable_numbers(trigger: Trigger, situation: Situation) -> None:
    decision = trigger.decide(situation)
    assert decision.because
    assert all(reason.strip() for reason in decision.because)
    assert json.loads(json.dumps(decision.evidence, allow_nan=False)) == decision.evidence


@pytest.mark.parametrize("situation", [NOTHING, CALM, LOUD], ids=["nothing", "calm", "loud"])
def test_the_same_situation_gives_the_same_decision(trigger: Trigger, situation: Situation) -> None:
    assert trigger.decide(situation) == trigger.decide(situation)


def test_nothing_is_deployed_means_wait(trigger: Trigger) -> None:
    assert trigger.decide(NOTHING).outcome is Outcome.WAIT


def test_a_good_champion_meets_no_objection(trigger: Trigger) -> None:
    assert trigger.objection(Interval(0.9, 0.88, 0.92, 900)) is None
    assert trigger.objection(None) is None
