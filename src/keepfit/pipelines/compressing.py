"""Compressing a version, told from top to bottom: gather, compress, decide, and on through the gate like any other."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, cast

from filelock import FileLock, Timeout

from keepfit.data.records import Job, JobState, Window, new_id
from keepfit.data.snapshot import UNKNOWN_TIME, Snapshot, Split, fits, open_snapshot
from keepfit.data.splits import content_group
from keepfit.decision import Decision, Outcome
from keepfit.errors import BackendError, Refused
from keepfit.pipelines.retrain import Retraining

Tell = Callable[[str, int, int | None], None]
"""Hears what is being done, and how much of how much."""
REASON = "compress"
"""Of the versions that come of it, and of their jobs."""
RECORDED = 20_000
"""Newest texts of the traffic that are looked at."""


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

    def __call__(self, version: Path, snapshot: Snapshot, recorded: Sequence[Any], tell: Tell, workdir: Path) -> Found:
        """(version's folder, its data, recorded contents, whom to tell, where to work) -> what came of it.

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

        Raises NotFound for a version or data that are gone, Refused while something else is at it, or where classes
        were renamed since; InvalidInput and BackendError as the task.
        """
        rooms = self.rooms
        version, folder = rooms.registry.version(rooms.model, number), rooms.registry.fetch(rooms.model, number)
        self.refuse(number)
        snapshot = open_snapshot(rooms.folders.snapshots, version.lineage.snapshot_id)
        recorded, wanted = self.recorded(snapshot), asdict(cast(Any, self.compressor))
        arguments = {"snapshot": snapshot.id, "wanted": wanted, "recorded": digest(recorded)}
        with working(rooms.folders.work / f"compress-{rooms.model}-{number}", arguments) as workdir:
            found = self.compressor(folder, snapshot, recorded, tell, workdir)
            decision = judged(number, found, dry_run)
            evidence = {"version": number, "recorded": len(recorded), "wanted": wanted, **found.to_json()}
            stored = Decision(decision.outcome, decision.because, evidence)
            id_ = rooms.store.add_decision(rooms.model, f"{REASON} v{number}", stored, rooms.clock.now())
            result = {"compressed": number, "decision": id_, "outcome": stored.outcome.value, **evidence}
            result |= {"version": None, "because": list(stored.because)}
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
        model = rooms.task.load(rooms.registry.fetch(rooms.model, number))
        if rooms.called(model, rooms.registry.version(rooms.model, number).at).labels != model.labels:
            raise Refused(f"classes were renamed since version {number} was made; retrain, then compress that version")

    def recorded(self, snapshot: Snapshot) -> list[Any]:
        """What was asked in life, newest last, without the texts that the version and its candidate are judged on."""
        rooms = self.rooms
        everything = Window(UNKNOWN_TIME, rooms.clock.now() + timedelta(seconds=1))
        examples = rooms.store.examples(rooms.model, everything, RECORDED)
        judged_on = {group for split in (Split.VALIDATION, Split.TEST) for group in groups(snapshot, split)}
        contents = (example.content for example in examples if fits(example.content, len(snapshot.columns)))
        return [content for content in contents if content_group(content) not in judged_on]

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


def groups(snapshot: Snapshot, split: Split) -> Iterator[str]:
    """Hashes of the contents of one part."""
    return (content_group(content) for content in snapshot.rows(split).contents)


def digest(contents: Sequence[Any]) -> str:
    """A hash of the contents in their order."""
    found = hashlib.sha256()
    for content in contents:
        found.update(content_group(content).encode("ascii"))
    return found.hexdigest()


@contextmanager
def working(folder: Path, arguments: Mapping[str, Any]) -> Iterator[Path]:
    """The folder to work in, empty unless a run with the same arguments was stopped in it; gone when all is done.

    Raises Refused when another process is at it, BackendError when the disk fails.
    """
    note, text = folder / "arguments.json", json.dumps(arguments, sort_keys=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "lock", timeout=0)
        lock.acquire()
    except Timeout as error:
        raise Refused("this version is being compressed already; wait for that, or stop it") from error
    except OSError as error:
        raise BackendError(f"{folder} cannot be written ({error}); make room on the disk") from error
    try:
        if not note.is_file() or note.read_text("utf-8") != text:
            for left in folder.iterdir():
                if left.is_dir():
                    shutil.rmtree(left)
            note.write_text(text, "utf-8")
        yield folder
        shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise BackendError(f"cannot work in {folder} ({error}); make room on the disk and start again") from error
    finally:
        lock.release()
