"""Compressing a version, told from top to bottom: gather, compress, decide, and on through the gate like any other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, cast

from keepfit.data.records import Job, JobState, Window, new_id
from keepfit.data.snapshot import UNKNOWN_TIME, Snapshot, fits, open_snapshot
from keepfit.data.splits import content_group
from keepfit.decision import Decision, Outcome
from keepfit.errors import BackendError, Refused
from keepfit.pipelines.alone import working
from keepfit.pipelines.retrain import Retraining
from keepfit.rollout.rollout import WAITING, under_way
from keepfit.telling import Tell

BUSY = "this version is being compressed already; wait for that, or stop it"
REASON = "compress"
"""Of the versions that come of it, and of their jobs."""
RECORDED = 20_000
"""Newest texts of the traffic that are looked at."""
FRESH = timedelta(days=2)
"""What was stopped longer ago begins anew, with the traffic of by then."""


class Found(Protocol):
    """What a task makes of a version."""

    @property
    def folder(self) -> Path | None:
        """The smaller model; None where every method lost too much or saved nothing."""
        ...

    @property
    def because(self) -> tuple[str, ...]:
        """What came of each method, in sentences."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Plain values: the trade-off curve."""
        ...


class Compressor(Protocol):
    """A task's way to make a version smaller: a frozen dataclass of what it may do."""

    def __call__(
        self, version: Path, snapshot: Snapshot, recorded: Sequence[Any], tell: Tell, workdir: Path, against: Path
    ) -> Found:
        """(version's folder, its data, recorded contents, whom to tell, where to work) -> what came of it.

        `against`: the folder of the version whose answers a loss is measured by.
        Called again after a kill with the same arguments it goes on from what it left in `workdir`.
        """
        ...


@dataclass(frozen=True)
class Compressing:
    """The compressions of one model, bound to the rooms of its retrainings."""

    rooms: Retraining
    compressor: Compressor

    def run(self, number: int, actor: str, tell: Tell, dry_run: bool = False) -> dict[str, Any]:
        """Compress a version and register what passed; the decision is stored whatever comes of it.

        Raises NotFound for a version or data that are gone, Refused while something else is at it, where another
        version came to answer meanwhile, or where classes were renamed since; InvalidInput and BackendError as the
        task.
        """
        rooms = self.rooms
        version, folder = rooms.registry.version(rooms.model, number), rooms.registry.fetch(rooms.model, number)
        self.refuse(number)
        champion, wanted = rooms.champion(), asdict(cast(Any, self.compressor))
        with working(rooms.folders.work / f"{REASON}-{rooms.model}-{number}", BUSY) as workdir:
            if not rooms.store.nobody_forgets():  # a forgetting that comes later sees the lock, and refuses
                raise Refused("somebody is being forgotten, and their texts may be among the data; compress afterwards")
            self.close_stopped(number)
            snapshot = open_snapshot(rooms.folders.snapshots, version.lineage.snapshot_id)
            goes_on(workdir, {"snapshot": snapshot.id, "wanted": wanted}, rooms.clock.now())
            recorded = kept(workdir, lambda: self.recorded(snapshot))
            against = self.uncompressed(number)
            measured_by = folder if against == number else rooms.registry.fetch(rooms.model, against)
            found = self.compressor(folder, snapshot, recorded, tell, workdir, measured_by)
            decision, late = judged(number, found, dry_run), None
            if decision.outcome is Outcome.PASS and (late := self.too_late(number, champion)) is not None:
                words = f"version {number} was compressed, but nothing is registered: {late}"
                decision = Decision(Outcome.HOLD, (words, *found.because))
            if against != number:
                words = f"version {number} was compressed before: losses are measured against version {against}"
                decision = Decision(decision.outcome, (*decision.because, words))
            told: dict[str, Any] = {"version": number, "against": against, "recorded": len(recorded)}
            evidence = {**told, "wanted": wanted, **found.to_json()}
            stored = Decision(decision.outcome, decision.because, evidence)
            id_ = rooms.store.add_decision(rooms.model, f"{REASON} v{number}", stored, rooms.clock.now())
            result = {"compressed": number, "decision": id_, "outcome": stored.outcome.value, **evidence}
            result |= {"version": None, "because": list(stored.because)}
            if late is not None:
                raise late
            if decision.outcome is Outcome.PASS and found.folder is not None:
                tell("registering", 0, None)
                result["made"] = self.registered(number, found.folder, snapshot, actor)
                result["version"] = result["made"]["version"]
        return result

    def refuse(self, number: int) -> None:
        """Raises Refused when this is not the moment, or not the version."""
        rooms = self.rooms
        job = rooms.store.running_or_waiting(rooms.model, "retrain")
        if job is not None:
            raise Refused(f"a retraining of {rooms.model!r} is under way ({job.id}); compress when it is over")
        rollout = under_way(rooms.store, rooms.model)
        if rollout is not None:
            raise Refused(f"a rollout of version {rollout.version} is under way; compress when it is over")
        waiting = rooms.store.get(rooms.model, WAITING)
        if waiting:
            raise Refused(f"version {waiting['version']} waits for approval; approve or reject it, then compress")
        model = rooms.task.load(rooms.registry.fetch(rooms.model, number))
        if rooms.called(model, rooms.registry.version(rooms.model, number).at).labels != model.labels:
            raise Refused(f"classes were renamed since version {number} was made; retrain, then compress that version")

    def too_late(self, number: int, champion: int | None) -> Refused | None:
        """Why what was made can no longer be registered; None when it can."""
        try:
            self.refuse(number)
        except Refused as error:
            return error
        if self.rooms.champion() != champion:
            return Refused("another version answers by now; compress that one")
        return None

    def close_stopped(self, number: int) -> None:
        """Jobs that a kill left open; who holds the lock knows that nobody works on them."""
        rooms = self.rooms
        for job in rooms.store.jobs(rooms.model, REASON, [JobState.RUNNING], limit=1000):
            if job.request.get("compressed") == number:
                result = {"error": "it was stopped", "retry": True}
                rooms.store.update_job(job.id, state=JobState.FAILED, result=result, finished_at=rooms.clock.now())

    def uncompressed(self, number: int) -> int:
        """The version that this one was compressed from, by however many steps, so that small losses do not add up.

        Raises Refused where its files are gone: what may still be lost cannot be told then.
        """
        rooms = self.rooms
        found = rooms.registry.version(rooms.model, number)
        while found.lineage.reason == REASON and found.lineage.parent is not None:
            found = rooms.registry.version(rooms.model, found.lineage.parent)
        if found.removed is not None:
            raise Refused(
                f"version {number} was compressed from version {found.number}, whose files were removed, so what may"
                " still be lost cannot be told; train anew, then compress that version"
            )
        return found.number

    def recorded(self, snapshot: Snapshot) -> list[Any]:
        """What was asked in life, newest last, each text once, without those that the version's data have.

        So what is held out of it was neither learnt from nor is it what the version and its candidate are judged on.
        """
        rooms = self.rooms
        everything = Window(UNKNOWN_TIME, rooms.clock.now() + timedelta(seconds=1))
        examples = rooms.store.examples(rooms.model, everything, RECORDED)
        known = {content_group(content) for content in snapshot.rows().contents}
        found: dict[str, Any] = {}
        for example in examples:
            if fits(example.content, len(snapshot.columns)) and (group := content_group(example.content)) not in known:
                found.setdefault(group, example.content)
        return list(found.values())

    def registered(self, number: int, folder: Path, snapshot: Snapshot, actor: str) -> dict[str, Any]:
        """Evaluated, registered, through the gate and into its rollout: the steps of a retraining, without a training.

        Stopped half-way, its job is closed, so that nobody waits for it.
        """
        rooms = self.rooms
        recipe = rooms.registry.version(rooms.model, number).lineage.recipe
        request = {"reason": REASON, "actor": actor, "recipe": recipe.to_json(), "compressed": number}
        job = Job(new_id(), rooms.model, REASON, rooms.clock.now(), JobState.RUNNING, request)
        rooms.store.add_job(job)
        state: dict[str, Any] = {
            "job": job.id, "folder": str(folder), "snapshot": snapshot.id, "parent": number, "start": recipe.start,
        }  # fmt: skip
        try:
            for step in (rooms.evaluate, rooms.register, rooms.judge, rooms.deploy):
                state |= step(state)
        except BaseException as error:
            sentence = str(error) or "it was stopped"
            changes = {"error": sentence, "retry": isinstance(error, BackendError)}
            rooms.store.update_job(job.id, state=JobState.FAILED, result=changes, finished_at=rooms.clock.now())
            raise
        return dict(rooms.store.job(job.id).result)


