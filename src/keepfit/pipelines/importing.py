"""Importing a model, told from top to bottom: make a version of it, evaluate, register, judge, deploy; no training."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keepfit.data.records import Job, JobState, new_id
from keepfit.data.snapshot import Snapshot, write_snapshot
from keepfit.decision import Decision, Outcome
from keepfit.errors import NotFound, Refused
from keepfit.pipelines.alone import working
from keepfit.pipelines.interrupted import IMPORT as REASON
from keepfit.pipelines.retrain import Retraining
from keepfit.rollout.rollout import WAITING, under_way
from keepfit.telling import Tell
from keepfit.training.recipe import Recipe

BUSY = "a model is being imported already; wait for that, or stop it"
NOTE = "import.json"
"""In the folder to work in: what is imported, and the job that does it."""

Importer = Callable[[Path, Snapshot, Tell, Path], Path]
"""A task's way: (the model, data that may have no rows, whom to tell, where to work) -> the finished folder."""


@dataclass(frozen=True)
class Wanted:
    """What is imported, by whom."""

    source: Path
    origin: Mapping[str, Any]
    """Where it comes from, with the hash of its files: plain values."""
    snapshot: Snapshot | None
    """Labelled data to judge it by; None: none were given."""
    actor: str


@dataclass(frozen=True)
class Importing:
    """The imports of one model, bound to the rooms of its retrainings."""

    rooms: Retraining
    importer: Importer

    def run(self, wanted: Wanted, tell: Tell) -> dict[str, Any]:
        """Import, register and judge; what comes of the gate is deployed as after any training.

        Killed and called again with the same arguments it goes on with the same job, so that there is one version.
        Raises Refused while something else is at the model, InvalidInput and BackendError as the task.
        """
        rooms = self.rooms
        self.refuse()
        with working(rooms.folders.work / f"{REASON}-{rooms.model}", BUSY) as workdir:
            if not rooms.store.nobody_forgets():
                raise Refused("somebody is being forgotten, and their texts may be among the data; import afterwards")
            snapshot = wanted.snapshot or write_snapshot(rooms.folders.snapshots, [], ("text",), {"kind": REASON})
            folder = self.importer(wanted.source, snapshot, tell, workdir)
            job = self.job(wanted, snapshot, folder, workdir)
            try:
                self.refuse()
                facts = facts_of(folder, wanted)
                self.steps(job, wanted, snapshot, folder, tell)
            except BaseException as error:
                said = {"error": str(error) or "it was stopped", "retry": True}
                rooms.store.update_job(job.id, state=JobState.FAILED, result=said, finished_at=rooms.clock.now())
                raise
        return {**rooms.store.job(job.id).result, **facts}

    def refuse(self) -> None:
        """Raises Refused when this is not the moment."""
        rooms = self.rooms
        if (job := rooms.store.running_or_waiting(rooms.model, "retrain")) is not None:
            raise Refused(f"a retraining of {rooms.model!r} is under way ({job.id}); import when it is over")
        if (rollout := under_way(rooms.store, rooms.model)) is not None:
            raise Refused(f"a rollout of version {rollout.version} is under way; import when it is over")
        if waiting := rooms.store.get(rooms.model, WAITING):
            raise Refused(f"version {waiting['version']} waits for approval; approve or reject it, then import")

    def job(self, wanted: Wanted, snapshot: Snapshot, folder: Path, workdir: Path) -> Job:
        """The job of this import: the one that a kill has left open, or a new one."""
        rooms, note = self.rooms, workdir / NOTE
        recipe = json.loads((folder / "model.json").read_text("utf-8"))["recipe"]
        request = {"reason": REASON, "actor": wanted.actor, "recipe": recipe, "origin": dict(wanted.origin)}
        if wanted.snapshot is not None or rooms.store.get(rooms.model, "snapshot") is None:
            request["snapshot"] = snapshot.id
        if note.is_file():
            left = json.loads(note.read_text("utf-8"))
            try:
                before = rooms.store.job(left["job"])
            except NotFound:
                before = None
            if before is not None and before.state is not JobState.DONE and dict(before.request) == request:
                rooms.store.update_job(before.id, state=JobState.RUNNING)
                return before
        job = Job(new_id(), rooms.model, REASON, rooms.clock.now(), JobState.RUNNING, request)
        rooms.store.add_job(job)
        note.write_text(json.dumps({"job": job.id}), "utf-8")
        return job

    def steps(self, job: Job, wanted: Wanted, snapshot: Snapshot, folder: Path, tell: Tell) -> None:
        """As after a training; what was imported is a decision of its own."""
        rooms = self.rooms
        start = Recipe.from_json(job.request["recipe"]).start
        state: dict[str, Any] = {
            "job": job.id, "folder": str(folder), "snapshot": snapshot.id, "base": snapshot.id,
            "parent": rooms.champion(), "start": start,
        }  # fmt: skip
        tell("evaluating", 0, None)
        state |= rooms.evaluate(state)
        if math.isnan(state["accuracy"]):
            state["accuracy"] = None
        tell("registering", 0, None)
        state |= rooms.register(state)
        words = (f"version {state['version']} was imported by {wanted.actor} from {wanted.origin['from']}",)
        said = Decision(Outcome.PASS, words, facts_of(folder, wanted))
        subject = f"{REASON} v{state['version']}"
        rooms.store.add_decision(rooms.model, subject, said, rooms.clock.now(), id=f"{job.id}-import")
        tell("judging", 0, None)
        state |= self.judge(state, job) if wanted.snapshot is None else rooms.judge(state)
        rooms.deploy(state)

    def judge(self, state: Mapping[str, Any], job: Job) -> dict[str, Any]:
        """Of a version without data: the first one answers, another one waits for a person; the decision is stored."""
        rooms, number = self.rooms, state["version"]
        if rooms.champion() is None:
            words = (f"version {number} was imported and not evaluated, for want of labelled data",
                     "no version answered yet, so it does; `keepfit evaluate DATA` says how good it is")  # fmt: skip
            verdict = Decision(Outcome.PASS, words, {"evaluated": False})
        else:
            words = (f"version {number} was imported and not evaluated, so it cannot be compared with the champion",
                     f"import it with --data FILE, or serve it on your word: keepfit promote {number}")  # fmt: skip
            verdict = Decision(Outcome.HOLD, words, {"evaluated": False, "champion": rooms.champion()})
        id_ = rooms.store.add_decision(rooms.model, f"gate v{number}", verdict, rooms.clock.now(), id=f"{job.id}-gate")
        rooms.registry.record_verdict(rooms.model, number, verdict)
        return {"verdict": verdict.outcome.value, "because": list(verdict.because), "decision": id_}


def facts_of(folder: Path, wanted: Wanted) -> dict[str, Any]:
    """What a person wants to know of the version besides its gate."""
    values = json.loads((folder / "model.json").read_text("utf-8"))
    kept = {name: values[name] for name in ("labels", "precision", "temperature", "max_tokens", "imported")}
    return {**kept, "origin": dict(wanted.origin), "evaluated": wanted.snapshot is not None}
