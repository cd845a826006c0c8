"""Tell people what is on record: each trigger, verdict, failure, deployment and rollback is announced once.

Alerts are made from the stored decisions and deployments, not by whoever made them, so that nothing is announced
that is not on record, a restart announces nothing twice, and a rollback without a worker is told when one runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from keepfit.alerts.alerts import Alert, Alerts, Delivery
from keepfit.alerts.wording import (
    budget_spent,
    deployed,
    estimate_refuted,
    failed,
    first_stage,
    gate_judged,
    inputs_moved,
    rolled_back,
    set_apart,
    trigger_fired,
)
from keepfit.clock import Clock
from keepfit.data.records import Deployment, StoredDecision
from keepfit.data.store import RecordStore
from keepfit.decision import Decision, Outcome
from keepfit.rollout.rollout import single

MOST = 1000
"""Decisions looked through at once; a longer pause announces only the newest."""


@dataclass(frozen=True)
class Announcer:
    """Announces what is new about one model."""

    model: str
    store: RecordStore
    alerts: Alerts
    clock: Clock
    aloud: Callable[[Alert], None] = lambda alert: None
    """Hears each alert as well, also where there is no channel and of repeats that are held."""

    def announce(self) -> None:
        """Send what was recorded since the last call, oldest first, and what was held back and is due."""
        told = self.store.get(self.model, "announced") or {}
        decisions = newer(self.store.decisions(self.model, limit=MOST), told.get("decision"))
        deployments = [d for d in self.store.deployments(self.model, MOST) if d.id > told.get("deployment", 0)]
        mark = {
            "decision": decisions[0].id if decisions else told.get("decision"),
            "deployment": max((d.id for d in deployments), default=told.get("deployment", 0)),
        }
        if mark != told:
            # first the mark: an alert that is lost by a kill is better than one that is sent for ever
            self.store.put(self.model, "announced", mark)
        found = [alert for d in decisions if (alert := self.of_decision(d)) is not None]
        found += [self.of_deployment(d) for d in deployments]
        for alert in sorted(found, key=lambda a: a.at):
            self.record(f"alert {alert.kind}", self.alerts.send(alert))
            self.aloud(alert)
        for delivery in self.alerts.flush(self.clock.now()):
            self.record("alert summary", delivery)

    def of_decision(self, stored: StoredDecision) -> Alert | None:
        """The words for a judgement; None for those that nobody needs to hear of."""
        decision, subject = stored.decision, stored.subject
        if subject == "trigger" and decision.outcome is Outcome.FIRE and not decision.evidence.get("joined"):
            live = self.store.live_at(self.model, stored.at)
            version = None if live is None else single(live.traffic)
            return trigger_fired(stored.model, version, decision, stored.at)
        if subject.startswith("gate v"):
            return gate_judged(stored.model, int(subject.removeprefix("gate v")), decision, stored.at)
        if subject.startswith("labeller ") and decision.outcome is Outcome.HOLD:
            return set_apart(stored.model, subject.removeprefix("labeller "), decision, stored.at)
        if subject == "retrain" and decision.outcome is Outcome.FAIL:
            return failed(stored.model, "the retraining", "; ".join(decision.because), stored.at)
        if subject.startswith("hand over v") and decision.outcome is Outcome.FAIL:
            return failed(stored.model, "the hand-over", "; ".join(decision.because), stored.at)
        if subject == "follow" and decision.outcome is Outcome.FAIL:
            return failed(stored.model, "following its answers", "; ".join(decision.because), stored.at)
        if subject == "inputs" and decision.outcome is Outcome.FIRE and not decision.evidence.get("again"):
            return inputs_moved(stored.model, decision, stored.at)
        if subject == "estimate" and decision.outcome is Outcome.FAIL:
            return estimate_refuted(stored.model, decision, stored.at)
        if subject == "cascade" and decision.evidence.get("switched"):
            return first_stage(stored.model, decision, stored.at)
        if subject == "budget":
            return budget_spent(stored.model, decision, stored.at)
        return None

    def of_deployment(self, deployment: Deployment) -> Alert:
        """The words for a change of traffic."""
        history = self.store.deployments(self.model, MOST)
        earlier = next((d.traffic for d in history if d.id < deployment.id), None)
        before = None if earlier is None else single(earlier)
        if deployment.kind == "rollback" and earlier is not None:
            # of a challenger that had a part of the traffic it must be said that it is gone
            before = max(earlier.versions - deployment.traffic.versions, default=before)
        return (rolled_back if deployment.kind == "rollback" else deployed)(deployment, before)

    def record(self, subject: str, delivery: Delivery) -> None:
        """Whom it reached, and whom not and why."""
        if delivery.held:
            decision = Decision(Outcome.HOLD, (f"{delivery.held} like this wait for one summary",))
        else:
            outcome = Outcome.FAIL if delivery.failed else Outcome.PASS
            sent = (f"sent to {', '.join(delivery.sent)}",) if delivery.sent else ("sent to nobody",)
            decision = Decision(outcome, (*sent, *delivery.failed))
        self.store.add_decision(self.model, subject, decision, self.clock.now())


def newer(decisions: list[StoredDecision], told: str | None) -> list[StoredDecision]:
    """Those before (newest first) the one that was told last."""
    for place, stored in enumerate(decisions):
        if stored.id == told:
            return decisions[:place]
    return decisions
