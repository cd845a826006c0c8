"""Keeping and forgetting, put together from the settings: pruning, once a day in the worker too; forgetting; pins."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from keepfit.app.settings import RetentionSettings
from keepfit.app.wiring import LATE, Home, named
from keepfit.clock import Clock
from keepfit.data.records import Source
from keepfit.data.retention import PINNED, Keep
from keepfit.data.store import RecordStore
from keepfit.errors import NotFound
from keepfit.pipelines.forget import Forget
from keepfit.pipelines.interrupted import close_interrupted
from keepfit.pipelines.overdue import OPEN, Overdue, Places, Policy
from keepfit.pipelines.prune import Prune
from keepfit.registry.registry import Registry

log = logging.getLogger(__name__)
DAILY = "pruned"
"""The name of the value in the store that says when the worker has pruned last."""
DAY = timedelta(days=1)
BACKUP_S = 3600.0
"""So long the daily pruning waits for a backup to end."""


def prune(home: Home, store: RecordStore, registry: Registry) -> Prune:
    """The pruning of a project."""

    def looks_back(model: str) -> timedelta:
        known = home.settings.models.get(model)
        if known is None:
            return timedelta(0)
        settling = known.settle_after if known.labels == Source.COMPLETE.value else timedelta(0)
        return max(known.watch.window, known.watch.label_window, settling)

    models = tuple(home.settings.models)
    policy = policy_of(home.settings.retention)
    trials = home.tuning_url

    def studies() -> Sequence[tuple[str, datetime]]:
        there = home.settings.trials is not None or (home.state / "tuning.db").is_file()
        found: Sequence[tuple[str, datetime]] = named(LATE["studies"])(trials) if there else ()
        return found

    overdue = Overdue(models, store, registry, policy, places_of(home), home.clock, looks_back, studies)
    return Prune(overdue, lambda name: named(LATE["delete_study"])(trials, name))


def policy_of(settings: RetentionSettings) -> Policy:
    """The limits of the settings."""
    values = settings.model_dump()
    kinds = ("predictions", "versions", "snapshots", "checkpoints", "runs", "videos", "batches", "alerts")
    limits = {kind: Keep(values[f"{kind}_for"], values[f"{kind}_most"]) for kind in kinds}
    return Policy(**limits, quiet_checks=settings.quiet_checks_for)


def places_of(home: Home) -> Places:
    """The folders of the project."""
    return Places(home.snapshots, home.work, home.videos, home.batches, home.mailbox, home.backtests)


def daily(home: Home, store: RecordStore, registry: Registry) -> Daily:
    """The pruning of the worker."""
    return Daily(
        store, home.clock, lambda: prune(home, store, registry).run("keepfit", wait=BACKUP_S),
        lambda: close_interrupted(store, home.work, home.clock),
    )  # fmt: skip


@dataclass
class Daily:
    """Called at each beat of the worker: begins a pruning once a day, aside, at a moment when no job waits or runs."""

    store: RecordStore
    clock: Clock
    prune: Callable[[], object]
    close: Callable[[], None] = lambda: None
    """Ends jobs that a kill has left open, so that nothing waits for them."""
    thread: threading.Thread | None = None

    def __call__(self) -> None:
        """Begin one when it is due."""
        self.close()
        now, last = self.clock.now(), self.store.get("", DAILY)
        if last is not None and now - datetime.fromisoformat(last["at"]) < DAY:
            return
        if self.store.jobs(states=OPEN, limit=1):
            return
        self.store.put("", DAILY, {"at": now.isoformat()})  # first: what fails is tried again tomorrow, not at once
        self.thread = threading.Thread(target=self.guarded, name="prune", daemon=True)
        self.thread.start()

    def guarded(self) -> None:
        """A pruning that fails is logged; the worker lives on."""
        try:
            self.prune()
        except Exception:
            log.exception("pruning failed")


def forget(home: Home, store: RecordStore, registry: Registry) -> Forget:
    """The forgetting of a project."""
    close_interrupted(store, home.work, home.clock)
    models = tuple(home.settings.models)
    known = tuple(model for model in prune(home, store, registry).overdue.all_models() if model not in models)
    return Forget(
        (*models, *known), store, registry, home.state, places_of(home), home.clock, elsewhere(home)
    )  # fmt: skip


def elsewhere(home: Home) -> list[str]:
    """What other systems keep, as this project is set."""
    settings, said = home.settings, []
    if settings.tracking not in (None, "local"):
        said.append("the MLflow server keeps deleted versions of files and rows as it is set up; run `mlflow gc` there")
    if settings.store is not None and not settings.store.startswith("sqlite"):
        said.append("PostgreSQL keeps deleted rows in its write-ahead log, its replicas and archives for a while")
    if settings.worker.jobs_database is not None:
        said.append("the database of jobs is elsewhere; the reasons of verdicts that it holds may quote a text")
    if settings.alerts.urls or settings.alerts.email is not None:
        said.append("alerts that were sent as mail or messages are with those who received them")
    return said


def pin(store: RecordStore, registry: Registry, model: str, number: int, actor: str, at: datetime) -> None:
    """Keep a version's files, whatever the policies say. Raises NotFound for one that is unknown or has no files."""
    registry.fetch(model, number)
    pinned = store.get(model, PINNED) or {}
    store.put(model, PINNED, {str(number): {"actor": actor, "at": at.isoformat()}, **pinned})
    store.note(model, actor, "pin", f"version {number}", {}, at)


def unpin(store: RecordStore, model: str, number: int, actor: str, at: datetime) -> None:
    """Let the policies rule again. Raises NotFound when it is not pinned."""
    pinned = dict(store.get(model, PINNED) or {})
    if pinned.pop(str(number), None) is None:
        known = ", ".join(sorted(pinned, key=int)) or "none"
        raise NotFound(f"version {number} of {model!r} is not pinned; pinned are: {known}")
    store.put(model, PINNED, pinned)
    store.note(model, actor, "unpin", f"version {number}", {}, at)


def pinned(store: RecordStore, model: str) -> dict[str, Any]:
    """By version, who pinned it and when."""
    return dict(store.get(model, PINNED) or {})