def judged(number: int, found: Found, dry_run: bool) -> Decision:
    """Whether there is a candidate, and what came of each method."""
    if found.folder is None:
        words = f"version {number} stays as it is: no method made it smaller or faster within the allowed loss"
        return Decision(Outcome.FAIL, (words, *found.because))
    if dry_run:
        words = f"version {number} could be compressed; nothing is registered, since this was a dry run"
        return Decision(Outcome.HOLD, (words, *found.because))
    return Decision(Outcome.PASS, (f"version {number} was compressed; its gate judges what came of it", *found.because))


def kept(folder: Path, look: Callable[[], list[Any]]) -> list[Any]:
    """The recorded contents that a stopped run has looked at, so that new traffic does not make it begin anew."""
    note = folder / "recorded.json"
    if not note.is_file():
        partial = note.with_suffix(".partial")
        partial.write_text(json.dumps(look(), ensure_ascii=False), "utf-8", "surrogatepass")
        partial.replace(note)
    found = json.loads(note.read_text("utf-8", "surrogatepass"))
    return [tuple(one) if isinstance(one, list) else one for one in found]


def goes_on(folder: Path, arguments: Mapping[str, Any], now: datetime) -> None:
    """Empties the folder, unless a run with the same arguments was stopped in it, not long ago."""
    note = folder / "arguments.json"
    known = json.loads(note.read_text("utf-8")) if note.is_file() else {"since": ""}
    since = known.pop("since")
    same = json.dumps(known, sort_keys=True) == json.dumps(arguments, sort_keys=True)
    if same and now - datetime.fromisoformat(since) <= FRESH:
        return
    for left in folder.iterdir():
        if left.is_dir():
            shutil.rmtree(left)
    (folder / "recorded.json").unlink(missing_ok=True)
    note.write_text(json.dumps({**arguments, "since": now.isoformat()}), "utf-8")
