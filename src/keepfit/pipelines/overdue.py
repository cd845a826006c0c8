"""What is over its limit: every thing that a policy concerns, and whether it goes or must stay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from keepfit.clock import Clock, spelt
from keepfit.data.records import Job, JobState
from keepfit.data.retention import PINNED, Keep, StoredRows
from keepfit.data.rewriting import snapshots
from keepfit.data.snapshot import current_id
from keepfit.data.store import RecordStore
from keepfit.pipelines.keeping import UNDER_WAY, Judged, Standing, Thing, held_snapshots, judge, judge_versions
from keepfit.registry.registry import Alias, Registry
from keepfit.tasks.text.hidden import place_beside
from keepfit.tasks.video.clips import Clip, names_clip

DAY = timedelta(days=1)
"""What was made within it may be about to be used, such as a snapshot whose training was not asked for yet."""
OPEN = (JobState.WAITING, JobState.RUNNING)
EVERY = 1_000_000
REPLAYED = timedelta(days=30)
"""What backtests keep is made again when it is needed, so that it goes after this time, whatever the policy."""
ALL = Keep()
HIDDEN = "hidden states"
"""The kind of what frozen layers have given."""


@dataclass(frozen=True)
class Policy:
    """The limits of each kind."""

    predictions: Keep = ALL
    versions: Keep = ALL
    snapshots: Keep = ALL
    checkpoints: Keep = ALL
    runs: Keep = ALL
    videos: Keep = ALL
    batches: Keep = ALL
    alerts: Keep = ALL
    quiet_checks: timedelta = timedelta(0)
    """Checks that came to nothing are thinned to one an hour when they are older; 0: never."""


@dataclass(frozen=True)
class Places:
    """The folders of a project's state."""

    snapshots: Path
    work: Path
    videos: Path
    batches: Path
    mailbox: Path
    backtests: Path | None = None
    """What backtests keep so that the next one is faster."""

    @property
    def hidden(self) -> Path:
        """What frozen layers have given, kept so that the next training is faster."""
        return place_beside(self.snapshots)


