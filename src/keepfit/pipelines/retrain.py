"""One retraining, told from top to bottom: snapshot, fit, evaluate, register, gate, deploy.

Each step is durable when run by `durable.py`: it hands on ids and paths, and does nothing twice, because every
outside effect (a snapshot, a run, a version, a decision, a deployment) is idempotent by the job's id.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.clock import Clock
from keepfit.data.foreign import is_foreign
from keepfit.data.records import Cause, Job, JobState, LabelledExample, Source, Window
from keepfit.data.snapshot import UNKNOWN_TIME, Rows, Snapshot, Split, grow, open_snapshot, renewed
from keepfit.data.store import RecordStore
from keepfit.decision import Decision, Outcome
from keepfit.errors import BackendError, InvalidInput, KeepfitError, NotFound
from keepfit.evaluation.behaviour import BehaviourResult
from keepfit.evaluation.evaluator import (
    Evaluation,
    Judged,
    evaluate,
    judge,
    latency_ms,
    read_reference,
    write_reference,
)
from keepfit.evaluation.gate import Gate, Trial
from keepfit.evaluation.spread import Spread
from keepfit.evaluation.windows import ALL
from keepfit.metrics import Metric
from keepfit.pipelines.answering import Answers
from keepfit.pipelines.cheaper import EARLIER, MIX, Cheaper, verdict_of
from keepfit.pipelines.choosing import Choosing, OnWhat, risen
from keepfit.pipelines.foreign import foreign_of
from keepfit.pipelines.known import Known, held_back
from keepfit.pipelines.matching import Match
from keepfit.pipelines.progress import STEPS, kept
from keepfit.pipelines.recorded import recorded_champion
from keepfit.pipelines.starting import begin
from keepfit.pipelines.train_part import TrainPart
from keepfit.pipelines.trust import LabelTrust
from keepfit.registry.registry import Alias, Lineage, Registry
from keepfit.rollout.rollout import WAITING, Roller, deploy, single
from keepfit.tasks.mapped import as_called_today
from keepfit.tasks.task import Model, Output, Report, Task
from keepfit.training.recipe import Recipe, Start

State = dict[str, Any]
"""What a step hands on: JSON only."""

Behaviour = Callable[[Model, "Judged"], BehaviourResult | None]
Screen = Callable[[Snapshot, Model, int, Start, Report], tuple[Snapshot, Decision]]
"""(data, champion, its number, how the training begins, whom to tell) -> what of it is learnt from, and why."""


@contextmanager
def unmetered(name: str, state: Mapping[str, Any]) -> Iterator[State]:
    """A step that nobody measures."""
    yield {}


@dataclass(frozen=True)
class Plan:
    """What the settings say about retraining one model."""

    recipe: Recipe
    holdout: float = 0.4
    recent_share: float = 0.5
    approval: bool = False
    metrics: Callable[[Sequence[str]], Mapping[str, Metric]] = lambda labels: {}
    """A user's own metrics for these classes, besides the standard ones."""
    code: str = "unknown"
    on_what: OnWhat = field(default_factory=OnWhat)
    """What it learns from, and what may spare it."""


@dataclass(frozen=True)
class Folders:
    """Where a retraining works."""

    snapshots: Path
    work: Path


