"""The worker: one process that holds the watcher and the job queue, at low priority."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from filelock import FileLock, Timeout

from keepfit.app.turns import Turns
from keepfit.clock import Clock
from keepfit.data.records import MEASURING, Event, Job, JobState, text_group
from keepfit.data.store import RecordStore
from keepfit.errors import BackendError, KeepfitError, Refused
from keepfit.redaction import redacted

if TYPE_CHECKING:  # they are given; who only asks whether there is a worker must not load what measures
    from keepfit.pipelines.announce import Announcer
    from keepfit.pipelines.watch import Watch

log = logging.getLogger(__name__)
POLL = 0.5
"""Seconds between two looks at the job queue."""
SOON = timedelta(seconds=10)
"""New labels are looked at so long after the last look at the earliest."""
SETTLED = timedelta(seconds=2)
"""A file in a watched folder counts when it has not grown for this long."""

DONE_HERE = ("retrain", "batch")
"""Kinds of jobs that are the worker's."""


class Durable(Protocol):
    """Starts retrainings; see `pipelines/durable.py`."""

    def start(self, model: str, job_id: str) -> None: ...

    def goes_on(self, job_id: str) -> bool: ...


def nothing_due() -> None:
    """What a model without live cameras has to refine."""


@dataclass(frozen=True)
class WatchedModel:
    """One model's watch and how often it beats."""

    watch: Watch
    announcer: Announcer
    mirror: Callable[[], None]
    """Lets the registry's aliases follow what is deployed, whoever deployed it."""
    every: timedelta
    folder: Path | None = None
    elsewhere: Callable[[], None] = nothing_due
    """Of a model that is served elsewhere: reads what is followed, and sees what answers."""
    hand_over: Callable[[], None] = nothing_due
    """Tells the other system what is to answer."""
    refine: Callable[[], None] = nothing_due
    """Judges the thresholds of live cameras anew."""


