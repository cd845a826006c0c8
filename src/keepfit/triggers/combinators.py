"""Triggers made of triggers: any, all, not before, not again so soon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar

from keepfit.decision import Decision, Outcome
from keepfit.errors import SettingsError
from keepfit.intervals import Interval
from keepfit.triggers.trigger import Reason, Situation, Trigger, wait

INPUTS = "input_drift"
"""The kind of the trigger on changed inputs."""
NEW_DATA = "new_data"
"""The kind of the event that tells of a labelled file."""
STRONGEST = (Reason.HARM, Reason.ASKED, Reason.ROUTINE)
"""With several reasons the one that demands the most proof of the candidate counts."""


def gathered(kind: str, outcome: Outcome, decisions: Sequence[Decision]) -> Decision:
    """One decision from several; those that fired come first, and the parts stay in the evidence."""
    fired = [d for d in decisions if d.outcome is Outcome.FIRE]
    quiet = [d for d in decisions if d.outcome is not Outcome.FIRE]
    parts = [{"outcome": d.outcome.value, "because": list(d.because), **d.evidence} for d in decisions]
    evidence: dict[str, Any] = {"kind": kind, "triggers": parts}
    if outcome is Outcome.FIRE:
        reasons = {d.evidence["reason"] for d in fired}
        evidence["reason"] = next(reason.value for reason in STRONGEST if reason.value in reasons)
        evidence["telling"] = [reason for d in fired for reason in d.telling]
        evidence["demanded"] = any(d.evidence.get("demanded") for d in fired)
        events = [event for d in fired for event in d.evidence.get("events", ())]
        evidence |= {"events": events} if events else {}
    return Decision(outcome, tuple(reason for d in (*fired, *quiet) for reason in d.because), evidence)


def objections(triggers: Sequence[Trigger], reference: Interval | None) -> str | None:
    """Every objection, joined."""
    found = [objection for trigger in triggers if (objection := trigger.objection(reference)) is not None]
    return "; ".join(found) or None


@dataclass(frozen=True)
class AnyOf:
    """Fires when one of them does."""

    triggers: tuple[Trigger, ...]
    kind: ClassVar[str] = "any_of"

    def decide(self, situation: Situation) -> Decision:
        decisions = [trigger.decide(situation) for trigger in self.triggers]
        fires = any(decision.outcome is Outcome.FIRE for decision in decisions)
        return gathered(self.kind, Outcome.FIRE if fires else Outcome.WAIT, decisions)

    def objection(self, reference: Interval | None) -> str | None:
        return objections(self.triggers, reference)


@dataclass(frozen=True)
class AllOf:
    """Fires when all of them do at the same moment."""

    triggers: tuple[Trigger, ...]
    kind: ClassVar[str] = "all_of"

    def __post_init__(self) -> None:
        if not self.triggers:
            raise SettingsError("all_of needs at least one trigger", "triggers")

    def decide(self, situation: Situation) -> Decision:
        decisions = [trigger.decide(situation) for trigger in self.triggers]
        fires = all(decision.outcome is Outcome.FIRE for decision in decisions)
        return gathered(self.kind, Outcome.FIRE if fires else Outcome.WAIT, decisions)

    def objection(self, reference: Interval | None) -> str | None:
        return objections(self.triggers, reference)


def hold(kind: str, inner: Decision, because: str, person: str) -> Decision:
    """Keep the inner decision from firing, unless a person's demand is among its causes."""
    if inner.outcome is not Outcome.FIRE:
        return inner
    if inner.evidence.get("demanded"):
        return Decision(inner.outcome, (*inner.because, person), inner.evidence)
    held = {"outcome": inner.outcome.value, "because": list(inner.because), **inner.evidence}
    return Decision(
        Outcome.WAIT, (because, *inner.because), {**wait(kind, because).evidence, "telling": [because], "held": held}
    )


def causes(evidence: Mapping[str, Any]) -> set[str]:
    """The kinds of the triggers that fired, of a decision to fire."""
    parts = [part for part in evidence.get("triggers", ()) if part["outcome"] == Outcome.FIRE.value]
    return set().union(*map(causes, parts)) if parts else {str(evidence.get("kind"))}


def clock(moment: datetime) -> str:
    """A moment for people."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


@dataclass(frozen=True)
class WarmUp:
    """Nothing but a person's demand fires while the champion is younger than `age` or has answered too little."""

    trigger: Trigger
    age: timedelta = timedelta(0)
    predictions: int = 0
    kind: ClassVar[str] = "warm_up"

    def decide(self, situation: Situation) -> Decision:
        inner = self.trigger.decide(situation)
        person = "a person asked, so the warm-up does not hold it back"
        if situation.deployed_at is not None and situation.now < situation.deployed_at + self.age:
            until = clock(situation.deployed_at + self.age)
            return hold(self.kind, inner, f"the champion is new and warms up until {until}", person)
        if situation.predictions < self.predictions:
            seen = f"the champion is new and has answered {situation.predictions} of {self.predictions} times"
            return hold(self.kind, inner, seen, person)
        return inner

    def objection(self, reference: Interval | None) -> str | None:
        return self.trigger.objection(reference)


@dataclass(frozen=True)
class Cooldown:
    """Rests after each attempt, also a failed or refused one; a person's demand passes through.

    The rest keeps one attempt from following the other on the same evidence. The first training was no answer to a
    call, so nothing rests after it; `WarmUp` is what holds calls back after a deployment.
    """

    trigger: Trigger
    rest: timedelta
    kind: ClassVar[str] = "cool_down"

    def decide(self, situation: Situation) -> Decision:
        inner = self.trigger.decide(situation)
        if situation.trained_at is None or situation.now >= situation.trained_at + self.rest:
            return inner
        until, last = clock(situation.trained_at + self.rest), clock(situation.trained_at)
        if situation.only_first:
            fires = inner.outcome is Outcome.FIRE
            words = f"the first training, of {last}, answered no call, so there is no rest after it"
            return Decision(inner.outcome, (*inner.because, words), inner.evidence) if fires else inner
        return hold(
            self.kind, inner, f"resting until {until} after the attempt of {last}",
            "a person asked, so the rest after the last attempt does not hold it back",
        )  # fmt: skip

    def objection(self, reference: Interval | None) -> str | None:
        return self.trigger.objection(reference)


@dataclass(frozen=True)
class NewEvidence:
    """After an attempt whose gate refused, harm and changed inputs call again only with new labels or data.

    The same data would give the same candidate, and the gate the same answer. A person passes, and so does a routine.
    """

    trigger: Trigger
    labels: int = 30
    kind: ClassVar[str] = "new_evidence"

    def decide(self, situation: Situation) -> Decision:
        inner, came = self.trigger.decide(situation), situation.new_labels
        fresh = came >= self.labels or any(event.kind == NEW_DATA for event in situation.events)
        waits = inner.evidence.get("reason") == Reason.HARM.value or causes(inner.evidence) == {INPUTS}
        if situation.refused_at is None or fresh or not waits:
            return inner
        since = f"since the refused attempt of {clock(situation.refused_at)}"
        what = f"nothing new {since}" if not came else f"only {came} new labels {since}"
        return hold(
            self.kind, inner, f"{what}: {self.labels - came} more labels would change it",
            "a person asked, so that there is nothing new does not hold it back",
        )  # fmt: skip

    def objection(self, reference: Interval | None) -> str | None:
        return self.trigger.objection(reference)