@dataclass(frozen=True)
class Retraining:
    """The steps, bound to one model's rooms."""

    model: str
    task: Task
    store: RecordStore
    registry: Registry
    gate: Gate
    plan: Plan
    folders: Folders
    clock: Clock
    roller: Roller
    """Gives traffic to what passed its gate."""
    fresh_rows: Callable[[str], list[LabelledExample]]
    """Reads a labelled file that was handed in later (a path) as examples with imported labels."""
    behaviour: Behaviour = lambda model, judged: None
    screen: Screen | None = None
    report: Report = lambda metrics, step: None
    around: Callable[[str, State], AbstractContextManager[State]] = unmetered
    """Measures a step, which puts what it adds into the mapping."""

    def run(self, job_id: str) -> State:
        """All steps in this process, from the first; what is done already costs little."""
        state: State = {"job": job_id}
        for name in STEPS:
            state = self.step(name, state)
        return state

    def step(self, name: str, state: State) -> State:
        """One step: the state it was given, and what it adds."""
        self.store.update_job(state["job"], state=JobState.RUNNING, step=name)
        self.report({"stage": float(STEPS.index(name))}, 0)
        with self.around(name, state) as added:
            added.update(getattr(self, name)(state))
        return {**state, **added}

    def snapshot(self, state: State) -> State:
        """The imported data, and every label that has come from life until the job was asked for."""
        job = self.store.job(state["job"])
        base_id = job.request.get("snapshot") or self.store.get(self.model, "snapshot")
        if base_id is None:
            raise InvalidInput(f"there is no data for {self.model!r} yet; run `keepfit train DATA` first")
        began = self.began(job)
        known = Known(self.store.classes(self.model), self.plan.on_what.new_classes)
        base = self.screened(open_snapshot(self.folders.snapshots, base_id), job, began["start"])
        fresh = [row for path in self.store.get(self.model, "data_files") or [] for row in self.fresh_rows(path)]
        LabelTrust(self.model, self.store, self.clock).judge()
        labelled = self.store.training_data(self.model, until=job.at)
        fresh += labelled
        fresh = [one for one in fresh if one.example.content is not None]  # known elsewhere, by an embedding alone
        fresh = [one for one in fresh if self.task.learns_from(one.example.content, self.folders.snapshots)]
        began |= {"base": base.id, "labels": len(labelled)}
        base, learnt = known.base(self.folders.snapshots, base), self.learnt_classes()
        fresh, unknown = known.fresh(fresh, (*base.labels, *learnt))
        if unknown:
            began["unaccepted"] = unknown
            self.store.add_decision(self.model, "class", held_back(unknown), self.clock.now(), id=f"{job.id}-class")
        grown = grow(self.folders.snapshots, base, fresh, self.plan.holdout, self.plan.recent_share) if fresh else base
        return {"snapshot": grown.id, **began, **self.on_what(job, grown, labelled)}

    def on_what(self, job: Job, whole: Snapshot, labelled: Sequence[LabelledExample]) -> State:
        """An answer at no cost, or the window of the past to learn from; each choice is a stored decision.

        Data that a person brings is learnt from as it is. Where nothing answers yet there is nothing to choose by.
        """
        wanted, live, id_ = self.plan.on_what, self.champion(), f"{job.id}-window"
        spares = bool(wanted.cheaper) and job.request.get("reason") == "harm" and job.request.get("recipe") is None
        if live is None or is_foreign(live) or "snapshot" in job.request or (wanted.window == ALL and not spares):
            return {}
        with contextlib.suppress(NotFound):
            return {"snapshot": self.store.decision(id_).decision.evidence["snapshot"]}
        workdir = self.folders.work / job.id
        asked = Answers(lambda: self.version(live), workdir / f"answers-{live}.npz")
        asked_for = [one.example.id for one in labelled if one.label.source is Source.ASKED]
        part = TrainPart.of(whole, labelled, self.store.parts_of(self.model, asked_for))
        made, asked_since = self.registry.version(self.model, live).at, job.request.get("since")
        rise = risen(part, asked, made, wanted.level)
        if spares:
            cheaper = Cheaper(
                self.model, self.task, self.store, self.registry, workdir,
                lambda model, judged: self.gate.judge(self.weighed(model, judged, whole, job)), self.called,
                wanted.level, rise,
            )  # fmt: skip
            now = rise.since(asked_since, made.isoformat())
            spared = cheaper.first_that_passes(wanted.cheaper, job, (whole, part), (live, asked), now)
            if spared:
                return {**spared, "parent": live, "start": "new"}
        if wanted.window == ALL:
            return {}
        since = rise.since(asked_since, self.last_change())
        choosing = Choosing(whole, part, asked, lambda: self.traffic(live, job), wanted, since, rise)
        chosen, decision = choosing.choose(self.folders.snapshots)
        self.store.add_decision(self.model, "window", decision, self.clock.now(), id=id_)
        return {"snapshot": chosen.id}

    def last_change(self) -> str | None:
        """Since when it was otherwise, as an earlier training found."""
        stored = self.store.decisions(self.model, "window", limit=20)
        return next((one.decision.evidence["since"] for one in stored if one.decision.evidence.get("since")), None)

    def traffic(self, version: int, job: Job) -> NDArray[np.float32]:
        """Embeddings of the newest answers of a version before the job was asked for, shape (n, d)."""
        window = Window(UNKNOWN_TIME, job.at + timedelta(microseconds=1))
        said = self.store.fair_predictions(self.model, window, version, limit=1000)
        rows = [one.embedding for one in said]
        return np.stack(rows).astype(np.float32) if rows else np.zeros((0, 0), np.float32)

    def learnt_classes(self) -> tuple[str, ...]:
        """Those of the version that answers."""
        live = self.champion()
        return () if live is None else self.registry.version(self.model, live).evaluation.labels

    def screened(self, base: Snapshot, job: Job, start: Start) -> Snapshot:
        """Data that a person brought, without what the champion finds abnormal, where the task looks for that."""
        champion, id_ = self.champion(), f"{job.id}-quarantine"
        if self.screen is None or champion is None or "snapshot" not in job.request:
            return base
        try:
            known = self.store.decision(id_).decision
            return open_snapshot(self.folders.snapshots, known.evidence.get("kept", base.id))
        except NotFound:
            model = self.task.load(self.registry.fetch(self.model, champion))
        try:
            kept_base, decision = self.screen(base, model, champion, start, self.report)
        except InvalidInput as error:
            words = f"version {champion} cannot judge what is new ({error}), so all of it is learnt from"
            kept_base, decision = base, Decision(Outcome.PASS, (words,), {"version": champion})
        self.store.add_decision(self.model, "quarantine", decision, self.clock.now(), id=id_)
        return kept_base

    def began(self, job: Job) -> State:
        """What this training takes over, and from which version; decided once, and stored where there was a choice."""
        asked, live, id_ = self.recipe_asked(job).start, self.champion(), f"{job.id}-start"
        if asked == "new":
            return {"start": "new", "parent": live}
        live = None if live is not None and is_foreign(live) else live  # there are no weights of it here
        try:
            decision = self.store.decision(id_).decision
        except NotFound:
            last = next(iter(self.store.decisions(self.model, "start", limit=1)), None)
            newer = "snapshot" in job.request  # without newer data there is nothing to recalibrate by
            steps = [start for start in self.task.starts if newer or start != "recalibrate"]
            decision = begin(asked, live, steps, last, self.clock.now())
            self.store.add_decision(self.model, "start", decision, self.clock.now(), id=id_)
        return {name: decision.evidence[name] for name in ("start", "parent")}

    def fit(self, state: State) -> State:
        """Train; called again after a kill it goes on from its last checkpoint."""
        job = self.store.job(state["job"])
        if "answer" in state:
            return {"fit_seconds": state["fit_seconds"]}
        recipe, snapshot = self.recipe_of(state, job), self.snapshot_of(state)
        workdir = self.folders.work / job.id
        workdir.mkdir(parents=True, exist_ok=True)
        into_run = self.registry.progress(job.id, self.model, self.lineage(state, job))
        told = (into_run, self.report, kept(self.store, job))

        def report(metrics: Mapping[str, float], step: int) -> None:
            for tell in told:
                tell(metrics, step)

        started, parent = time.perf_counter(), state.get("parent")
        before = None if recipe.start == "new" or parent is None else self.registry.fetch(self.model, parent)
        folder = self.task.fit(snapshot, recipe, report, workdir, before)
        return {"folder": str(folder), "fit_seconds": round(time.perf_counter() - started, 1)}

    def evaluate(self, state: State) -> State:
        """The candidate's numbers on the test part; they and its answers stay in its folder, as the drift reference."""
        folder, snapshot, job = answers_of(state), self.snapshot_of(state), self.store.job(state["job"])
        judged = judge(self.candidate(state, job), snapshot.rows(Split.TEST))
        evaluation = evaluate(
            judged, snapshot.id, Split.TEST, self.plan.metrics(judged.labels), snapshot.contradicted_ids()
        )
        write_reference(folder, judged)
        (folder / "evaluation.json").write_text(json.dumps(evaluation.to_json()), "utf-8")
        told_in_card(folder, job)
        return {"accuracy": evaluation.metrics["accuracy"].value}

    def register(self, state: State) -> State:
        """A version, whatever the gate will say: a refused model is evidence."""
        job, folder = self.store.job(state["job"]), Path(state["folder"])
        if state.get("answer") == EARLIER:
            self.registry.set_alias(self.model, Alias.CHALLENGER, state["offered"])
            return {"version": state["offered"]}
        evaluation = Evaluation.from_json(json.loads((folder / "evaluation.json").read_text("utf-8")))
        version = self.registry.register(self.model, folder, self.lineage(state, job), evaluation, job.at)
        self.registry.set_alias(self.model, Alias.CHALLENGER, version.number)
        return {"version": version.number}

    def judge(self, state: State) -> State:
        """Candidate against champion, on what neither has seen."""
        job = self.store.job(state["job"])
        verdict = verdict_of(state) or self.gate.judge(self.trial(state, job))
        decision_id = self.store.add_decision(
            self.model, f"gate v{state['version']}", verdict, self.clock.now(), id=f"{job.id}-gate"
        )
        if state.get("answer") != EARLIER:  # that version has its own, of when it was made
            self.registry.record_verdict(self.model, state["version"], verdict)
        return {"verdict": verdict.outcome.value, "because": list(verdict.because), "decision": decision_id}

    def deploy(self, state: State) -> State:
        """Passed: serve it (or wait for a person). Failed: the champion stays."""
        job, number = self.store.job(state["job"]), int(state["version"])
        if state["verdict"] != Outcome.PASS.value:
            self.registry.set_alias(self.model, Alias.CHALLENGER, None)
            return self.finish(state, deployed=False)
        self.registry.fetch(self.model, number)
        if self.plan.approval and self.store.deployment(self.model) is not None:
            waiting = {"version": number, "decision": state["decision"], "adopt": self.brought(state, job)}
            self.store.put(self.model, WAITING, waiting)
            return self.finish(state, deployed=False)
        cause = Cause(
            str(job.request.get("actor", "keepfit")), REASONS.get(state.get("answer", ""), "version {} passed its gate")
            .format(number), decision_id=state["decision"], token=job.id,
        )  # fmt: skip
        settled = self.roller.start(number, cause, self.brought(state, job))
        if self.champion() == number:  # as other tools see it; a challenger keeps its alias
            self.registry.set_alias(self.model, Alias.CHAMPION, number)
            self.registry.set_alias(self.model, Alias.CHALLENGER, None)
        return self.finish(state if settled else {**state, "rollout": self.roller.strategy.name}, deployed=True)

    def brought(self, state: State, job: Job) -> State:
        """Data that a person brought with the job: once its version serves, later retrainings start from it.

        Where only what is usual was learnt, what was not shown again (other cameras) stays.
        """
        if job.request.get("snapshot") is None:
            return {}
        id_, before = state["base"], self.store.get(self.model, "snapshot")
        if state["start"] == "recalibrate" and before is not None:
            old = open_snapshot(self.folders.snapshots, before)
            id_ = renewed(self.folders.snapshots, old, open_snapshot(self.folders.snapshots, id_)).id
        return {"snapshot": id_, "columns": {"text": list(open_snapshot(self.folders.snapshots, id_).columns)}}

    def finish(self, state: State, deployed: bool) -> State:
        """Close the job with its result; the registry has its own copy of the model by now."""
        result = {**state, "deployed": deployed}
        self.store.update_job(state["job"], state=JobState.DONE, result=result, finished_at=self.clock.now())
        shutil.rmtree(self.folders.work / state["job"], ignore_errors=True)
        return {"deployed": deployed}

    def failed(self, job_id: str, error: KeepfitError) -> None:
        """Close the job with the reason, as a decision too: `did not retrain because ...` is kept like the opposite."""
        sentence = str(error)
        shutil.rmtree(self.folders.work / job_id, ignore_errors=True)
        decision = Decision(Outcome.FAIL, (f"the retraining stopped: {sentence}",))
        self.store.add_decision(self.model, "retrain", decision, self.clock.now(), id=f"{job_id}-failed")
        result = {"error": sentence, "retry": isinstance(error, BackendError)}
        self.store.update_job(job_id, state=JobState.FAILED, result=result, finished_at=self.clock.now())

    def trial(self, state: State, job: Job) -> Trial:
        """What the gate looks at; the candidate's answers come from its folder, the champion answers now."""
        candidate, snapshot = self.candidate(state, job), self.snapshot_of(state)
        judged = remembered(answers_of(state), snapshot.rows(Split.TEST), candidate)
        return self.weighed(candidate, judged, snapshot, job)

    def weighed(self, candidate: Model, judged: Judged, snapshot: Snapshot, job: Job) -> Trial:
        """The candidate, judged on the test part of a snapshot, beside the champion."""
        match = self.match(judged)
        rows = match.candidate.rows
        trial = self.compared(candidate, match, recent_rows(rows.fresh, rows.times, job.request.get("since")))
        return replace(
            trial,
            reason=gate_reason(job),
            contradicted=snapshot.contradicted_ids(),
            champion_behaviour=None
            if match.champion is None or self.is_recorded()
            else self.behaviour(match.champion, match.candidate),
            spread=None if (known := job.request.get("spread")) is None else Spread.from_json(known),
        )

    def compare_on(self, data: Snapshot, number: int) -> Decision:
        """The gate's word on a version against the champion, on data that was handed in from outside."""
        candidate = self.version(number)
        rows = Known(self.store.classes(self.model)).base(self.folders.snapshots, data).rows()
        match = self.match(judge(candidate, rows))
        return self.gate.judge(self.compared(candidate, match, np.ones(len(match.candidate), dtype=bool)))

    def match(self, candidate: Judged) -> Match:
        """With the champion, if there is one."""
        number = self.champion()
        return Match.of(candidate, None if number is None else self.version(number))

    def version(self, number: int) -> Model:
        """A registered version, with its classes as they are called today; a foreign one by its recorded answers."""
        if is_foreign(number):
            return self.called(
                recorded_champion(self.store, self.model, number), foreign_of(self.store, self.model, number).at
            )
        model = self.task.load(self.registry.fetch(self.model, number))
        return self.called(model, self.registry.version(self.model, number).at)

    def candidate(self, state: State, job: Job) -> Model:
        """What this training made or offers, with its classes as they are called today."""
        if state.get("answer") == EARLIER:
            return self.version(state["offered"])
        return self.called(self.task.load(Path(state["folder"])), job.at)

    def called(self, model: Model, at: datetime) -> Model:
        """The classes of a model that was made at `at` as they are called today."""
        classes = self.store.classes(self.model)
        return as_called_today(model, lambda name: classes.read(name, at)) if classes.changes else model

    def compared(self, candidate: Model, match: Match, recent: NDArray[np.bool_]) -> Trial:
        """What the gate looks at in any case; `recent` are those of the rows (n,) that speak of the present."""
        sample, rival = match.candidate.rows.contents[:50], None if self.is_recorded() else match.champion
        return Trial(
            candidate=match.candidate,
            champion=match.against,
            beyond=match.beyond,
            unknown=match.unknown,
            recent=recent,
            candidate_latency_ms=latency_ms(candidate, sample, time.perf_counter)[0],
            champion_latency_ms=None if rival is None else latency_ms(rival, sample, time.perf_counter)[0],
            behaviour=self.behaviour(candidate, match.candidate),
        )

    def champion(self) -> int | None:
        """The version that has the traffic, or most of it."""
        live = self.store.deployment(self.model)
        return None if live is None else single(live.traffic)

    def is_recorded(self) -> bool:
        """Whether the champion is another system's, known by its answers alone: it can be asked nothing new."""
        live = self.champion()
        return live is not None and is_foreign(live)

    def recipe_asked(self, job: Job) -> Recipe:
        """The job's own recipe where it names one, else the settings'."""
        own = job.request.get("recipe")
        return self.plan.recipe if own is None else Recipe.from_json(own)

    def recipe_of(self, state: State, job: Job) -> Recipe:
        """The recipe that was asked for, with the start that was chosen."""
        return self.recipe_asked(job).with_(start=state.get("start", "new"))

    def snapshot_of(self, state: State) -> Snapshot:
        """The snapshot that the first step made."""
        return open_snapshot(self.folders.snapshots, state["snapshot"])

    def lineage(self, state: State, job: Job) -> Lineage:
        """What the version is made from."""
        return Lineage(
            snapshot_id=state["snapshot"],
            recipe=self.recipe_of(state, job),
            reason=MIX if state.get("answer") == MIX else str(job.request.get("reason", "routine")),
            job_id=job.id,
            parent=state["parent"] if "parent" in state else self.champion(),
            code=self.plan.code,
        )


