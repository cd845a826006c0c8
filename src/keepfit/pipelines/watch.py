"""One beat of the watch: settle silence, ask for labels, measure, ask the triggers, and retrain if it is time.

`tick` does everything that is due and nothing else; calling it twice is harmless.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from keepfit.clock import Clock
from keepfit.data.foreign import is_foreign
from keepfit.data.labellers import SILENCE
from keepfit.data.records import Job, JobState, Label, Prediction, Source, Window, new_id
from keepfit.data.store import RecordStore
from keepfit.decision import Decision, Outcome
from keepfit.errors import BackendError
from keepfit.evaluation.evaluator import Reference
from keepfit.intervals import Interval, wilson
from keepfit.monitoring.asking import ALIKE, Parts
from keepfit.monitoring.measurement import Measurement
from keepfit.monitoring.monitor import Monitor
from keepfit.monitoring.unsure import Unsure
from keepfit.pipelines.asking import Asking, AskingPlan
from keepfit.pipelines.cascading import Cascading
from keepfit.pipelines.counting import Counting
from keepfit.pipelines.foreign import foreign_name
from keepfit.pipelines.harming import Harming
from keepfit.pipelines.looks import Beat, Look, looked
from keepfit.pipelines.rolling import Rolling, quietly
from keepfit.pipelines.trust import LabelTrust
from keepfit.pipelines.worth import Worth, first
from keepfit.rollout.rollout import serving_since, single, under_way
from keepfit.triggers.drift import remembered
from keepfit.triggers.trigger import Reason, Situation, Trigger

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WatchPlan:
    """What the settings say about watching one model."""

    window: timedelta = timedelta(days=1)
    label_window: timedelta = timedelta(days=30)
    label_rate: float = 0.05
    label_budget: int = 200
    labels: Source = Source.VOLUNTEERED
    settle_after: timedelta = timedelta(days=7)
    timezone: str = "UTC"
    parts: Parts = ALIKE
    audit_rate: float = 0.0
    """Of a complete source: the share that is checked blindly."""
    cohorts: float = 0.0
    """A batch of questions counts only once so many of it are answered; 0: each label counts as it arrives."""


@dataclass(frozen=True)
class Watch:
    """The watch of one model."""

    model: str
    store: RecordStore
    monitor: Monitor
    trigger: Trigger
    reference: Callable[[int], Reference]
    """What a version answered on its own test part, read from its folder."""
    plan: WatchPlan
    clock: Clock
    log_window: Callable[[datetime, Mapping[str, float]], None] = lambda at, values: None
    rolling: Rolling | None = None
    """Moves rollouts; None where nothing is rolled out in steps."""
    objection: Callable[[], str | None] = lambda: None
    """Why a retraining that neither a person nor harm calls for must wait, such as a budget that is spent."""
    harming: Harming | None = None
    """Feeds the harm detectors; None where no trigger reads them."""
    looks: Sequence[Look] = ()
    """What is measured besides: input drift, accuracy without labels, detectors of the settings."""
    more_labels: Callable[[datetime], float] = lambda now: 1.0
    """By what the label rate is multiplied, such as after an alarm of input drift; the budget holds all the same."""
    worth: Worth | None = None
    """Gathers harm and costs; None where no trigger weighs them."""
    proposals: Callable[[], Any] | None = None
    """Says which classes people label that the model does not know; asked when new labels have come."""
    cascading: Cascading | None = None
    """Judges the first stage; None where none answers."""
    fits: dict[int, Unsure | None] = field(default_factory=dict)
    """What each version was unsure of when it was judged."""

    def tick(self) -> Decision:
        """Move a rollout, measure once and ask the triggers; each decision is stored with its reasons."""
        if self.store.deployment(self.model) is None:
            return self.keep(Decision(Outcome.WAIT, ("nothing is deployed yet: run `keepfit train DATA`",)))
        LabelTrust(self.model, self.store, self.clock).judge()  # before anything that they said is counted
        self.settle_silence()
        self.ask_for_labels()
        self.propose_classes()
        quietly(self.rolling, log.error)
        self.look_at_first_stage()
        situation = self.situation()
        decision = self.trigger.decide(situation)
        decision = Decision(decision.outcome, decision.because, {**decision.evidence, **seen(situation)})
        decision = self.afforded(decision)
        if decision.outcome is Outcome.FIRE and (words := self.nothing_to_learn_from()) is not None:
            return self.keep(Decision(decision.outcome, (*decision.because, words), dict(decision.evidence)))
        if decision.outcome is Outcome.FIRE and not self.comes_first(decision):
            return self.call_for_retraining(decision, situation)
        return self.keep(self.after_rollout(decision) if decision.outcome is Outcome.FIRE else decision)

    def nothing_to_learn_from(self) -> str | None:
        """Why a call cannot be answered by a retraining: a version elsewhere is watched, and no data was given yet."""
        live = self.store.deployment(self.model)
        if live is None or self.store.get(self.model, "snapshot") is not None:
            return None
        name = foreign_name(self.store, self.model, single(live.traffic))
        if name is None:
            return None
        return f"{name!r} is served elsewhere and there is no training data yet: `keepfit train DATA` makes a version"

    def comes_first(self, decision: Decision) -> bool:
        """Whether a rollout that is under way must end before this retraining; a person's demand waits for nothing."""
        asked = decision.evidence.get("reason") == Reason.ASKED.value
        return not asked and under_way(self.store, self.model) is not None

    @staticmethod
    def after_rollout(decision: Decision) -> Decision:
        """The same call, put off."""
        words = "a rollout is under way, which may mend it: its end is awaited before another version is trained"
        return Decision(Outcome.WAIT, (words, *decision.because), {**decision.evidence, "telling": [words]})

    def objection_to(self, version: int) -> str | None:
        """Why a trigger makes no sense for this version, such as a floor that it is below itself; None: all do."""
        return None if is_foreign(version) else self.trigger.objection(accuracy_on(self.reference(version)))

    def situation(self) -> Situation:
        """The facts that triggers may look at."""
        history = self.store.deployments(self.model, limit=1000)
        now, version, began = self.clock.now(), single(history[0].traffic), serving_since(history)
        reference = self.reference(version)
        attempts = self.store.jobs(self.model, kind="retrain", limit=1)
        trained_at = attempts[0].at if attempts else None
        refused = bool(attempts) and attempts[0].result.get("verdict") == Outcome.FAIL.value
        measurements = self.measure(version, began, reference, now)
        if self.harming is not None:
            window = Window(began, now + timedelta(microseconds=1))
            measurements += tuple(self.harming.measure(version, began, reference, trained_at, window))
        weighed: Mapping[str, Any] = {} if self.worth is None else self.worth.facts(version, began, now)
        return Situation(
            now=now, model=self.model, version=version, trained_at=trained_at, deployed_at=began,
            only_first=bool(attempts) and first(attempts[0]), refused_at=trained_at if refused else None,
            reference_accuracy=accuracy_on(reference), elsewhere=is_foreign(version),
            new_labels=self.store.count_labels(self.model, trained_at or began),
            measurements=measurements, history=self.history(measurements),
            events=tuple(self.store.waiting_events(self.model)), timezone=self.plan.timezone,
            labels_since_deployment=now - self.plan.label_window <= began,
            predictions=self.store.count_predictions(self.model, Window(began, now + timedelta(seconds=1))), **weighed,
        )  # fmt: skip

    def measure(self, version: int, began: datetime, reference: Reference, now: datetime) -> tuple[Measurement, ...]:
        """The present windows of the live version: its answers, and the labels that came for them."""
        end = now + timedelta(microseconds=1)
        window = Window(max(began, now - self.plan.window), end)
        labels = Window(max(began, now - self.plan.label_window), end)
        plan = self.plan
        counting = Counting(
            self.model, self.store, plan.label_window, plan.cohorts, plan.audit_rate > 0, plan.timezone,
            plan.settle_after if plan.labels is Source.COMPLETE else None,
        )  # fmt: skip
        said = self.store.fair_predictions(self.model, window, version, limit=5000)
        counted = counting.labels(version, labels, began)
        measured = counted.corrected(self.monitor.measure(said, counted.pairs, reference, window, version))
        measured += looked(self.looks, Beat(now, version, began, reference, window, said, counted.pairs))
        self.store.put(self.model, "accuracy", accuracy_of(measured))
        try:
            self.log_window(now, {m.name: m.value for m in measured if m.known})
        except BackendError as error:
            # the watch must see harm also while the tracking server is away; the record holds the same numbers
            log.warning("the window was not logged to the tracking server: %s", error)
        return tuple(measured)

    def own_labels(self, window: Window, version: int, began: datetime) -> list[tuple[Prediction, Label]]:
        """The labels that arrived in the window for what the version has answered since `began`.

        What is said late of an earlier time of the same version, before it was taken back and came again, is no news.
        """
        pairs = self.store.labelled(self.model, window, version, by="label")
        return [(prediction, label) for prediction, label in pairs if prediction.time >= began]

    def history(self, present: tuple[Measurement, ...]) -> tuple[tuple[Measurement, ...], ...]:
        """Earlier windows of this version, newest first; the present one joins them when it overlaps none."""
        kept = self.store.get(self.model, "windows") or []
        earlier = tuple(tuple(Measurement.from_json(m) for m in window) for window in kept)
        after = remembered(earlier, present)
        if after != earlier:
            self.store.put(self.model, "windows", [[m.to_json() for m in window] for window in after])
        return tuple(w for w in earlier if w and present and w[0].model_version == present[0].model_version)

    def look_at_first_stage(self) -> None:
        """A look that must not end the beat."""
        if self.cascading is not None:
            try:
                self.cascading.tick()
            except BackendError as error:
                log.error("the first stage could not be looked at: %s", error)

    def propose_classes(self) -> None:
        """Once for all labels that have come since the last beat."""
        try:
            if self.proposals is not None:
                self.proposals()
        except BackendError as error:  # the registry says what the model knows; harm must be seen without it
            log.warning("whether a class is new cannot be told: %s", error)

    def ask_for_labels(self) -> None:
        """Draw from the answers since the last beat."""
        plan = self.plan
        rate = self.wanted_rate(self.clock.now())
        asking = AskingPlan(rate, plan.label_budget, plan.parts, plan.audit_rate, plan.timezone)
        Asking(self.model, self.store, asking, self.clock, self.reference, self.rolling, self.fits).ask()

    def wanted_rate(self, now: datetime) -> float:
        """The share of answers to ask about, before the budget; more while the inputs drift."""
        return min(1.0, self.plan.label_rate * self.more_labels(now))

    def settle_silence(self) -> None:
        """Where every error becomes known, silence for long enough confirms the answer."""
        if self.plan.labels is not Source.COMPLETE:
            return
        now = self.clock.now()
        end = now - self.plan.settle_after
        start = self.store.get(self.model, "settled_until")
        since = datetime.fromisoformat(start) if start else datetime.min.replace(tzinfo=now.tzinfo)
        window = Window(min(since, end), end)  # a clock that jumped back must not leave the answers since then open
        said = self.store.labelled(self.model, window, sources=frozenset(Source), everyone=True)
        spoken = {p.example_id for p, _ in said}  # of those set apart, too: their labels may come back
        silent = [p for p in self.store.predictions(self.model, window) if not p.shadow and p.example_id not in spoken]
        confirmed = {p.example_id: p for p in silent}
        self.store.add_labels(
            self.model,
            [Label(p.example_id, p.label, now, Source.COMPLETE, SILENCE, prediction_id=p.id)
             for p in confirmed.values()],
        )  # fmt: skip
        self.store.put(self.model, "settled_until", end.isoformat())

    def call_for_retraining(self, decision: Decision, situation: Situation) -> Decision:
        """One retraining at a time: a second call joins the first."""
        reason = str(decision.evidence.get("reason", Reason.ROUTINE.value))
        request: dict[str, Any] = {
            "reason": reason,
            "because": list(decision.because),
            "actor": "watch",
            "since": (began(decision) or self.since(situation)).isoformat() if reason == Reason.HARM.value else None,
        }
        wanted = Job(new_id(), self.model, "retrain", self.clock.now(), JobState.WAITING, request)
        job = self.store.join_or_add_job(wanted)
        joined = job.id != wanted.id
        evidence = {**decision.evidence, "job": job.id, "joined": joined}
        because = (*decision.because, *(("a retraining is under way already; this call joins it",) if joined else ()))
        stored = self.keep(Decision(decision.outcome, because, evidence))
        self.store.handle_events([event.id for event in situation.events], handled_by=job.id)
        return stored

    def afforded(self, decision: Decision) -> Decision:
        """The decision, or to wait where it is no matter of need and something speaks against spending."""
        if decision.outcome is not Outcome.FIRE or decision.evidence.get("reason") != Reason.ROUTINE.value:
            return decision
        objection = self.objection()
        if objection is None:
            return decision
        evidence = {**decision.evidence, "put_off": True, "telling": [objection]}
        return Decision(Outcome.WAIT, (objection, *decision.because), evidence)

    def since(self, situation: Situation) -> datetime:
        """When the harm may have begun: the earliest answer among those with labels in the window."""
        end = situation.now + timedelta(microseconds=1)
        began = situation.deployed_at or situation.now
        start = max(began, situation.now - self.plan.label_window)
        pairs = self.own_labels(Window(start, end), situation.version, began)
        # the examples' own times, for these are what the gate finds in the snapshot
        times = [self.store.prediction(self.model, p.id)[0].time for p, _ in pairs]
        return min(times, default=situation.now)

    def keep(self, decision: Decision) -> Decision:
        """Store the decision of this beat."""
        self.store.add_decision(self.model, "trigger", decision, self.clock.now())
        return decision


