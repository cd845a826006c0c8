"""Triggers made of triggers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from keepfit.data.records import Event, Window
from keepfit.decision import Decision, Outcome
from keepfit.intervals import Interval
from keepfit.monitoring.measurement import Measurement
from keepfit.triggers.combinators import AllOf, AnyOf, Cooldown, NewEvidence, WarmUp
from keepfit.triggers.harm import AccuracyFloor
from keepfit.triggers.inputs import InputDrift
from keepfit.triggers.trigger import NoObjection, Reason, Situation, fire, wait

NOW = datetime(2025, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Says(NoObjection):
    """A trigger with one answer."""

    reason: Reason | None = None
    kind: str = "says"

    def decide(self, situation: Situation) -> Decision:
        return wait(self.kind, "all is well") if self.reason is None else fire(self.kind, self.reason, str(self.reason))


HARM, ROUTINE, ASKED, QUIET = Says(Reason.HARM), Says(Reason.ROUTINE), Says(Reason.ASKED), Says()
FRESH = Situation(NOW, "m", 1, trained_at=NOW - HOUR / 2, deployed_at=NOW - HOUR / 2, predictions=5)


def test_any_of_tells_what_fired_first_and_keeps_every_part() -> None:
    decision = AnyOf((QUIET, ROUTINE)).decide(FRESH)
    assert decision.outcome is Outcome.FIRE
    assert decision.because == ("routine", "all is well")
    assert [part["outcome"] for part in decision.evidence["triggers"]] == ["wait", "fire"]


def test_what_fired_is_what_tells_however_deep_and_what_holds_it_back_tells_instead() -> None:
    deep = AnyOf((QUIET, AnyOf((QUIET, HARM)), AllOf((HARM, QUIET))))
    assert deep.decide(FRESH).telling == ("harm",)
    held = Cooldown(deep, HOUR).decide(FRESH)
    assert held.telling == held.because[:1]
    assert "resting" in held.telling[0]


def test_harm_is_the_reason_that_counts_and_a_wish_is_remembered() -> None:
    decision = AnyOf((ROUTINE, ASKED, HARM)).decide(FRESH)
    assert decision.evidence["reason"] == "harm"
    assert decision.evidence["demanded"] is True
    assert AnyOf((ROUTINE, QUIET)).decide(FRESH).evidence["demanded"] is False


def test_all_of_needs_them_all() -> None:
    assert AllOf((HARM, QUIET)).decide(FRESH).outcome is Outcome.WAIT
    assert AllOf((HARM, ROUTINE)).decide(FRESH).outcome is Outcome.FIRE


def test_nothing_to_ask_waits() -> None:
    assert AnyOf(()).decide(FRESH).outcome is Outcome.WAIT


def test_the_rest_after_an_attempt_holds_harm_back_and_says_until_when() -> None:
    decision = Cooldown(HARM, HOUR).decide(FRESH)
    assert decision.outcome is Outcome.WAIT
    assert decision.because[0] == ("resting until 2025-01-01 12:30:00 UTC after the attempt of 2025-01-01 11:30:00 UTC")
    assert decision.evidence["held"]["reason"] == "harm"
    assert Cooldown(HARM, HOUR / 2).decide(FRESH).outcome is Outcome.FIRE


def test_the_first_training_is_no_attempt_to_rest_after_and_the_decision_says_so() -> None:
    started = replace(FRESH, only_first=True)
    decision = Cooldown(HARM, HOUR).decide(started)
    assert decision.outcome is Outcome.FIRE
    assert decision.because == (
        "harm",
        "the first training, of 2025-01-01 11:30:00 UTC, answered no call, so there is no rest after it",
    )
    assert decision.evidence["reason"] == "harm"
    assert Cooldown(QUIET, HOUR).decide(started).because == ("all is well",)
    assert Cooldown(WarmUp(HARM, HOUR), HOUR).decide(started).outcome is Outcome.WAIT, "the warm-up holds all the same"


def test_a_persons_wish_passes_through_rest_and_warm_up_with_a_sentence() -> None:
    for held in (Cooldown(AnyOf((HARM, ASKED)), HOUR), WarmUp(ASKED, HOUR), WarmUp(ASKED, predictions=10)):
        decision = held.decide(FRESH)
        assert decision.outcome is Outcome.FIRE
        assert decision.because[-1].startswith("a person asked")


def test_a_quiet_trigger_stays_quiet_and_keeps_its_words_while_resting() -> None:
    assert Cooldown(QUIET, HOUR).decide(FRESH).because == ("all is well",)


def test_the_warm_up_ends_with_age_and_predictions() -> None:
    assert "warms up until 2025-01-01 12:30:00 UTC" in WarmUp(HARM, HOUR).decide(FRESH).because[0]
    assert "5 of 10 times" in WarmUp(HARM, predictions=10).decide(FRESH).because[0]
    assert WarmUp(HARM, HOUR / 2, 5).decide(FRESH).outcome is Outcome.FIRE


def test_objections_come_through() -> None:
    weak = Interval(0.7, 0.67, 0.73, 900)
    outer = Cooldown(WarmUp(AnyOf((QUIET, AllOf((AccuracyFloor(),))))), HOUR)
    assert "accuracy_drop" in (outer.objection(weak) or "")
    assert outer.objection(None) is None


def test_harm_does_not_call_again_on_the_data_of_a_refused_attempt() -> None:
    refused = replace(FRESH, refused_at=NOW - HOUR / 2)
    held = NewEvidence(HARM, 30).decide(refused)
    assert held.outcome is Outcome.WAIT
    assert held.telling == (
        "nothing new since the refused attempt of 2025-01-01 11:30:00 UTC: 30 more labels would change it",
    )
    some = NewEvidence(HARM, 30).decide(replace(refused, new_labels=12))
    assert some.because[0].startswith("only 12 new labels since")
    assert "18 more labels would change it" in some.because[0]
    assert NewEvidence(HARM, 30).decide(replace(refused, new_labels=30)).outcome is Outcome.FIRE
    assert NewEvidence(HARM, 30).decide(FRESH).outcome is Outcome.FIRE, "the last attempt was not refused"
    file = Event("e", "m", NOW, "new_data")
    assert NewEvidence(HARM, 30).decide(replace(refused, events=(file,))).outcome is Outcome.FIRE


def test_changed_inputs_do_not_call_again_on_the_data_of_a_refused_attempt_and_a_routine_does() -> None:
    moved = Measurement("input_drift", 6.0, 6.0, 6.0, 900, Window(NOW - HOUR / 4, NOW), 1, breached=True, limit=6.0)
    refused = replace(FRESH, refused_at=NOW - HOUR / 2, measurements=(moved,))
    alone = AnyOf((QUIET, AnyOf((InputDrift(),))))
    assert alone.decide(refused).outcome is Outcome.FIRE
    held = NewEvidence(alone, 30).decide(refused)
    assert held.outcome is Outcome.WAIT
    assert "30 more labels would change it" in held.because[0]
    assert NewEvidence(alone, 30).decide(replace(refused, new_labels=30)).outcome is Outcome.FIRE
    assert NewEvidence(AnyOf((InputDrift(), ROUTINE)), 30).decide(refused).outcome is Outcome.FIRE


def test_a_person_and_what_is_routine_need_no_new_evidence() -> None:
    refused = replace(FRESH, refused_at=NOW - HOUR / 2)
    asked = NewEvidence(AnyOf((HARM, ASKED)), 30).decide(refused)
    assert asked.outcome is Outcome.FIRE
    assert "a person asked" in asked.because[-1]
    assert NewEvidence(ROUTINE, 30).decide(refused).outcome is Outcome.FIRE
    assert NewEvidence(QUIET, 30).decide(refused).outcome is Outcome.WAIT