REASONS = {
    MIX: "version {} corrects the champion for the class mix, at no training, and passed its gate",
    EARLIER: "version {} served before, fits the present better, and passed its gate",
}
"""What the history says of an answer at no cost."""


def told_in_card(folder: Path, job: Job) -> None:
    """The spread over folds, where the recipe was cross-validated, below what the task says in its card."""
    card, known = folder / "card.md", job.request.get("spread")
    if known is not None and card.is_file():
        text = card.read_text("utf-8")
        section = "\n## Cross-validation\n"
        card.write_text(f"{text.split(section)[0]}{section}\n{Spread.from_json(known).as_text()}", "utf-8")


def answers_of(state: State) -> Path:
    """Where the candidate's answers on the test part are: in its folder, unless that is a version's own already."""
    return Path(state["answers"] if "answers" in state else state["folder"])


def gate_reason(job: Job) -> str:
    """Which proof the gate asks for: harm wants a better model, anything else one that is not worse."""
    reason = job.request.get("reason")
    return "harm" if reason == "harm" else "asked" if reason == "asked" else "routine"


def remembered(folder: Path, rows: Rows, model: Model) -> Judged:
    """What the model answered on these rows in the step before, without asking it again."""
    kept = read_reference(folder)
    return Judged(
        rows, model.labels, kept.truth, Output(kept.scores, kept.embeddings), kept.measures, model.abstain_below
    )


def recent_rows(fresh: np.ndarray, times: tuple[datetime, ...], since: str | None) -> np.ndarray:
    """Which rows are evidence of the present: from life, and not older than the change (n,) bool."""
    if since is None:
        return fresh
    change = datetime.fromisoformat(since)
    return np.asarray([bool(f) and t >= change for f, t in zip(fresh, times, strict=True)], dtype=bool)


def settle(store: RecordStore, registry: Registry, model: str, number: int, cause: Cause, clock: Clock) -> None:
    """All traffic to a version, and the registry's aliases after it, so that other tools see the same."""
    deploy(store, model, number, cause, clock)
    registry.set_alias(model, Alias.CHAMPION, number)
    registry.set_alias(model, Alias.CHALLENGER, None)
