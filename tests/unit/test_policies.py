"""Settings become triggers, or a sentence that helps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from keepfit.data.records import Event
from keepfit.decision import Outcome
from keepfit.errors import SettingsError
from keepfit.triggers.combinators import AllOf
from keepfit.triggers.harm import AccuracyFloor
from keepfit.triggers.policies import built, trigger_from
from keepfit.triggers.routine import NewLabels, OnEvent, Schedule
from keepfit.triggers.trigger import Situation

NOW = datetime(2025, 1, 1, 12, tzinfo=UTC)


def test_plain_mappings_become_triggers() -> None:
    assert built({"kind": "accuracy_floor", "floor": 0.7}) == AccuracyFloor(0.7)
    assert built({"kind": "schedule", "cron": "0 3 * * 1"}) == Schedule("0 3 * * 1")
    assert built({"kind": "on_event", "kinds": ["release"]}) == OnEvent(("release",))
    inner = [{"kind": "accuracy_floor"}, {"kind": "new_labels", "amount": 100}]
    assert built({"kind": "all_of", "triggers": inner}) == AllOf((AccuracyFloor(), NewLabels(100)))


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"kind": "acuracy_floor"}, "did you mean 'accuracy_floor'"),
        ({"kind": "moon"}, "known are accuracy_drop, accuracy_floor"),
        ({"kind": "accuracy_floor", "flor": 0.8}, "did you mean 'floor'"),
        ({"kind": "on_demand", "who": "me"}, "it takes no settings"),
        ({"kind": "new_labels"}, "needs 'amount'"),
        ({"kind": "new_labels", "amount": "many"}, "must be a number"),
        ({"kind": "ks", "persist": 0}, "from 1 to 11"),
        ({"kind": "schedule", "cron": "soon"}, "cron line"),
        ({"kind": "all_of", "triggers": []}, "at least one"),
        ({"kind": "all_of", "triggers": "ks"}, "must be a list"),
        ({"kind": "any_of", "triggers": [{"kind": "kss"}]}, "did you mean 'ks"),
        ({}, "is written like"),
        ("ks", "is written like"),
    ],
)
def test_what_cannot_be_honoured_is_refused_with_the_nearest_name(rule: Any, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        trigger_from([rule])


def test_a_person_can_always_ask_also_in_the_rest_after_an_attempt() -> None:
    trigger = trigger_from([{"kind": "ks"}], cool_down=timedelta(hours=1))
    asked = Situation(NOW, "m", 1, trained_at=NOW, events=(Event("1", "m", NOW, "retrain", "ann"),))
    assert trigger.decide(asked).outcome is Outcome.FIRE


def test_rest_and_warm_up_hold_the_others_back() -> None:
    rules = [{"kind": "new_labels", "amount": 1}]
    fresh = Situation(NOW, "m", 1, trained_at=NOW, deployed_at=NOW, new_labels=5, predictions=3)
    hour = timedelta(hours=1)
    assert trigger_from(rules).decide(fresh).outcome is Outcome.FIRE
    assert trigger_from(rules, cool_down=hour).decide(fresh).outcome is Outcome.WAIT
    assert trigger_from(rules, warm_up=hour).decide(fresh).outcome is Outcome.WAIT
    assert trigger_from(rules, predictions=4).decide(fresh).outcome is Outcome.WAIT
