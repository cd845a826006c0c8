"""Where an answer comes from: version, run, job, data, gate and deployment; and which answers came from some data."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from keepfit.data.records import Deployment, Job, Label, StoredDecision
from keepfit.data.store import RecordStore
from keepfit.errors import BackendError, InvalidInput, NotFound
from keepfit.registry.registry import ModelVersion, Registry

Find = Callable[[int], ModelVersion]
"""A version by its number, from the registry."""
MANY = 10_000
"""So many deployments and retrainings are looked through."""


def of_prediction(store: RecordStore, model: str, prediction_id: str, find: Find | None = None) -> dict[str, Any]:
    """An answer with everything that it came from, and the labels that came for it, as plain values and times.

    Without a registry (`find`), or while it is away, the version's facts are those of the job that made it.
    Raises NotFound for an unknown prediction.
    """
    example, prediction = store.prediction(model, prediction_id)
    deployment = answered_under(store, model, prediction.model_version, prediction.time)
    return {
        "prediction": {
            "id": prediction.id, "model": model, "example_id": example.id, "key": prediction.key,
            "time": prediction.time, "label": prediction.label, "score": prediction.confidence,
            "version": prediction.model_version, "stage": prediction.stage, "shadow": prediction.shadow,
            "request": store.request_of(model, prediction_id),
        },
        "version": version_facts(store, model, prediction.model_version, find),
        "deployment": None if deployment is None else deployment_facts(deployment),
        "labels": [label_facts(label, prediction_id) for label in store.labels_of(model, example.id)],
    }  # fmt: skip


def answered_under(store: RecordStore, model: str, version: int, at: datetime) -> Deployment | None:
    """The newest deployment of that time in which the version had traffic or answered in the shadow.

    It may be older than the newest of that time: servers follow a new deployment within a second, not at once.
    """
    live = store.live_at(model, at)
    if live is None or version in live.traffic.versions:
        return live
    rows = store.deployments(model, MANY)
    return next((row for row in rows if row.at <= at and version in row.traffic.versions), None)


def version_facts(store: RecordStore, model: str, number: int, find: Find | None) -> dict[str, Any]:
    """What a version was made from and why, and what the gate said of it; null where nobody knows any more."""
    known = found(find, number)
    job = maker(store, model, number, None if known is None else known.lineage.job_id)
    gate = gate_of(store, model, number, None if job is None else job.id)
    facts = facts_of_job(job) if known is None else facts_of(known)
    return {"version": number, **facts, "gate": None if gate is None else decision_facts(gate)}


def found(find: Find | None, number: int) -> ModelVersion | None:
    """The registry's word on a version; None while it is away, or where it forgot the version."""
    if find is None:
        return None
    try:
        return find(number)
    except (BackendError, NotFound):
        return None


def facts_of(version: ModelVersion) -> dict[str, Any]:
    """By the registry."""
    lineage = version.lineage
    return {
        "at": version.at, "run": version.run_id or None, "job": lineage.job_id, "reason": lineage.reason,
        "snapshot": lineage.snapshot_id, "parent": lineage.parent, "code": lineage.code or None,
    }  # fmt: skip


def facts_of_job(job: Job | None) -> dict[str, Any]:
    """By the job that made a version; the run and the code's version are the registry's alone."""
    if job is None:
        return dict.fromkeys(("at", "run", "job", "reason", "snapshot", "parent", "code"))
    return {
        "at": job.at, "run": None, "job": job.id, "reason": job.request.get("reason"),
        "snapshot": job.result.get("snapshot"), "parent": job.result.get("parent"), "code": None,
    }  # fmt: skip


def maker(store: RecordStore, model: str, number: int, job_id: str | None) -> Job | None:
    """The retraining that made a version."""
    if job_id is not None:
        try:
            return store.job(job_id)
        except NotFound:
            return None
    jobs = store.jobs(model, kind="retrain", limit=MANY)
    return next((job for job in jobs if job.result.get("version") == number), None)


def gate_of(store: RecordStore, model: str, number: int, job_id: str | None) -> StoredDecision | None:
    """The gate's decision when the version was made; else the first that was ever made about it."""
    if job_id is not None:
        try:
            return store.decision(f"{job_id}-gate")
        except NotFound:
            pass
    judged = store.decisions(model, f"gate v{number}", MANY)
    return judged[-1] if judged else None


