"""A rollout, told step by step: count what both versions did, judge, and move the traffic."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from keepfit.clock import Clock
from keepfit.data.asked import alike_from_all
from keepfit.data.foreign import is_foreign
from keepfit.data.labellers import SILENCE
from keepfit.data.records import (
    DISAGREEMENT,
    MEASURING,
    STREAM,
    UNWRITTEN,
    Example,
    Label,
    Prediction,
    Source,
    Window,
    is_withheld,
)
from keepfit.data.store import RecordStore
from keepfit.decision import Decision
from keepfit.errors import BackendError, Refused
from keepfit.monitoring.asking import lot
from keepfit.monitoring.comparison import COMPARED, Comparison, Normal, Paired, Sides, Tallied
from keepfit.pipelines.jumps import BACK, went_back
from keepfit.pipelines.taking import INSTANT, Days
from keepfit.registry.registry import Alias, Registry
from keepfit.rollout.rollout import Roller, Rollout, under_way
from keepfit.rollout.strategies import Step
from keepfit.tasks.task import Model, predict

log = logging.getLogger(__name__)

COUNTS = "rollout_counts"
"""Under this name the store keeps what was counted so far, so that each answer is looked at once."""

MET = "rollout_met"
"""Under this name the store keeps on how many answers the two versions disagree."""

FAILED = frozenset({"answer", "slow"})
"""Failures to answer a live request."""

LOADS = 2
"""After so many attempts to load it a version counts as one that cannot serve; the first may have come too early."""

AT_ONCE = 20_000
"""Answers counted in one look at most; the others are counted at the next."""


@dataclass(frozen=True)
class Rolling:
    """The rollouts of one model."""

    roller: Roller
    registry: Registry
    load: Callable[[int], Model]
    """The answering half of a version: it answers labelled examples that the version has not met."""
    protect: Sequence[str] = ()
    """Names of context values; on none of their slices the challenger may be worse."""
    tolerance: float = 1.5
    failure_rate: float = 0.01
    most: int = 256
    """Examples answered later in one beat at most."""
    days: Days | None = None
    """Questions of one day count together; None: each label as it arrives."""
    unreadable: set[tuple[int, str]] = field(default_factory=set)
    """(version, example) that could not be answered later, so that they are not tried at each beat."""

    @property
    def model(self) -> str:
        """Its name."""
        return self.roller.model

    @property
    def store(self) -> RecordStore:
        """Where everything is."""
        return self.roller.store

    @property
    def clock(self) -> Clock:
        """What time it is."""
        return self.roller.clock

    def move(self) -> Decision | None:
        """One look at the rollout under way, and the step that follows from it; None when there is none."""
        rollout = under_way(self.store, self.model)
        if rollout is None:
            return None
        decision = self.roller.judge(rollout, self.compare(rollout))
        try:
            moved = self.roller.act(rollout, decision)
        except Refused:  # a person was faster; their word is on record
            return None
        if moved is not None and rollout.version not in moved.traffic.versions:
            self.registry.set_alias(self.model, Alias.CHALLENGER, None)
        return decision

    def compare(self, rollout: Rollout) -> Comparison:
        """Everything that is known of the challenger now."""
        normal = Normal(rollout.normal.get("slow_ms"), rollout.normal.get("unsure_below"))
        tallied = self.count(rollout, normal)
        sides = Sides(rollout.version, rollout.champion, self.tolerance)
        failures = self.store.count_failures(self.model, rollout.version, rollout.began, FAILED)
        quality, slices = self.quality(rollout)
        live = self.store.deployment(self.model)
        return Comparison(
            quality=quality,
            slices=slices,
            signs=sides.signs(tallied, [chance(step) for step in rollout.steps], failures, self.failure_rate),
            touched=tallied.total("heard", rollout.version),
            out=self.ended(rollout),
            served=live is not None and bool(live.applied),
            place=rollout.place,
        )

    def ended(self, rollout: Rollout) -> str | None:
        """The words of a server for which the challenger cannot serve at all."""
        failures = [f for f in self.store.failures(self.model, rollout.began) if f.version == rollout.version]
        loads = [f for f in failures if f.kind == "load"]
        last = next((f for f in failures if f.kind == "out"), None)
        if last is None and sum(f.count for f in loads) >= LOADS:
            last = loads[0]
        return None if last is None else f"version {rollout.version} cannot serve ({last.worker}): {last.message}"

    def count(self, rollout: Rollout, normal: Normal) -> Tallied:
        """What was counted in each step; each answer is counted once, in the step in which it was given."""
        kept = self.store.get(self.model, COUNTS) or {}
        if kept.get("rollout") != rollout.id:
            kept = {"steps": {}, "keys": {}, "until": rollout.since.isoformat()}
        tallied = Tallied(kept["steps"], {event: set(marks) for event, marks in kept["keys"].items()})
        start, end = datetime.fromisoformat(kept["until"]), self.clock.now() - UNWRITTEN
        if went_back(self.store, self.model, "the answers of both versions are counted again", start, end):
            start = end
        elif rollout.since <= end + BACK:
            start = max(start, rollout.since)
        both = rollout.steps[rollout.step].shadow
        if start < end:
            versions = (rollout.version, rollout.champion)
            fresh = self.store.briefs_of(self.model, Window(start, end), versions, AT_ONCE)
            end = end if len(fresh) < AT_ONCE else fresh[-1].time + timedelta(microseconds=1)
            tallied.take(rollout.step, fresh, normal, both)
        for answer in self.store.complaints(self.model, Window(rollout.since, self.clock.now())):
            if answer.time >= rollout.since and not both:
                tallied.add_event(rollout.step, "complaints", answer.version, answer.key, both)
        until = max(start, end).isoformat()
        self.store.put(self.model, COUNTS, {"rollout": rollout.id, **asdict(tallied), "until": until})
        return tallied

    def meet(self, fresh: Sequence[Prediction], until: datetime) -> dict[str, bool] | None:
        """Of live answers that both versions know: whether they disagree, by prediction id; None: nothing is compared.

        What one of the two was not asked in life it is asked now, unheard: so many in a beat, chosen by lot. How many
        disagree is counted, once for each answer: the share of disagreements needs no labels.
        """
        rollout = under_way(self.store, self.model)
        if rollout is None or not rollout.compares or self.ended(rollout) is not None:
            return None
        versions = (rollout.version, rollout.champion)
        known = self.store.answers(self.model, [p.example_id for p in fresh], versions)
        for version in versions:
            missing = [p for p in fresh if (p.example_id, version) not in known]
            chosen = sorted(missing, key=lambda p: lot(p.id, COMPARED))[: self.most]
            known |= self.ask_later(version, chosen) if chosen else {}
        both = [p for p in fresh if all((p.example_id, version) in known for version in versions)]
        differs = {p.id: known[p.example_id, versions[0]] != known[p.example_id, versions[1]] for p in both}
        self.note_met(rollout, [(p.time, differs[p.id]) for p in both], until)
        return differs

    def met(self, rollout: Rollout) -> dict[str, Any]:
        """How many answers both versions gave to what came since the beginning, and on how many they disagree."""
        kept = self.store.get(self.model, MET) or {}
        return kept if kept.get("rollout") == rollout.id else {"rollout": rollout.id, "met": 0, "differ": 0}

    def note_met(self, rollout: Rollout, answers: Sequence[tuple[datetime, bool]], until: datetime) -> None:
        """Count what came since the last count: a stretch that is drawn again after a crash counts once."""
        kept = self.met(rollout)
        start = datetime.fromisoformat(kept.get("until", rollout.began.isoformat()))
        if start > until + BACK:  # the clock ran ahead and was put right
            start = min((time for time, _ in answers), default=until)
        fresh = [differs for time, differs in answers if time >= start]
        counted = {"met": kept["met"] + len(fresh), "differ": kept["differ"] + sum(fresh)}
        moment = max(start, until).isoformat()
        self.store.put(self.model, MET, {"rollout": rollout.id, **counted, "until": moment})

    def proving(self, rollout: Rollout) -> list[tuple[Prediction, Label | None]]:
        """Labels since the beginning that may prove something, in the order of their arrival, one for each content.

        A label proves where its chance of being asked for knew at most whether the two disagree: drawn alike from all,
        or by the disagreements of this very rollout. One that was drawn only because the model was unsure, or because
        it disagreed with an earlier challenger, is learnt from and proves nothing. Of duplicates the first counts.
        Where silence confirms, an objection counts when silence of its answer's time would: those who object come
        first, and they object to what they saw. Where questions count by days (`days`), those of answers since the
        beginning whose day is over and answered prove, in the order of the answers, with None where nobody answered.
        """
        now, closed = self.clock.now(), None
        window = Window(rollout.began, now + INSTANT)
        pairs: list[tuple[Prediction, Label | None]] = [
            *self.store.labelled(self.model, window, sources=MEASURING, by="label")
        ]
        if self.days is not None:
            closed = Window(rollout.began, max(rollout.began, self.days.closed(self.store, self.model, now)))
            pairs += [(said, None) for said, _ in self.store.unanswered(self.model, closed)]
            pairs.sort(key=lambda pair: pair[0].time)
        ids = [prediction.example_id for prediction, _ in pairs]
        parts, alike = self.store.parts_of(self.model, ids), self.store.alike(self.model, ids)
        kept = self.store.get(self.model, "settled_until")
        settled = None if kept is None else datetime.fromisoformat(kept)
        found: dict[str, tuple[Prediction, Label | None]] = {}
        for prediction, label in pairs:
            complete = label is not None and label.source is Source.COMPLETE
            if complete and settled is not None and prediction.time >= settled:
                continue
            if closed is not None and not complete and prediction.time not in closed:
                continue
            by = parts.get(prediction.example_id, {})
            source = Source.ASKED if label is None else label.source
            if alike_from_all(source, by) or (DISAGREEMENT in by and by[DISAGREEMENT] >= rollout.began):
                found.setdefault(alike[prediction.example_id], (prediction, label))
        return list(found.values())

    def quality(self, rollout: Rollout) -> tuple[Paired, dict[str, Paired]]:
        """What the labels that arrived since the beginning say, overall and on protected slices."""
        pairs = self.proving(rollout)
        known, ties, met = self.answers(rollout, pairs), 0, self.met(rollout)
        right: list[tuple[Prediction, bool, bool, bool]] = []
        unknown: list[Prediction] = []
        for prediction, label in pairs:
            mine = known.get((prediction.example_id, rollout.version))
            theirs = known.get((prediction.example_id, rollout.champion))
            if label is None:
                unknown += [prediction] if mine is not None and theirs is not None and mine != theirs else []
            elif mine is not None and theirs is not None:
                right.append((prediction, mine == label.value, theirs == label.value, label.actor == SILENCE))
                ties += mine != theirs and label.value not in (mine, theirs)
        slices: dict[str, list[tuple[bool, bool, bool]]] = {}
        for prediction, *judged in right:
            for name in self.slices_of(prediction):
                slices.setdefault(name, []).append((judged[0], judged[1], judged[2]))
        gone = Counter(name for prediction in unknown for name in self.slices_of(prediction))
        overall = replace(paired([judged for _, *judged in right]), ties=ties, met=met["met"], differ=met["differ"])
        return replace(overall, unanswered=len(unknown)), {
            name: replace(paired(judged), unanswered=gone[name]) for name, judged in slices.items()
        }

    def slices_of(self, prediction: Prediction) -> list[str]:
        """The protected slices that it belongs to."""
        context = prediction.context
        return [f"{name}={context[name]}" for name in self.protect if context.get(name) is not None]

    def answers(self, rollout: Rollout, pairs: Sequence[tuple[Prediction, Label | None]]) -> dict[tuple[str, int], str]:
        """What both versions say to the labelled examples; what one has not met it is asked now, unheard."""
        versions = (rollout.version, rollout.champion)
        ids = [prediction.example_id for prediction, _ in pairs]
        known = self.store.answers(self.model, ids, versions)
        if self.ended(rollout) is not None:
            return known
        for version in versions:
            missing = [p for p, _ in pairs if (p.example_id, version) not in known and p.stage != STREAM]
            if missing:
                known |= self.ask_later(version, missing)
        return known

    def ask_later(self, version: int, predictions: Sequence[Prediction]) -> dict[tuple[str, int], str]:
        """The answers of a version to examples that it has not met; recorded as a shadow's.

        What cannot be answered here is left out: it is no failure in life, and labels that miss only delay the proof.
        """
        if is_foreign(version):  # it answers elsewhere, and can be asked nothing here
            return {}
        fresh = [p for p in predictions if (version, p.example_id) not in self.unreadable][: self.most]
        examples = [self.store.prediction(self.model, prediction.id)[0] for prediction in fresh]
        try:
            said = self.said(version, self.load(version), examples)
        except Exception as error:  # whatever a damaged or foreign model raises
            log.warning("version %d of %s could not be asked later: %s", version, self.model, error)
            return {}
        self.store.add_later(self.model, said)
        return self.store.answers(self.model, [one.example_id for one in said], [version])

    def said(self, version: int, model: Model, examples: Sequence[Example]) -> list[Prediction]:
        """All at once; where that fails one by one, so that a content that is none any more spoils no other."""
        examples = [example for example in examples if not is_withheld(example.content)]
        if not examples:
            return []
        try:
            return self.answered(version, model, examples)
        except Exception:
            found = []
            for example in examples:
                try:
                    found += self.answered(version, model, [example])
                except Exception as error:
                    self.unreadable.add((version, example.id))
                    log.warning("version %d of %s cannot answer %s: %s", version, self.model, example.id, error)
            return found

    def answered(self, version: int, model: Model, examples: Sequence[Example]) -> list[Prediction]:
        """What the version says. Raises BackendError when a score is no number."""
        output = predict(model, [example.content for example in examples])
        if not np.isfinite(output.scores).all():
            raise BackendError("it answered with what is no number")
        now = self.clock.now()
        return [
            Prediction(example.id, version, model.labels, scores, embedding, now, key=example.key,
                       context=example.context, stage=COMPARED, shadow=True)
            for example, scores, embedding in zip(examples, output.scores, output.embeddings, strict=True)
        ]  # fmt: skip


def paired(judged: Sequence[Sequence[bool]]) -> Paired:
    """From (challenger was right, champion was right, only silence says so) of each example."""
    silent = sum(theirs and not mine and quiet for mine, theirs, quiet in judged)
    return replace(Paired.of((mine, theirs) for mine, theirs, _ in judged), silent=silent)


def chance(step: Step) -> float:
    """That an event is the challenger's in this step, if both are alike: its share, or half where both are asked."""
    return 0.5 if step.shadow else step.share


def quietly(rolling: Rolling | None, note: Callable[[str], None]) -> Decision | None:
    """A look that must not end the watch's beat: a failure is noted, and the next beat looks again."""
    if rolling is None:
        return None
    try:
        return rolling.move()
    except Exception as error:
        note(f"the rollout could not be looked at: {error}")
        return None