@dataclass
class Worker:
    """Beats until told to stop; each beat does what is due and survives the failure of any part."""

    store: RecordStore
    models: Mapping[str, WatchedModel]
    durable: Durable
    score: Callable[[Job], Mapping[str, Any]]
    """Does a batch job; returns its result."""
    clock: Clock
    look: Callable[[], None] = lambda: None
    """Called at each beat, for people who watch."""
    prune: Callable[[], None] = nothing_due
    """Deletes what may go, once a day."""
    aside: Callable[[], None] = nothing_due
    """Called at each beat: the budget, the worker's own figures."""
    still: Callable[[], None] = lambda: None
    """Raises Refused when another process has become the worker, BackendError while nobody can tell."""
    at_once: int = 1
    """Retrainings of all models together."""
    due: dict[str, datetime] = field(default_factory=dict)
    looked: dict[str, datetime] = field(default_factory=dict)
    batch_thread: threading.Thread | None = None
    alert_thread: threading.Thread | None = None

    def run(self, stop: threading.Event) -> None:
        """Take up what an earlier worker left, then beat until `stop` is set.

        Raises Refused when another process has become the worker meanwhile.
        """
        self.take_up()
        while not stop.is_set():
            try:
                self.still()
            except BackendError as error:
                log.error("whether this is still the only worker cannot be told: %s", error)
            self.beat()
            stop.wait(POLL)
        for thread in (self.batch_thread, self.alert_thread):
            if thread is not None:
                thread.join(timeout=5)

    @property
    def turns(self) -> Turns:
        """Which retraining may begin."""
        return Turns(self.store, sorted(self.models), self.at_once, self.clock)

    def take_up(self) -> None:
        """Jobs that were running when a worker was killed go on from their last finished step.

        Others, such as a compression, are done by who asked for them.
        """
        self.turns.close_orphans()
        for job in self.store.jobs(states=[JobState.RUNNING], limit=1000):
            if job.kind in DONE_HERE:
                self.guarded(f"taking up {job.id}", partial(self.begin, job))

    def beat(self) -> None:
        """Everything that is due now."""
        now = self.clock.now()
        sign = {"at": now.isoformat(), "pid": os.getpid(), "models": sorted(self.models)}
        self.guarded("heartbeat", lambda: self.store.put("", "worker", sign))
        for name, model in self.models.items():
            if model.folder is not None:
                self.guarded(f"watching {model.folder}", partial(self.look_into, name, model.folder))
            self.guarded(f"following {name}", model.elsewhere)
            back = now < self.looked.get(name, now)  # the clock was set back: what is due by it may be far off
            if back or now >= self.due.get(name, now) or self.stirred(name, now):
                self.due[name], self.looked[name] = now + model.every, now
                self.guarded(f"refining {name}", model.refine)
                self.guarded(f"checking {name}", model.watch.tick)
                self.guarded(f"mirroring {name}", model.mirror)
        self.announce()
        self.guarded("taking jobs", self.take_jobs)
        self.guarded("looking after jobs", self.take_up_stranded)
        self.guarded("pruning", self.prune)
        self.guarded("telling how far it is", self.look)
        self.guarded("housekeeping", self.aside)

    def stirred(self, name: str, now: datetime) -> bool:
        """Whether labels that measure came in since the last look: harm that is known should not wait for the clock."""
        last = self.looked.get(name)
        if last is None or now - last < SOON:
            return False
        try:
            return self.store.count_labels(name, last, MEASURING) > 0
        except BackendError:
            return False

    def guarded(self, what: str, act: Callable[[], Any]) -> None:
        """A failing part is logged with a sentence; the worker lives on and tries again at the next beat."""
        try:
            act()
        except KeepfitError as error:
            log.error("%s: %s", what, error)
        except Exception:
            log.exception("%s failed", what)

    def announce(self) -> None:
        """Aside, and one at a time: a mail server that hangs must hold up neither checks nor jobs."""
        if self.alert_thread is None or not self.alert_thread.is_alive():
            self.alert_thread = threading.Thread(target=self.announce_all, name="alerts", daemon=True)
            self.alert_thread.start()

    def announce_all(self) -> None:
        """What is new, of every model."""
        for name, model in self.models.items():
            self.guarded(f"handing over {name}", model.hand_over)
            self.guarded(f"announcing {name}", model.announcer.announce)

    def take_up_stranded(self) -> None:
        """A retraining whose steps could not be noted (a full disk) has ended without an end: it goes on."""
        for job in self.store.jobs(kind="retrain", states=[JobState.RUNNING]):
            if not self.durable.goes_on(job.id):
                log.warning("the retraining %s of %s has stopped without an end; it goes on", job.id, job.model)
                self.durable.start(job.model, job.id)

    def take_jobs(self) -> None:
        """Retrainings start when it is their turn (see Turns), batch files one after another.

        While somebody is being forgotten nothing is begun; a forgetting that comes later sees what waits, and refuses.
        """
        if not self.store.jobs(states=[JobState.WAITING], limit=1):
            return
        if not self.store.nobody_forgets():
            log.info("a forgetting runs; jobs wait for its end")
            return
        self.turns.close_orphans()
        while (job := self.turns.take()) is not None:
            self.begin(job)
        if self.batch_thread is None or not self.batch_thread.is_alive():
            job = self.store.claim_job("worker", ["batch"], sorted(self.models))
            if job is not None:
                self.begin(job)

    def begin(self, job: Job) -> None:
        """Start, or go on with, a claimed job."""
        if job.kind == "retrain":
            try:
                self.durable.start(job.model, job.id)
            except Exception:
                self.store.update_job(job.id, state=JobState.WAITING)  # tried again at the next beat
                raise
        else:
            self.batch_thread = threading.Thread(target=self.do_batch, args=(job,), name="batch", daemon=True)
            self.batch_thread.start()

    def do_batch(self, job: Job) -> None:
        """Score one file; a failure is the job's result."""
        try:
            result, state = self.score(job), JobState.DONE
        except KeepfitError as error:
            result, state = {"error": str(error)}, JobState.FAILED
        except Exception as error:
            log.exception("batch %s failed", job.id)
            result, state = {"error": redacted(f"{type(error).__name__}: {error}")}, JobState.FAILED
        self.guarded(
            f"closing batch {job.id}",
            lambda: self.store.update_job(job.id, state=state, result=result, finished_at=self.clock.now()),
        )

    def look_into(self, name: str, folder: Path | None) -> None:
        """A new labelled file in the watched folder is an event; each file counts once, when it has stopped growing."""
        if folder is None or not folder.is_dir():
            return
        known = dict(self.store.get(name, "folder_files") or {})
        now = self.clock.now()
        for file in sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")):
            stat = file.stat()
            mark = f"{stat.st_size}-{stat.st_mtime_ns}"
            age = now.timestamp() - stat.st_mtime
            if known.get(file.name) == mark or age < SETTLED.total_seconds():
                continue
            known[file.name] = mark
            files = [f for f in self.store.get(name, "data_files") or [] if f != str(file)]
            self.store.put(name, "data_files", [*files, str(file)])
            # its id is the file's, so that a kill before the file counts as known neither loses nor repeats the event
            id_ = text_group(f"{name} {file} {mark}")
            self.store.add_event(Event(id_, name, now, "new_data", "folder", {"file": str(file)}))
            self.store.put(name, "folder_files", known)


class WorkerLock:
    """At most one worker per project, and per record store where one is given; free when its process dies."""

    def __init__(self, state: Path, store: RecordStore | None = None) -> None:
        state.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(state / "worker.lock")
        self._sole = None if store is None else store.sole("worker")

    def acquire(self, wait: float = 0) -> None:
        """Raises Refused while another process is the worker, BackendError when nobody can tell."""
        try:
            self._lock.acquire(timeout=wait)
        except Timeout as error:
            raise Refused("another worker runs for this project; stop it first, or let it do the work") from error
        except OSError as error:
            raise BackendError(f"the worker's lock cannot be taken: {error}") from error
        try:
            if self._sole is not None:
                self._sole.acquire(wait)
        except KeepfitError:
            self._lock.release()
            raise

    def check(self) -> None:
        """Raises Refused when the store's lock was lost and another process is the worker, BackendError as acquire."""
        if self._sole is not None:
            self._sole.check()

    def release(self) -> None:
        """Let another process be the worker."""
        if self._sole is not None:
            self._sole.release()
        self._lock.release()


def calm_down(niceness: int, threads: int) -> None:
    """Lower this process's priority, so that training never disturbs answering; limit numeric threads when asked."""
    os.nice(niceness)
    with contextlib.suppress(OSError):  # where Linux groups processes by session, only the group's niceness counts
        Path("/proc/self/autogroup").write_text(str(niceness), "ascii")
    # threads that wait by spinning take from answering what lower priority gave to it
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if threads:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ[name] = str(threads)
