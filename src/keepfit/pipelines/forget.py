"""Forgetting, told from top to bottom: find all that is about one example or key, remove it, prove that it is gone.

The order is such that a kill loses nothing that is needed to go on: what names a person's texts, the store's rows, goes
last, so that the same call finds the rest again. Trained weights, backups and what other systems keep are not touched,
and the result says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from keepfit.clock import Clock
from keepfit.data.forgetting import Counts, Person, StoredTraces, Traces
from keepfit.data.needles import Needles
from keepfit.data.records import JobState
from keepfit.data.rewriting import delete, places, rewrite, snapshots
from keepfit.data.search import (
    Searched,
    blank_cells,
    occurrences,
    search_folder,
    search_rows,
    sqlite_files,
    wiped,
)
from keepfit.data.snapshot import Snapshot, current_id
from keepfit.data.sole import ASKING_S, FORGETTING, KEEPING, keeping
from keepfit.data.splits import SnapshotRow
from keepfit.data.store import RecordStore
from keepfit.decision import Decision, Outcome
from keepfit.errors import InvalidInput, KeepfitError, Refused
from keepfit.evaluation.evaluator import without_rows
from keepfit.pipelines.cheaper import MIX
from keepfit.pipelines.compressing import REASON as COMPRESS
from keepfit.pipelines.overdue import OPEN, Places, beside, searching
from keepfit.pipelines.prune import GOING, delete_path
from keepfit.registry.registry import ModelVersion, Registry, verdict_from_json, verdict_to_json
from keepfit.serving.forgetting import FORGOTTEN
from keepfit.tasks.taught import was_taught
from keepfit.tasks.text.hidden import keep_only
from keepfit.tasks.video.clips import Clip, names_clip

ALWAYS = (
    "backups made before hold it until they are overwritten",
    "the logs of a proxy, and the terminal and system logs of this machine, are not keepfit's to clean",
)


@dataclass(frozen=True)
class Forgotten:
    """What went, what was found afterwards, and what remains elsewhere."""

    rows: Counts = field(default_factory=Counts)
    rewritten: Mapping[str, str] = field(default_factory=dict)
    """Snapshots: the old id to the new one."""
    snapshot_rows: int = 0
    files: tuple[str, ...] = ()
    """Files and folders below the state folder that were deleted."""
    records: tuple[str, ...] = ()
    """Versions whose records or files were changed."""
    trained: tuple[str, ...] = ()
    """Versions whose weights were trained on it."""
    searched: Searched | None = None
    """None: only looked."""
    remains: tuple[str, ...] = ()

    @property
    def nothing(self) -> bool:
        """Nothing about it was kept here."""
        return self.rows == Counts() and not (self.snapshot_rows or self.files or self.records)


@dataclass(frozen=True)
class Forget:
    """Bound to one project, all its models."""

    models: Sequence[str]
    store: RecordStore
    registry: Registry
    state: Path
    places: Places
    clock: Clock
    elsewhere: Sequence[str] = ()
    """What is kept by other systems, as sentences."""

    def run(self, person: Person, actor: str, dry_run: bool = False) -> Forgotten:
        """Forget one example or one key; again it does what is left. Raises Refused while data is being learnt from."""
        if (person.id is None) == (person.key is None) or not (person.id or person.key):
            raise InvalidInput("say whom to forget: --id of one example or answer, or --key of all that belongs to it")
        if dry_run:
            return self.forget(person, actor, dry_run)
        alone = self.store.sole(FORGETTING)
        alone.acquire(wait=ASKING_S)
        try:
            self.refuse_while_busy()  # what is asked for from here on waits until this is done
            with keeping(self.store.sole(KEEPING), "a forgetting", ASKING_S):
                return self.forget(person, actor, dry_run)
        finally:
            alone.release()

    def forget(self, person: Person, actor: str, dry_run: bool) -> Forgotten:
        """All of it, while no job begins."""
        stored = StoredTraces(self.store.database, video_of)
        traces = self.traces(stored, person)
        needles = traces.needles()
        needles = needles.with_texts(stored.changed_forms(needles) | self.changed_forms(needles))
        if dry_run:
            return self.look(stored, traces, needles)
        affected = self.affected(traces)
        records = (*self.references(affected), *self.verdicts(needles))
        theirs = stored.examples(traces)
        files = (
            *self.videos(traces), *self.files_that_hold(needles), *self.replayed(bool(theirs or affected)),
            *self.hidden(traces),
        )  # fmt: skip
        if theirs:
            stored.unmark(self.models)
        quoting = stored.quoting(needles, self.clock.now()) + self.blank(needles)
        rewritten = self.rewrite(stored, affected, needles)
        rows = stored.remove(theirs) + Counts(quoting=quoting)
        self.store.put("", FORGOTTEN, {"at": self.clock.now().isoformat()})  # servers empty their caches
        trouble = self.wipe(stored)
        if (late := stored.remove(stored.examples(traces))) != Counts():  # what a server was still writing
            rows, trouble = rows + late, self.wipe(stored)
        done = Forgotten(
            rows, rewritten, sum(one.count for one in affected), files, records, self.trained(affected, traces),
            self.search(needles), (*trouble, *self.remains(needles)),
        )  # fmt: skip
        self.remember(done, person, actor)
        return done

    def look(self, stored: StoredTraces, traces: Traces, needles: Needles) -> Forgotten:
        """What `run` would do, and nothing done."""
        affected, theirs = self.affected(traces), stored.examples(traces)
        rows = stored.count(theirs) + Counts(quoting=stored.quoting(needles))
        files = (
            *self.videos(traces, change=False), *self.files_that_hold(needles, change=False),
            *self.replayed(bool(theirs or affected), change=False), *self.hidden(traces, change=False),
        )  # fmt: skip
        return Forgotten(
            rows, {one.snapshot.id: "" for one in affected}, sum(one.count for one in affected), files,
            trained=self.trained(affected, traces), remains=self.remains(needles),
        )  # fmt: skip

    def refuse_while_busy(self) -> None:
        """A training that has read the data would bring it back."""
        for job in self.store.jobs(states=OPEN, limit=1000):
            if job.kind == COMPRESS:  # a kill may have left it; whether it lives says its lock, below
                continue
            what = "retraining" if job.kind == "retrain" else f"{job.kind} job"
            doing = "runs" if job.state is JobState.RUNNING else "waits"
            raise Refused(
                f"a {what} of {job.model!r} {doing} ({job.id}) and may use the data; wait for it (without keepfit up "
                "nothing does it: start that, or keepfit retrain --wait), then try again"
            )
        if searching(self.places.work):
            raise Refused("a search or a compression runs and uses the data; wait for it, then try again")

    # finding

    def traces(self, stored: StoredTraces, person: Person) -> Traces:
        """What the store and the snapshots know of the person."""
        found = stored.find(person)
        for snapshot in self.snapshots():
            theirs = [row for row in snapshot.stored() if person.named(row.id, row.key)]
            found |= Traces.of(person, (row.id for row in theirs), (row.content for row in theirs), video_of)
        return found

    def snapshots(self) -> list[Snapshot]:
        """All of them."""
        return snapshots(self.places.snapshots) if self.places.snapshots.is_dir() else []

    def affected(self, traces: Traces) -> list[Affected]:
        """The snapshots that hold rows that go."""
        goes = partial(self.goes, traces)
        found = [Affected(snapshot, goes, *places(snapshot, goes)) for snapshot in self.snapshots()]
        return [one for one in found if one.count]

    def goes(self, traces: Traces, row: SnapshotRow) -> bool:
        """Whether a row of a snapshot is theirs, or of the same text."""
        return traces.person.named(row.id, row.key) or traces.holds(row.content, video_of)

    # removing

    def references(self, affected: Sequence[Affected]) -> list[str]:
        """The drift references of versions lose the answers to these rows, as long as they have one for each row."""
        by_id = {one.snapshot.id: one for one in affected if one.test_places}
        changed = []
        for model in self.models:
            for version in self.registry.versions(model):
                one = by_id.get(current_id(self.places.snapshots, version.lineage.snapshot_id))
                if one is None or version.removed is not None:
                    continue
                if self.registry.revise(model, version.number, partial(without_rows, one.test_places, one.test_rows)):
                    changed.append(f"version {version.number} of {model!r}: drift reference")
        return changed

    def verdicts(self, needles: Needles) -> list[str]:
        """Verdicts quote texts that a behaviour check has tripped over."""
        changed = []
        for model in self.models:
            for version in self.registry.versions(model):
                if version.verdict is None:
                    continue
                before = verdict_to_json(version.verdict)
                if (after := needles.scrubbed(before)) != before:
                    self.registry.record_verdict(model, version.number, verdict_from_json(after))
                    changed.append(f"version {version.number} of {model!r}: verdict")
        return changed

    def changed_forms(self, needles: Needles) -> set[str]:
        """What behaviour checks made of the texts, as verdicts quote it."""
        verdicts = [v.verdict for model in self.models for v in self.registry.versions(model) if v.verdict is not None]
        return {form for verdict in verdicts for form in needles.changed_forms(verdict_to_json(verdict))}

    def rewrite(self, stored: StoredTraces, affected: Sequence[Affected], needles: Needles) -> dict[str, str]:
        """Each snapshot without the rows, under its new id; the old one is deleted when everything follows."""
        renamed = {}
        for one in affected:
            new = rewrite(one.snapshot, one.goes, needles, self.clock.now())
            stored.rename(one.snapshot.id, new.id)
            delete(one.snapshot)
            renamed[one.snapshot.id] = new.id
        return renamed

    def videos(self, traces: Traces, change: bool = True) -> list[str]:
        """Stored videos that the contents are windows of; a window cannot be cut out, so the whole video goes."""
        found = []
        for name in sorted(traces.sources):
            for path in (self.places.videos / name, *beside(self.places.videos / name)):
                if path.exists():
                    found.append(self.named(path))
                    if change:
                        delete_path(path)
        return found

    def files_that_hold(self, needles: Needles, change: bool = True) -> list[str]:
        """Batch files with their outputs, alerts, and what trainings have left: whole, where they hold it."""
        found = []
        for place in (self.places.batches, self.places.mailbox, self.places.work):
            for path in sorted(place.iterdir()) if place.is_dir() else ():
                files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
                if any(occurrences(file, needles) for file in files):
                    found.append(self.named(path))
                    if change:
                        delete_path(path)
        return found

    def replayed(self, known: bool, change: bool = True) -> list[str]:
        """What backtests have kept, all of it: it is trained on texts, does not say on which, and can be made again."""
        place = self.places.backtests
        found = sorted(place.iterdir()) if known and place is not None and place.is_dir() else []
        for path in found if change else ():
            delete_path(path)
        return [self.named(path) for path in found]

    def hidden(self, traces: Traces, change: bool = True) -> list[str]:
        """What frozen layers have given for texts that no snapshot has then, theirs among them."""
        found = []
        for half in (*self.places.hidden.glob(f"{GOING}*"), *self.places.work.glob(f"{GOING}*")) if change else ():
            delete_path(half)  # what a killed pruning has begun to take away
        for place in (self.places.hidden, *self.places.work.glob(f"*/*/{self.places.hidden.name}")):
            rows = (row for snapshot in self.snapshots() for row in snapshot.stored())
            count, _ = keep_only(place, (row.content for row in rows if not self.goes(traces, row)), change)
            found += [f"{self.named(place)} ({count} files)"] if count else []
        return found

    def named(self, path: Path) -> str:
        """A path as people see it, below the state folder."""
        return path.relative_to(self.state).as_posix()

    def blank(self, needles: Needles) -> int:
        """Take quotations out of the databases of jobs, searches and runs."""
        own = self.store.database.path
        return sum(blank_cells(path, needles) for path in sqlite_files(self.state) if path.absolute() != own)

    def wipe(self, stored: StoredTraces) -> list[str]:
        """Overwrite what deleted rows have left in every database file; what could not be done."""
        stored.tidy()
        return [problem for path in sqlite_files(self.state) if (problem := wiped(path)) is not None]

    # proving

    def search(self, needles: Needles) -> Searched:
        """Every file of the state folder, and the rows of a database that is elsewhere."""
        found = search_folder(self.state, needles)
        if self.store.database.path is not None:
            return found
        with self.store.database.read() as conn:
            rows = search_rows(conn, needles)
        return Searched(found.files, found.bytes, rows.rows, (*found.hits, *rows.hits), found.unread)

    def trained(self, affected: Sequence[Affected], traces: Traces) -> tuple[str, ...]:
        """The versions that learnt from it, and those with weights of such a one, as far as they have files."""
        ids = {one.snapshot.id for one in affected}
        versions = [v for model in self.models for v in self.registry.versions(model)]
        folder = self.places.snapshots
        known = [
            v for v in versions if v.lineage.snapshot_id in ids or current_id(folder, v.lineage.snapshot_id) in ids
        ]
        known += [v for v in versions if self.distilled_on(v, traces)]
        taught = {(v.name, v.number) for v in known}
        for v in sorted(versions, key=lambda version: version.number):
            took = v.lineage.recipe.start != "new" or v.lineage.reason in (MIX, COMPRESS)
            if took and (v.name, v.lineage.parent) in taught:
                taught.add((v.name, v.number))
        there = {(v.name, v.number) for v in versions if v.removed is None}
        return tuple(f"version {number} of {name!r}" for name, number in sorted(taught & there))

    def distilled_on(self, version: ModelVersion, traces: Traces) -> bool:
        """Whether texts of the traffic taught it, theirs among them; where that cannot be told they may have."""
        if version.lineage.reason != COMPRESS or version.removed is not None:
            return False
        theirs = [content for content in traces.contents if traces.holds(content, video_of)]
        try:
            return was_taught(self.registry.fetch(version.name, version.number), theirs)
        except KeepfitError:
            return True

    def remains(self, needles: Needles) -> tuple[str, ...]:
        """What keepfit does not change."""
        said = []
        for model in self.models:
            for file in self.store.get(model, "data_files") or []:
                path = Path(file)
                if path.is_file() and occurrences(path, needles):
                    said.append(f"your own file {file} holds it, and the next retraining reads it: take it out")
        if needles.too_short:
            said.append(
                f"{needles.too_short} ids, keys or texts are too short to tell from others' bytes: they were removed "
                "where they are somebody's own id, key or text, and not searched for"
            )
        return (*said, *self.elsewhere, *ALWAYS)

    def remember(self, done: Forgotten, person: Person, actor: str) -> None:
        """The decision, without a word of what was forgotten."""
        whom = "one example" if person.id is not None else "one key"
        searched = str(done.searched)
        rows = done.rows
        because = (
            f"{whom} was forgotten on {actor}'s word: {rows.examples} examples, {rows.predictions} predictions, "
            f"{rows.labels} labels, {rows.queued} queued, "
            f"{done.snapshot_rows} rows of {len(done.rewritten)} snapshots, "
            f"{len(done.files)} files; quotations in {rows.quoting + len(done.records)} records",
            searched,
            *(f"{version} was trained on it; its weights stay as they are" for version in done.trained),
        )
        evidence: dict[str, Any] = {"actor": actor, "rewritten": dict(done.rewritten), "files": len(done.files)}
        found = done.searched.found if done.searched is not None else 0
        decision = Decision(Outcome.HOLD if found else Outcome.PASS, because, evidence)
        now = self.clock.now()
        self.store.add_decision(self.models[0], "forget", decision, now)
        self.store.note(self.models[0], actor, "forget", whom, evidence, now)  # never the id or key itself


@dataclass(frozen=True)
class Affected:
    """A snapshot with rows that go."""

    snapshot: Snapshot
    goes: Any
    count: int
    test_places: list[int]
    """Where they are in the test part, in its order."""
    test_rows: int


def video_of(content: str) -> str | None:
    """The stored video that a content is a window of; None for a text."""
    return Clip.parse(content).name if names_clip(content) else None
