"""Jobs in the store: asked for by anyone, claimed by one worker."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Select, select, update

from keepfit.data import audit
from keepfit.data.audit import Deed
from keepfit.data.database import insert_new, one_at_a_time
from keepfit.data.records import Job, JobState
from keepfit.data.schema import JOBS
from keepfit.errors import NotFound

J = JOBS.c
_OPEN = (JobState.WAITING.value, JobState.RUNNING.value)


def add_job(conn: Connection, job: Job) -> None:
    """Writes it unless its id is there."""
    row = {"model": job.model, "id": job.id, "kind": job.kind, "at": job.at, "state": job.state, "step": job.step}
    new = insert_new(conn, JOBS, row | {"request": job.request, "result": job.result, "finished_at": job.finished_at})
    if new and job.kind == "retrain":
        told = {name: job.request[name] for name in ("reason", "snapshot") if job.request.get(name)}
        deed = Deed(str(job.request.get("actor") or audit.SYSTEM), "retrain", job.at)
        audit.append(conn, job.model, deed, f"job {job.id}", told)


def join_or_add_job(conn: Connection, job: Job) -> Job:
    """The job of this model and kind that waits or runs; if there is none, `job`, now written."""
    one_at_a_time(conn, "jobs", job.model)
    if known := running_or_waiting(conn, job.model, job.kind):
        return known
    add_job(conn, job)
    return read_job(conn, job.id)


def running_or_waiting(conn: Connection, model: str, kind: str) -> Job | None:
    """The oldest job of this model and kind that is not finished."""
    query = _job_query().where(J.model == model, J.kind == kind, J.state.in_(_OPEN)).order_by(J.seq).limit(1)
    row = conn.execute(query).first()
    return None if row is None else _job(row)


def claim_job(
    conn: Connection, worker: str, kinds: Collection[str], models: Collection[str] | None = None
) -> Job | None:
    """Takes the job of these kinds that waits longest and marks it running; no two callers get the same one."""
    query = select(J.id).where(J.state == JobState.WAITING.value, J.kind.in_(sorted(kinds))).order_by(J.seq).limit(1)
    if models is not None:
        query = query.where(J.model.in_(sorted(models)))
    id_ = conn.execute(query.with_for_update(skip_locked=True)).scalar()
    if id_ is None:
        return None
    conn.execute(update(JOBS).where(J.id == id_).values(state=JobState.RUNNING.value, worker=worker))
    return read_job(conn, id_)


def read_job(conn: Connection, id_: str) -> Job:
    """Raises NotFound."""
    row = conn.execute(_job_query().where(J.id == id_)).first()
    if row is None:
        raise NotFound(f"No job {id_!r} is stored; give the id that the request returned.")
    return _job(row)


def jobs(
    conn: Connection, model: str | None, kind: str | None, states: Collection[JobState] | None, limit: int
) -> list[Job]:
    """Newest first."""
    query = _job_query()
    if model is not None:
        query = query.where(J.model == model)
    if kind is not None:
        query = query.where(J.kind == kind)
    if states is not None:
        query = query.where(J.state.in_([state.value for state in states]))
    return [_job(row) for row in conn.execute(query.order_by(J.at.desc(), J.seq.desc()).limit(limit))]


def update_job(conn: Connection, id_: str, changes: dict[str, Any]) -> None:
    """Sets the given columns. Raises NotFound."""
    if not changes:
        read_job(conn, id_)
        return
    if conn.execute(update(JOBS).where(J.id == id_).values(**changes)).rowcount == 0:
        read_job(conn, id_)


def _job_query() -> Select[Any]:
    return select(J.id, J.model, J.kind, J.at, J.state, J.request, J.result, J.step, J.finished_at)


def _job(row: Sequence[Any]) -> Job:
    id_, model, kind, at, state, *rest = row
    return Job(id_, model, kind, at, JobState(state), *rest)
