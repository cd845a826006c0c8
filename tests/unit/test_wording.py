"""Words that a person understands, with the numbers and the command to undo."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from keepfit.alerts import wording
from keepfit.alerts.alerts import Alert, AlertKind
from keepfit.data.records import Deployment, Traffic
from keepfit.decision import Decision, Outcome

NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)
HARM = Decision(Outcome.FIRE, ("accuracy 0.650 is below the floor 0.80",), {"reason": "harm"})
PROVEN = Decision(Outcome.PASS, ("better on 120 labels since the change: 0.91 against 0.65",))
WORSE = Decision(Outcome.FAIL, ("only 12 of 30 labels are in",))


def row(kind: str, version: int) -> Deployment:
    return Deployment(7, "reviews", NOON, "worker", "it passed its tests", Traffic({version: 1.0}), kind)


def test_a_trigger_says_what_was_seen_and_that_nothing_needs_to_be_done() -> None:
    alert = wording.trigger_fired("reviews", 3, HARM, NOON)
    assert "makes more mistakes than it may" in alert.body
    assert "- accuracy 0.650 is below the floor 0.80" in alert.body
    assert "Version 3 goes on answering" in alert.body
    assert "goes on answering" not in wording.trigger_fired("reviews", None, HARM, NOON).body


def test_an_alert_of_harm_says_what_fired_and_nothing_of_what_did_not() -> None:
    because = ("accuracy 0.650 is below the floor 0.80", "12 of 500 new labels are in", "nobody asked for a retraining")
    decision = Decision(Outcome.FIRE, because, {"reason": "harm", "telling": because[:1]})
    body = wording.trigger_fired("reviews", 3, decision, NOON).body
    assert because[0] in body
    assert because[1] not in body
    assert because[2] not in body
    assert "keepfit decisions --model reviews" in body


@pytest.mark.parametrize(("decision", "words"), [(PROVEN, "may take over"), (WORSE, "will not be used")])
def test_a_gate_says_how_it_ended_and_why(decision: Decision, words: str) -> None:
    alert = wording.gate_judged("reviews", 4, decision, NOON)
    assert words in alert.body
    assert decision.because[0] in alert.body


def test_a_deployment_can_be_undone_but_the_first_one_cannot() -> None:
    alert = wording.deployed(row("deploy", 4), previous=3)
    assert alert.undo == "keepfit rollback --model reviews"
    assert "Before, it was version 3" in alert.body
    assert wording.deployed(row("deploy", 1), previous=None).undo is None


def test_a_rollback_names_what_was_taken_back_and_how_to_return_to_it() -> None:
    alert = wording.rolled_back(row("rollback", 3), previous=4)
    assert alert.title == "reviews: back to version 3"
    assert alert.undo == "keepfit promote 4 --model reviews"


def test_a_failure_says_that_answers_go_on_and_where_to_look() -> None:
    alert = wording.failed("reviews", "the retraining", "MLflow is away; start it", NOON)
    assert "- MLflow is away; start it" in alert.body
    assert "keepfit doctor --model reviews" in alert.body


@pytest.mark.parametrize(
    "alert",
    [
        wording.trigger_fired("reviews", 3, HARM, NOON), wording.gate_judged("reviews", 4, PROVEN, NOON),
        wording.deployed(row("deploy", 4), 3), wording.rolled_back(row("rollback", 3), 4),
        wording.failed("reviews", "the retraining", "the disk is full", NOON), wording.trial_message("reviews", NOON),
    ],
    ids=lambda alert: str(alert.kind),
)  # fmt: skip
def test_every_alert_has_a_short_title_the_model_and_the_time(alert: Alert) -> None:
    assert alert.title.startswith("reviews: ")
    assert len(alert.title) < 80
    assert "\n" not in alert.title
    assert alert.kind is AlertKind.GATE or "2025-01-01 12:00:00 UTC" in alert.body


@pytest.mark.parametrize(
    ("outcome", "words"),
    [(Outcome.FAIL, ("is switched off", "Answers stay right")), (Outcome.PASS, ("answers again",))],
)
def test_a_first_stage_that_was_switched_is_told_with_what_it_means_for_answers(
    outcome: Outcome, words: tuple[str, ...]
) -> None:
    decision = Decision(
        outcome, ("of 500 drawn contents 40 were answered otherwise",), {"version": 4, "switched": True}
    )
    alert = wording.first_stage("reviews", decision, NOON)
    assert alert.kind is AlertKind.CASCADE
    for word in (*words, "version 4", "- of 500 drawn contents", "keepfit decisions --model reviews"):
        assert word in f"{alert.title} {alert.text}"
