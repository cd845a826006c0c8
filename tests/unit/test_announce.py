"""What is on record is told once, to whom it can be told, and what became of the telling is on record, too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from keepfit.alerts.alerts import Alerts
from keepfit.alerts.mailbox import MemoryChannel
from keepfit.clock import ManualClock
from keepfit.data.records import Cause, StoredDecision, Traffic
from keepfit.data.store import RecordStore
from keepfit.decision import Decision, Outcome
from keepfit.pipelines.announce import Announcer, newer

MODEL = "reviews"
FIRED = Decision(Outcome.FIRE, ("accuracy 0.65 is below the floor 0.80",), {"reason": "harm", "version": 1})
PASSED = Decision(Outcome.PASS, ("better on 120 labels",))
STOPPED = Decision(Outcome.FAIL, ("the disk is full",))


@dataclass
class Desk:
    """An announcer and its post."""

    store: RecordStore
    clock: ManualClock
    mail: MemoryChannel
    announcer: Announcer

    def decide(self, subject: str, decision: Decision, model: str = MODEL) -> None:
        self.clock.advance(timedelta(seconds=1))
        self.store.add_decision(model, subject, decision, self.clock.now())

    def deploy(self, version: int, kind: str = "deploy") -> None:
        self.clock.advance(timedelta(seconds=1))
        self.store.deploy(MODEL, Traffic({version: 1.0}), Cause("ann", f"version {version}", kind), self.clock.now())

    def titles(self) -> list[str]:
        self.announcer.announce()
        titles = [title for title, _ in self.mail.sent]
        self.mail.sent.clear()
        return titles

    def again(self, *channels: MemoryChannel) -> Announcer:
        """The announcer of a process that was started anew."""
        return Announcer(MODEL, self.store, Alerts(channels or [self.mail]), self.clock)


@pytest.fixture
def desk(store_url: str, clock: ManualClock) -> Iterator[Desk]:
    with RecordStore.open(store_url) as store:
        mail = MemoryChannel()
        yield Desk(store, clock, mail, Announcer(MODEL, store, Alerts([mail]), clock))


def test_the_story_of_a_retraining_is_told_in_its_order(desk: Desk) -> None:
    desk.deploy(1)
    desk.decide("trigger", FIRED)
    desk.decide("gate v2", PASSED)
    desk.announcer = desk.again()
    assert desk.titles() == [
        "reviews: version 1 is in use", "reviews: retraining has begun", "reviews: version 2 passed its tests"
    ]  # fmt: skip


def test_nothing_is_told_twice_not_even_after_a_restart(desk: Desk) -> None:
    desk.decide("trigger", FIRED)
    assert len(desk.titles()) == 1
    assert desk.titles() == []
    desk.announcer = desk.again()
    assert desk.titles() == []
    desk.decide("retrain", STOPPED)
    assert desk.titles() == ["reviews: the retraining failed"]


def test_a_rollback_while_no_worker_ran_is_told_by_the_next_one(desk: Desk) -> None:
    desk.deploy(1)
    desk.deploy(2)
    desk.titles()
    desk.deploy(1, kind="rollback")
    desk.announcer = desk.again()
    (title,) = desk.titles()
    assert title == "reviews: back to version 1"


@pytest.mark.parametrize(
    ("subject", "decision"),
    [
        ("trigger", Decision(Outcome.WAIT, ("all is well",))),
        ("trigger", Decision(Outcome.FIRE, ("again",), {"joined": True})),
        ("retrain", Decision(Outcome.PASS)),
        ("alias", Decision(Outcome.HOLD)),
    ],
)
def test_what_nobody_needs_to_hear_of_is_kept_quiet(desk: Desk, subject: str, decision: Decision) -> None:
    desk.decide(subject, decision)
    assert desk.titles() == []


def test_a_retraining_that_was_asked_for_names_the_version_that_answered_then(desk: Desk) -> None:
    """A request says nothing of versions; the history knows which one was live."""
    desk.deploy(1)
    desk.decide("trigger", Decision(Outcome.FIRE, ("ann asked for a retraining",), {"reason": "asked"}))
    desk.deploy(2)
    desk.announcer.announce()
    bodies = [body for title, body in desk.mail.sent if "retraining has begun" in title]
    assert len(bodies) == 1
    assert "Version 1 goes on answering" in bodies[0]


def test_other_models_have_announcers_of_their_own(desk: Desk) -> None:
    desk.decide("trigger", FIRED, model="tickets")
    assert desk.titles() == []


def test_whom_it_reached_and_whom_not_is_on_record(desk: Desk) -> None:
    broken = MemoryChannel("chat")
    broken.broken = "the chat is away"
    desk.announcer = desk.again(desk.mail, broken)
    desk.decide("trigger", FIRED)
    desk.announcer.announce()
    (kept,) = desk.store.decisions(MODEL, subject="alert trigger")
    assert kept.decision.outcome is Outcome.FAIL
    assert kept.decision.because == ("sent to memory", "chat: the chat is away")


def test_repeats_wait_for_one_summary(desk: Desk) -> None:
    for _ in range(3):
        desk.decide("trigger", FIRED)
    assert len(desk.titles()) == 1
    assert [d.decision.outcome for d in desk.store.decisions(MODEL, subject="alert trigger")].count(Outcome.HOLD) == 2
    desk.clock.advance(timedelta(hours=2))
    assert desk.titles() == ["reviews: retraining has begun (2 more like this)"]
    assert len(desk.store.decisions(MODEL, subject="alert summary")) == 1


def test_the_words_name_the_version_before_and_how_to_undo(desk: Desk) -> None:
    desk.deploy(1)
    desk.announcer.announce()
    desk.clock.advance(timedelta(hours=2))
    desk.mail.sent.clear()
    desk.deploy(2)
    desk.announcer.announce()
    ((_, body),) = desk.mail.sent
    assert "Before, it was version 1" in body
    assert "keepfit rollback --model reviews" in body


def test_newer_ends_before_the_one_that_was_told_last(clock: ManualClock) -> None:
    kept = [StoredDecision(id_, MODEL, clock.now(), "trigger", FIRED) for id_ in "cba"]
    assert [d.id for d in newer(kept, "a")] == ["c", "b"]
    assert [d.id for d in newer(kept, None)] == ["c", "b", "a"]
    assert [d.id for d in newer(kept, "older than all")] == ["c", "b", "a"]


def test_whoever_listens_hears_every_alert_also_those_that_are_held(desk: Desk) -> None:
    heard: list[str] = []
    listening = replace(desk.announcer, aloud=lambda alert: heard.append(alert.title))
    for version in (1, 2):
        desk.deploy(version)
        listening.announce()
    assert heard == [f"{MODEL}: version 1 is in use", f"{MODEL}: version 2 is in use"]
    assert len(desk.mail.sent) == 1


@pytest.mark.parametrize(
    ("share", "enforced", "words"), [(0.8, False, "Nothing changes"), (1.1, True, "that a person")]
)
def test_a_budget_that_is_spent_is_told_with_its_arithmetic(
    desk: Desk, share: float, enforced: bool, words: str
) -> None:
    evidence = {"month": "2026-11", "share": share, "enforced": enforced, "arithmetic": "2 CPU h x 4 = 8 EUR"}
    desk.decide("budget", Decision(Outcome.HOLD, ("80% of the budget is spent",), evidence))
    desk.announcer.announce()
    ((title, body),) = desk.mail.sent
    assert "budget of 2026-11" in title
    assert "2 CPU h x 4 = 8 EUR" in body
    assert words in body


def test_a_first_stage_is_told_of_when_it_is_switched_and_not_when_it_stays_as_it_is(desk: Desk) -> None:
    desk.decide("cascade", Decision(Outcome.PASS, ("version 1 answers with its first stage",), {"version": 1}))
    assert desk.titles() == []
    desk.decide("cascade", Decision(Outcome.FAIL, ("it no longer holds",), {"version": 1, "switched": True}))
    assert desk.titles() == ["reviews: the first stage of version 1 is switched off"]
    desk.decide("cascade", Decision(Outcome.FAIL, ("it stays silent",), {"version": 1}))
    assert desk.titles() == []