def began(decision: Decision) -> datetime | None:
    """When the harm began, where a trigger that fired can tell; the earliest of several."""
    return min((datetime.fromisoformat(since) for since in beginnings(decision.evidence)), default=None)


def beginnings(evidence: Mapping[str, Any]) -> Iterator[str]:
    """What the parts that fired say of when it began, however deep they lie."""
    for part in evidence.get("triggers", ()):
        if part["outcome"] == Outcome.FIRE.value:
            yield from [part["since"]] if part.get("since") else []
            yield from beginnings(part)


def seen(situation: Situation) -> dict[str, Any]:
    """What the decision was based on, as plain values."""
    return {
        "version": situation.version,
        "new_labels": situation.new_labels,
        "measurements": [m.to_json() for m in situation.measurements],
    }


def accuracy_on(reference: Reference) -> Interval | None:
    """The accuracy with which a version was judged, or None without any row."""
    if not len(reference.truth):
        return None
    return wilson(int((reference.scores.argmax(axis=1) == reference.truth).sum()), len(reference.truth))


def accuracy_of(measured: Sequence[Measurement]) -> dict[str, Any] | None:
    """The realised accuracy for `GET /status`, or None while there are no labels that measure."""
    found = next((m for m in measured if m.name == "accuracy" and m.n > 0), None)
    return None if found is None else Interval(found.value, found.low, found.high, found.n).to_json()