@dataclass(frozen=True)
class Overdue:
    """The things of one project, bound to its models, rooms and limits."""

    models: Sequence[str]
    """The first is told of what the models share."""
    store: RecordStore
    registry: Registry
    policy: Policy
    places: Places
    clock: Clock
    looks_back: Callable[[str], timedelta] = lambda model: timedelta(days=30)
    """How far back the monitors of a model look at its predictions."""
    studies: Callable[[], Sequence[tuple[str, datetime]]] = lambda: ()
    """The searches whose trials are kept, and when each was last at work."""

    def plan(self) -> list[Judged]:
        """Everything over a limit, and whether it goes."""
        now = self.clock.now()
        versions = [one for model in self.all_models() for one in self.of_versions(model, now)]
        going = {(one.thing.model, int(one.thing.name)) for one in versions if one.goes}
        found = [*versions]
        for model in self.all_models():
            found += [*self.of_predictions(model, now), *self.of_checks(model, now), *self.of_runs(model, now)]
        found += self.of_snapshots(going, now)
        found += self.of_videos({one.thing.name for one in found if one.goes and one.thing.kind == "snapshot"}, now)
        found += [*self.of_checkpoints(now), *self.of_hidden(now), *self.of_batches(now), *self.of_alerts(now)]
        return [*found, *self.of_backtests(now)]

    def all_models(self) -> list[str]:
        """Those of the settings first, then others that the store or the disk still knows."""
        known = StoredRows(self.store.database).models()
        return [*self.models, *(model for model in known if model not in self.models)]

    def standing(self, model: str) -> Standing:
        """What is on record of a model's versions."""
        return Standing(
            self.store.deployments(model, limit=10_000),
            self.registry.versions(model),
            {name: self.store.get(model, name) for name in UNDER_WAY},
            [int(number) for number in self.store.get(model, PINNED) or {}],
            {alias.value: self.registry.alias(model, alias) for alias in Alias},
            [job.id for job in self.open_jobs(model)],
        )

    def of_versions(self, model: str, now: datetime) -> list[Judged]:
        """Model files."""
        if not self.policy.versions:
            return []
        standing = self.standing(model)
        found = judge_versions(standing, self.policy.versions, now)
        sized = [replace(one.thing, size=self.registry.size(model, int(one.thing.name))) for one in found]
        return [replace(one, thing=thing) for one, thing in zip(found, sized, strict=True)]

    def of_predictions(self, model: str, now: datetime) -> list[Judged]:
        """Predictions with their examples."""
        keep, rows = self.policy.predictions, StoredRows(self.store.database)
        if not keep:
            return []
        before = self.looked_at_since(model, now)
        found = rows.old_predictions(model, keep, now, before)
        words = " or ".join(
            ([f"they are older than {spelt(keep.age)}"] if keep.age else [])
            + ([f"{keep.most} newer ones are kept"] if keep.most else [])
        )
        judged = [Judged(Thing("predictions", "", before, found.size, model, found.count), True, words)]
        for why, count in rows.spared_predictions(model, keep, now, before).items():
            judged.append(Judged(Thing("predictions", "", before, 0, model, count), False, f"{words}, but {why}"))
        return [one for one in judged if one.thing.count]

    def looked_at_since(self, model: str, now: datetime) -> datetime:
        """Predictions since then are still measured, drawn for labels, or confirmed by silence."""
        marks = [self.store.get(model, name) for name in ("asked_until", "settled_until")]
        return min([now - self.looks_back(model), *(datetime.fromisoformat(mark) for mark in marks if mark)])

    def of_checks(self, model: str, now: datetime) -> list[Judged]:
        """Decisions that say only that nothing was to be done."""
        age = self.policy.quiet_checks
        found = StoredRows(self.store.database).old_waits(model, age, now) if age else None
        if not found or not found.count:
            return []
        stay = "the first of each hour, and of rollouts each new reason, stay"
        because = f"they came to nothing more than {spelt(age)} ago; {stay}"
        return [Judged(Thing("quiet checks", "", now - age, found.size, model, found.count), True, because)]

    def of_runs(self, model: str, now: datetime) -> list[Judged]:
        """Trainings and searches without a version."""
        if not self.policy.runs:
            return []
        runs, jobs = self.registry.runs(model), {job.id for job in self.open_jobs(model)}
        held = {run.id: "its training is under way" for run in runs if run.job_id in jobs}
        return judge([Thing("run", r.id, r.at, r.size, model) for r in runs], self.policy.runs, held, now)

    def of_snapshots(self, going: set[tuple[str, int]], now: datetime) -> list[Judged]:
        """Snapshots; `going` are the versions that go."""
        if not self.policy.snapshots:
            return []
        folder = self.places.snapshots
        known = snapshots(folder) if folder.is_dir() else []
        parents = {s.id: [current_id(folder, p) for p in s.lineage.get("parents", ())] for s in known}
        held = held_snapshots(self.needed_snapshots(going), parents)
        things = [of_file("snapshot", s.path, s.id, s.path.with_suffix(".json")) for s in known]
        busy = any(self.open_jobs(model) for model in self.all_models()) or searching(self.places.work)
        for thing in things:
            if busy:
                held.setdefault(thing.name, "a training is under way")
            elif now - thing.at < DAY:
                held.setdefault(thing.name, "it was made within a day and may be about to be used")
        return judge(things, self.policy.snapshots, held, now)

    def still_unneeded(self, snapshot: str) -> bool:
        """Whether nothing has come to need a snapshot since the plan was made."""
        path = self.places.snapshots / f"{snapshot}.parquet"
        busy = any(self.open_jobs(model) for model in self.all_models()) or searching(self.places.work)
        young = path.exists() and self.clock.now() - modified(path) < DAY
        return not (busy or young or snapshot in self.needed_snapshots(set()))

    def needed_snapshots(self, going: set[tuple[str, int]]) -> dict[str, str]:
        """Snapshots that something names, with the reason."""
        held: dict[str, str] = {}
        for model in self.all_models():
            if (data := self.store.get(model, "snapshot")) is not None:
                held[data] = f"retrainings of {model!r} start from it"
            for version in self.registry.versions(model):
                if version.removed is None and (model, version.number) not in going:
                    held.setdefault(version.lineage.snapshot_id, f"version {version.number} was made from it")
            waiting = [self.store.get(model, name) or {} for name in UNDER_WAY]
            waiting += [{"adopt": job.request} for job in self.open_jobs(model)]
            for about in waiting:
                for part in ("adopt", "restore"):
                    if (named := (about.get(part) or {}).get("snapshot")) is not None:
                        held.setdefault(named, "a version or job that is under way needs it")
        return {current_id(self.places.snapshots, id_): why for id_, why in held.items()}

    def of_videos(self, gone: set[str], now: datetime) -> list[Judged]:
        """Stored videos; `gone` are the snapshots that go."""
        folder = self.places.videos
        if not self.policy.videos or not folder.is_dir():
            return []
        held: dict[str, str] = {}
        for snapshot in snapshots(self.places.snapshots) if self.places.snapshots.is_dir() else ():
            if snapshot.id not in gone:
                contents = (row.content for row in snapshot.stored())
                held |= dict.fromkeys(videos_of(contents), f"snapshot {snapshot.id[:12]} has windows of it")
        for model in self.all_models():
            for row in self.store.training_data(model):
                held |= dict.fromkeys(videos_of([row.example.content]), "its windows are labelled")
            for item in self.store.queue(model, EVERY):
                held |= dict.fromkeys(videos_of([item.example.content]), "labels for its windows are asked for")
        files = [p for p in folder.iterdir() if not p.name.startswith(".") and p.suffix != ".partial"]
        things = [of_file("video", path, path.name, *beside(path)) for path in files]
        return judge(things, self.policy.videos, held, now)

    def of_checkpoints(self, now: datetime) -> list[Judged]:
        """What trainings that ended, or were given up, have left to work with."""
        held = {job.id: "its job is not finished" for model in self.all_models() for job in self.open_jobs(model)}
        things = self.folders("checkpoint", self.places.work)
        held |= {t.name: "it was used within a day" for t in things if now - t.at < DAY}
        held |= {t.name: "a search or a compression runs in it" for t in things if is_locked(self.places.work / t.name)}
        return [*judge(things, self.policy.checkpoints, held, now), *self.of_studies(now)]

    def of_hidden(self, now: datetime) -> list[Judged]:
        """What frozen layers have given, by stack of layers; it can be computed again."""
        things = self.folders(HIDDEN, self.places.hidden)
        held = {thing.name: "it was used within a day" for thing in things if now - thing.at < DAY}
        return judge(things, self.policy.checkpoints, held, now)

    def of_studies(self, now: datetime) -> list[Judged]:
        """The trials of searches, from which the same search would go on."""
        things = [Thing("search", name, at) for name, at in self.studies()] if self.policy.checkpoints else []
        held = {t.name: "it was used within a day" for t in things if now - t.at < DAY}
        if searching(self.places.work):
            held = dict.fromkeys((t.name for t in things), "a search or a compression runs")
        return judge(things, self.policy.checkpoints, held, now)

    def of_batches(self, now: datetime) -> list[Judged]:
        """Files that were handed in, with their outputs."""
        jobs = self.store.jobs(kind="batch", states=OPEN, limit=10_000)
        held = {job.id: "its job is not finished" for job in jobs}
        return judge(self.folders("batch", self.places.batches), self.policy.batches, held, now)

    def of_alerts(self, now: datetime) -> list[Judged]:
        """Letters in the mailbox."""
        letters = [of_file("alert", path, path.name) for path in self.places.mailbox.glob("*.eml")]
        return judge(letters, self.policy.alerts, {}, now)

    def of_backtests(self, now: datetime) -> list[Judged]:
        """The models that backtests have trained."""
        place = self.places.backtests
        things = [] if place is None else [of_file("backtest", path, path.name) for path in place.glob("*.[np]*")]
        return judge(things, Keep(REPLAYED), {}, now)

    def folders(self, kind: str, place: Path) -> list[Thing]:
        """The folders at a place, dated by the newest that is in them."""
        inside = [p for p in place.iterdir() if p.is_dir() and not p.name.startswith(".")] if place.is_dir() else []
        return [of_folder(kind, path) for path in inside]

    def open_jobs(self, model: str) -> list[Job]:
        """Retrainings that wait or run."""
        return self.store.jobs(model, kind="retrain", states=OPEN, limit=1000)


