"""A rollout, told step by step: count what both versions did, judge, and move the traffic."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from keepfit.clock import Clock
from keepfit.data.records import MEASURING, STREAM, Failure, Label, Prediction, Window
from keepfit.data.store import RecordStore
from keepfit.decision import Decision
from keepfit.errors import BackendError, KeepfitError, Refused
from keepfit.monitoring.comparison import COMPARED, Comparison, Counts, Normal, Paired, Sides, counted
from keepfit.registry.registry import Alias, Registry
from keepfit.rollout.rollout import Roller, Rollout, under_way
from keepfit.tasks.task import Model, Output, predict

COUNTS = "rollout_counts"
"""Under this name the store keeps what was counted so far, so that each answer is looked at once."""

UNWRITTEN = timedelta(seconds=1)
"""Answers younger than this may not be written yet."""

ENDS = frozenset({"load", "out"})
"""Failures after which a version cannot serve."""


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
        number, _, ages = self.roller.stand(rollout)
        decision = self.roller.strategy.judge(number, ages, self.compare(rollout))
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
        steps = self.count(rollout, normal)
        sides = Sides(rollout.version, rollout.champion, self.tolerance)
        failures = self.store.count_failures(self.model, rollout.version, rollout.began)
        quality, slices = self.quality(rollout)
        live = self.store.deployment(self.model)
        return Comparison(
            quality=quality,
            slices=slices,
            signs=sides.signs(steps, failures, self.failure_rate),
            touched=sum(counts.get("heard", {}).get(str(rollout.version), 0) for counts in steps),
            out=self.ended(rollout),
            served=live is not None and bool(live.applied),
        )

    def ended(self, rollout: Rollout) -> str | None:
        """The words of a server for which the challenger cannot serve at all."""
        failures = self.store.failures(self.model, rollout.began)
        last = next((f for f in failures if f.version == rollout.version and f.kind in ENDS), None)
        return None if last is None else f"version {rollout.version} cannot serve ({last.worker}): {last.message}"

    def count(self, rollout: Rollout, normal: Normal) -> list[Counts]:
        """What was counted in each step; each answer is counted once, in the step in which it was given."""
        kept = self.store.get(self.model, COUNTS) or {}
        steps: dict[str, Counts] = dict(kept["steps"]) if kept.get("rollout") == rollout.id else {}
        until = datetime.fromisoformat(kept["until"]) if steps else rollout.since
        start, end = max(until, rollout.since), self.clock.now() - UNWRITTEN
        counts: Mapping[str, Any] = steps.get(str(rollout.step), {})
        if start < end:
            versions = (rollout.version, rollout.champion)
            fresh = [b for b in self.store.briefs(self.model, Window(start, end)) if b.version in versions]
            counts = counted(dict(counts), fresh, normal)
        objections = self.store.complaints(self.model, Window(rollout.since, self.clock.now()))
        steps[str(rollout.step)] = {**counts, "complaints": {str(v): n for v, n in objections.items()}}
        self.store.put(
            self.model, COUNTS, {"rollout": rollout.id, "steps": steps, "until": max(start, end).isoformat()}
        )
        return list(steps.values())

    def quality(self, rollout: Rollout) -> tuple[Paired, dict[str, Paired]]:
        """What the labels that arrived since the beginning say, overall and on protected slices."""
        window = Window(rollout.began, self.clock.now() + timedelta(microseconds=1))
        pairs = self.store.labelled(self.model, window, sources=MEASURING, by="label")
        known = self.answers(rollout, pairs)
        right: list[tuple[Prediction, bool, bool]] = []
        for prediction, label in pairs:
            mine = known.get((prediction.example_id, rollout.version))
            theirs = known.get((prediction.example_id, rollout.champion))
            if mine is not None and theirs is not None:
                right.append((prediction, mine == label.value, theirs == label.value))
        slices: dict[str, list[tuple[bool, bool]]] = {}
        for prediction, *judged in right:
            for name in self.protect:
                if (value := prediction.context.get(name)) is not None:
                    slices.setdefault(f"{name}={value}", []).append((judged[0], judged[1]))
        overall = Paired.of((mine, theirs) for _, mine, theirs in right)
        return overall, {name: Paired.of(judged) for name, judged in slices.items()}

    def answers(self, rollout: Rollout, pairs: Sequence[tuple[Prediction, Label]]) -> dict[tuple[str, int], str]:
        """What both versions say to the labelled examples; what one has not met it is asked now, unheard."""
        versions = (rollout.version, rollout.champion)
        ids = [prediction.example_id for prediction, _ in pairs]
        known = self.store.answers(self.model, ids, versions)
        if self.ended(rollout) is not None:
            return known
        for version in versions:
            missing = [p for p, _ in pairs if (p.example_id, version) not in known and p.stage != STREAM]
            if missing:
                known |= self.ask_later(version, missing[: self.most])
        return known

    def ask_later(self, version: int, predictions: Sequence[Prediction]) -> dict[tuple[str, int], str]:
        """The answers of a version to examples that it has not met; recorded as a shadow's."""
        model, now = self.load(version), self.clock.now()
        examples = [self.store.prediction(self.model, prediction.id)[0] for prediction in predictions]
        try:
            output = finite(predict(model, [example.content for example in examples]))
        except Exception as error:  # whatever a damaged or foreign model raises is its failure, not the watch's
            self.store.add_failures(self.model, [Failure(version, now, "answer", str(error), "worker", len(examples))])
            return {}
        said = [
            Prediction(example.id, version, model.labels, scores, embedding, now, key=example.key,
                       context=example.context, stage=COMPARED, shadow=True)
            for example, scores, embedding in zip(examples, output.scores, output.embeddings, strict=True)
        ]  # fmt: skip
        self.store.add_predictions(self.model, list(zip(examples, said, strict=True)))
        return {(one.example_id, version): one.label for one in said}


def finite(output: Output) -> Output:
    """The output itself. Raises BackendError when a score is no number."""
    if not np.isfinite(output.scores).all():
        raise BackendError("it answered with what is no number")
    return output


def quietly(rolling: Rolling | None, note: Callable[[str], None]) -> Decision | None:
    """A look that must not end the watch's beat: a failure is noted, and the next beat looks again."""
    if rolling is None:
        return None
    try:
        return rolling.move()
    except KeepfitError as error:
        note(f"the rollout could not be looked at: {error}")
        return None