def decision_facts(stored: StoredDecision) -> dict[str, Any]:
    """A decision without its evidence."""
    decision = stored.decision
    return {"id": stored.id, "at": stored.at, "outcome": str(decision.outcome), "because": list(decision.because)}


def deployment_facts(row: Deployment) -> dict[str, Any]:
    """A deployment, without who applied it."""
    return {
        "id": row.id, "at": row.at, "actor": row.actor, "reason": row.reason, "kind": row.kind,
        "traffic": {str(version): share for version, share in sorted(row.traffic.shares.items())},
        "shadow": list(row.traffic.shadow), "decision_id": row.decision_id,
    }  # fmt: skip


def label_facts(label: Label, prediction_id: str) -> dict[str, Any]:
    """A label, and whether it named this very answer or only its example."""
    return {
        "value": label.value, "time": label.time, "source": str(label.source), "actor": label.actor,
        "named_this_answer": label.prediction_id == prediction_id,
    }  # fmt: skip


def reasons_of(store: RecordStore, rows: Sequence[Deployment]) -> dict[str, str]:
    """Of the decisions behind deployments, by their ids: the reasons that decided."""
    reasons = {}
    for id_ in {row.decision_id for row in rows if row.decision_id is not None}:
        try:
            decision = store.decision(id_).decision
        except NotFound:
            continue
        reasons[id_] = "; ".join(decision.telling) or str(decision.outcome)
    return reasons


def of_snapshot(store: RecordStore, registry: Registry, model: str, snapshots: Path, given: str) -> dict[str, Any]:
    """The versions made from a snapshot, or from data that was grown from it, and how much they answered.

    `given` may be the beginning of an id. Raises NotFound for a snapshot that neither lies there nor made a version,
    InvalidInput when several begin so.
    """
    versions = registry.versions(model)
    parents = dict(lineages(snapshots))
    wanted = full_id(given, {*parents, *(version.lineage.snapshot_id for version in versions)})
    family = descendants(wanted, parents)
    found = [version for version in reversed(versions) if version.lineage.snapshot_id in family]
    return {
        "snapshot": wanted,
        "stored": (snapshots / f"{wanted}.parquet").exists(),
        "versions": [made(store, model, version, wanted) for version in found],
    }


def made(store: RecordStore, model: str, version: ModelVersion, snapshot: str) -> dict[str, Any]:
    """A version and what it answered; `direct` is false where the snapshot was only grown into its data."""
    answers = store.made_by(model, version.number)
    return {
        "version": version.number, "snapshot": version.lineage.snapshot_id,
        "direct": version.lineage.snapshot_id == snapshot, "predictions": answers.count, "shadow": answers.shadow,
        "first": answers.first, "last": answers.last,
    }  # fmt: skip


def lineages(snapshots: Path) -> Iterator[tuple[str, list[str]]]:
    """(id, its parents) of every snapshot that lies there."""
    for path in sorted(snapshots.glob("*.json")):
        try:
            yield path.stem, list(json.loads(path.read_text("utf-8")).get("parents", ()))
        except (OSError, ValueError, AttributeError) as error:
            raise BackendError(f"{path} cannot be read ({error}); restore it from a backup") from error


def full_id(given: str, known: set[str]) -> str:
    """The one id that begins so. Raises NotFound or InvalidInput."""
    begins = sorted(id_ for id_ in known if id_.startswith(given)) if given else []
    if given in begins:
        return given
    if not begins:
        raise NotFound(f"there is no snapshot {given!r}; `keepfit models` shows those of the versions")
    if len(begins) > 1:
        raise InvalidInput(f"{len(begins)} snapshots begin with {given!r}; give more of the id", "snapshot")
    return begins[0]


def descendants(snapshot: str, parents: Mapping[str, Sequence[str]]) -> set[str]:
    """The snapshot and all that were grown from it.

    >>> sorted(descendants("a", {"b": ["a"], "c": ["b"], "d": ["x"]}))
    ['a', 'b', 'c']
    """
    family = {snapshot}
    while more := {id_ for id_, above in parents.items() if id_ not in family and family & set(above)}:
        family |= more
    return family