def videos_of(contents: Iterable[Any]) -> set[str]:
    """The stored videos that these contents are windows of."""
    return {Clip.parse(content).name for content in contents if isinstance(content, str) and names_clip(content)}


def beside(video: Path) -> list[Path]:
    """What was remembered beside a stored video."""
    return sorted(video.parent.glob(f".{video.name}.*.npy"))


def of_file(kind: str, path: Path, name: str, *also: Path) -> Thing:
    """A file (or a folder that counts as one) with those that belong to it."""
    whole = of_folder(kind, path) if path.is_dir() else None
    size = path.stat().st_size if whole is None else whole.size
    return Thing(kind, name, modified(path), size + sum(each.stat().st_size for each in also if each.is_file()))


def of_folder(kind: str, path: Path) -> Thing:
    """A folder."""
    files = [p for p in path.rglob("*") if p.is_file() and not p.is_symlink()]
    newest = max([modified(path), *map(modified, files)])
    return Thing(kind, path.name, newest, sum(p.stat().st_size for p in files))


def modified(path: Path) -> datetime:
    """When a file or folder was last changed."""
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def searching(work: Path) -> bool:
    """Does a search for a recipe run, or a compression?"""
    return work.is_dir() and any(
        is_locked(path) for kind in ("tune", "compress", "import") for path in work.glob(f"{kind}-*")
    )


def is_locked(folder: Path) -> bool:
    """Does another process work in it?"""
    if not (folder / "lock").is_file():
        return False
    lock = FileLock(folder / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return True
    lock.release()
    return False
