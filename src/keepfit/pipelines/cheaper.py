"""Answers at no training cost, before a training: another class mix, then an earlier version; the gate judges each."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.data.records import Job, Window
from keepfit.data.snapshot import Snapshot, Split
from keepfit.data.splits import UNKNOWN_TIME
from keepfit.data.store import RecordStore
from keepfit.decision import Decision, Outcome
from keepfit.errors import KeepfitError, NotFound
from keepfit.evaluation.evaluator import Judged, evaluate, judge, read_reference, write_reference
from keepfit.evaluation.mix import FOLDS, Comparison, Once, compared, reweighting
from keepfit.pipelines.answering import Answers
from keepfit.pipelines.choosing import Rise
from keepfit.pipelines.train_part import TrainPart
from keepfit.registry.registry import ModelVersion, Registry, verdict_from_json, verdict_to_json
from keepfit.rollout.rollout import ENDS, single
from keepfit.tasks.prior import copy_with_prior
from keepfit.tasks.task import Floats, Model, Task, predict

Ints = NDArray[np.int64]
State = dict[str, Any]

MIX, EARLIER = "mix", "earlier"
FEWEST = 30
"""Random labels since the change below which nothing can be said."""
NEWEST = 300
"""Of these labels so many are looked at: each earlier version must be asked about each."""
VERSIONS = 4
"""Earlier versions that are asked, the last that served first."""
ANSWERS = 2000
"""Newest answers without a label that the class mix is estimated from, too."""
SETTLED = timedelta(days=7)
"""What was taken back, or did not prove itself, within this time is not offered again."""


@dataclass(frozen=True, eq=False)
class Cheaper:
    """What may spare one training. Screened on the train part; the gate looks at what is held out."""

    model: str
    task: Task
    store: RecordStore
    registry: Registry
    work: Path
    """The job's own folder."""
    verdict: Callable[[Model, Judged], Decision]
    """The gate's word on a candidate that was judged on the test part."""
    called: Callable[[Model, datetime], Model]
    """A version that was made then, with its classes as they are called today."""
    level: float = 0.05
    rise: Rise | None = None
    """Where a rise of the errors was looked for."""

    def first_that_passes(
        self, kinds: Sequence[str], job: Job, data: tuple[Snapshot, TrainPart], champion: tuple[int, Answers],
        since: float | None,
    ) -> State:  # fmt: skip
        """What the steps that follow need of it; empty when a training is called for. Each try is a stored decision."""
        snapshot, part = data
        places = self.newest(part, since)
        for kind in (MIX, EARLIER):
            if kind not in kinds:
                continue
            stored = self.known(f"{job.id}-{kind}")
            if stored is None:
                attempt = self.mix if kind == MIX else self.earlier
                number, decision = champion[0], self.too_few(places)
                if decision is None:
                    decision = attempt(part, places, champion, snapshot)
                told = decision.evidence.get("version")
                subject = f"{kind} v{told}" if kind == EARLIER and told is not None else kind
                evidence = {"champion": number, "since": since, **decision.evidence}
                if self.rise is not None:
                    evidence["rise"] = self.rise.to_json()
                stored = Decision(decision.outcome, decision.because, evidence)
                self.store.add_decision(self.model, subject, stored, job.at, id=f"{job.id}-{kind}")
            if stored.outcome is Outcome.PASS:
                return dict(stored.evidence["state"])
        return {}

    def known(self, id_: str) -> Decision | None:
        """What was decided before a kill."""
        try:
            return self.store.decision(id_).decision
        except NotFound:
            return None

    @staticmethod
    def newest(part: TrainPart, since: float | None) -> Ints:
        """The random labels that speak of the present."""
        places = part.random
        return places[part.past.times[places] >= since][-NEWEST:] if since is not None else places[-NEWEST:]

    @staticmethod
    def too_few(places: Ints) -> Decision | None:
        """Nothing is tried on a handful of labels."""
        if len(places) >= FEWEST:
            return None
        words = f"{len(places)} random labels since the change are too few to judge an answer at no cost by"
        return Decision(Outcome.FAIL, (f"{words} ({FEWEST} are needed)",), {"labels": len(places)})

    def mix(self, part: TrainPart, places: Ints, champion: tuple[int, Answers], snapshot: Snapshot) -> Decision:
        """The champion, its probabilities corrected for the class mix of now."""
        number, asked = champion
        if not getattr(self.task, "reweights", False):
            return Decision(Outcome.FAIL, (f"a model of {self.task.name} cannot be corrected for the class mix",))
        if (ended := self.ended_mix(number)) is not None:
            words = f"version {ended}, which corrected version {number} for the class mix, has just been given up"
            return Decision(Outcome.FAIL, (words,), {"ended": ended})
        folder = self.registry.fetch(self.model, number)
        reference, labels = read_reference(folder), asked.model.labels
        index = {label: i for i, label in enumerate(labels)}
        truth = np.array([index.get(part.rows[i].label, -1) for i in places], np.int64)
        scores = asked([part.rows[i].content for i in places]).scores
        if labels != self.task.load(folder).labels or reference.scores.shape[1] != len(labels):
            return Decision(Outcome.FAIL, (f"classes were renamed since version {number} was judged: train it anew",))
        once = Once(reference.scores, reference.truth)
        others = self.others(number, part.rows[places[0]].time, labels)
        found, ratios = reweighting(once, scores, truth, others, part.folds(places, FOLDS))
        evidence: State = {
            "screen": found.to_json(), "ratios": {n: round(float(r), 4) for n, r in zip(labels, ratios, strict=True)},
            "answers": len(others),
        }  # fmt: skip
        refused = screened(found, "a change of the class mix alone", self.level)
        if refused is not None:
            return Decision(Outcome.FAIL, refused, evidence)
        made = copy_with_prior(folder, dict(zip(labels, ratios, strict=True)), self.work / "mix" / "model")
        state = {"answer": MIX, "folder": str(made), "fit_seconds": 0.0}
        words = f"a change of the class mix explains the errors: {found}"
        return self.judged(words, self.task.load(made), made, snapshot, (state, evidence))

    def ended_mix(self, number: int) -> int | None:
        """The last version that corrected this one for the class mix, if its rollout has ended so."""
        lineages = {version.number: version.lineage for version in self.registry.versions(self.model)}
        last = max((n for n, one in lineages.items() if (one.reason, one.parent) == (MIX, number)), default=None)
        return last if last is not None and self.taken_back(last) else None

    def others(self, number: int, since: datetime, labels: Sequence[str]) -> Floats:
        """Scores (n, k) of the champion's answers since then."""
        window = Window(max(since, UNKNOWN_TIME), datetime.max.replace(tzinfo=since.tzinfo))
        said = self.store.fair_predictions(self.model, window, number, limit=ANSWERS)
        rows = [one.scores for one in said if one.labels == tuple(labels)]
        return np.stack(rows) if rows else np.zeros((0, len(labels)), np.float32)

    def earlier(self, part: TrainPart, places: Ints, champion: tuple[int, Answers], snapshot: Snapshot) -> Decision:
        """The earlier version that fits the present best."""
        number, asked = champion
        versions = self.versions(number)
        if not versions:
            return Decision(Outcome.FAIL, ("no earlier version has served whose files are kept",))
        contents, truth = [part.rows[i].content for i in places], [part.rows[i].label for i in places]
        before = said_by(asked.model.labels, asked(contents).scores)
        found: dict[int, Comparison] = {}
        models: dict[int, Model] = {}
        renamed: list[int] = []
        for version in versions:
            try:
                model = self.task.load(self.registry.fetch(self.model, version.number))
                if self.called(model, version.at).labels != model.labels:  # it would be served under the old names
                    renamed.append(version.number)
                    continue
                models[version.number] = model
                said = said_by(models[version.number].labels, predict(models[version.number], contents).scores)
            except KeepfitError:  # files that are damaged, or columns that it does not read
                continue
            ids = {name: i for i, name in enumerate({*truth, *before, *said})}
            a, b, c = (np.array([ids[name] for name in names], np.int64) for names in (before, said, truth))
            found[version.number] = compared(a, b, c, version.evaluation.metrics["accuracy"].value)
        if not found:
            tried: State = {"tried": [v.number for v in versions], "renamed": renamed}
            return Decision(Outcome.FAIL, ("no earlier version could be asked", *left_out(renamed)), tried)
        best = max(found, key=lambda one: found[one].after.value)
        table = {str(one): comparison.to_json() for one, comparison in found.items()}
        evidence: State = {"version": best, "screen": table, "level": self.level / len(found), "renamed": renamed}
        refused = screened(
            found[best], f"version {best}, the best of {len(found)} earlier ones", self.level / len(found)
        )
        if refused is not None:
            return Decision(Outcome.FAIL, (*refused, *left_out(renamed)), evidence)
        answers = self.work / "earlier"
        answers.mkdir(parents=True, exist_ok=True)
        folder = self.registry.fetch(self.model, best)
        state = {
            "answer": EARLIER, "folder": str(folder), "answers": str(answers), "offered": best, "fit_seconds": 0.0,
        }  # fmt: skip
        words = f"version {best} fits the present better than version {number}: {found[best]}"
        return self.judged(words, models[best], answers, snapshot, (state, evidence))

    def versions(self, champion: int) -> list[ModelVersion]:
        """Those that served before, the last first, without those whose rollout has just ended without success."""
        served = [single(row.traffic) for row in self.store.deployments(self.model, limit=1000)]
        found: list[ModelVersion] = []
        for number in dict.fromkeys(served):
            if number == champion or len(found) == VERSIONS or self.taken_back(number):
                continue
            version = self.registry.version(self.model, number)
            if version.removed is None:
                found.append(version)
        return found

    def taken_back(self, number: int) -> bool:
        """Whether its last rollout was, or did not prove it, within SETTLED."""
        last = next(iter(self.store.decisions(self.model, f"rollout v{number}", 1)), None)
        newest = next(iter(self.store.decisions(self.model, limit=1)), last)
        if last is None or newest is None or last.decision.outcome not in ENDS:
            return False
        return newest.at - last.at < SETTLED

    def judged(
        self, words: str, candidate: Model, answers: Path, snapshot: Snapshot, told: tuple[State, State]
    ) -> Decision:
        """The gate's word; what it was judged by stays in the folder `answers`, for the steps that follow."""
        state, evidence = told
        judged = judge(candidate, snapshot.rows(Split.TEST))
        evaluation = evaluate(judged, snapshot.id, Split.TEST, {}, snapshot.contradicted_ids())
        write_reference(answers, judged)
        (answers / "evaluation.json").write_text(json.dumps(evaluation.to_json()), "utf-8")
        verdict = self.verdict(candidate, judged)
        state = {**state, "judged": verdict_to_json(verdict)}
        if verdict.outcome is not Outcome.PASS:
            because = (f"{words}; but its gate says no", *verdict.because)
            return Decision(Outcome.FAIL, because, {**evidence, "gate": verdict_to_json(verdict)})
        because = (f"{words}; its gate lets it through, so nothing is trained",)
        return Decision(Outcome.PASS, because, {**evidence, "state": state})


def left_out(renamed: Sequence[int]) -> tuple[str, ...]:
    """Why these versions were not asked; nothing where there are none."""
    named = ", ".join(map(str, renamed))
    return (f"left out, since classes were renamed since they were made: version {named}",) if renamed else ()


def said_by(labels: Sequence[str], scores: Floats) -> list[str]:
    """Answers by name."""
    return [labels[i] for i in scores.argmax(axis=1)]


def screened(found: Comparison, what: str, level: float) -> tuple[str, ...] | None:
    """Why it is not even shown to the gate; None when it is."""
    if not found.proven(level):
        return (f"{what} does not explain the errors: {found}, p = {found.chance:.3g} (at most {level:g})",)
    if not found.explains:
        return (f"{what} explains a part of the errors only: {found}; a training can do better",)
    return None


def verdict_of(state: State) -> Decision | None:
    """The gate's word on an answer at no cost, from the step that tried it."""
    return None if state.get("judged") is None else verdict_from_json(state["judged"])
