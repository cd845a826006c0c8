"""Decisions, deployments, events and small named values in the store."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, func, insert, or_, select, update

from keepfit.data import audit
from keepfit.data.audit import Deed
from keepfit.data.chain import digest
from keepfit.data.database import insert_new, insert_or_replace, insert_or_skip, one_at_a_time
from keepfit.data.records import Cause, Deployment, Event, StoredDecision, Traffic
from keepfit.data.schema import APPLIED, DECISIONS, DEPLOYMENTS, EVENTS, NAMED_VALUES
from keepfit.decision import Decision, Outcome
from keepfit.errors import NotFound, Refused

D = DECISIONS.c
T = DEPLOYMENTS.c
V = EVENTS.c
_ACTIONS = {"rollback": "roll back"}


def add_decision(conn: Connection, stored: StoredDecision) -> None:
    """Writes it unless its id is there."""
    row = {"model": stored.model, "id": stored.id, "at": stored.at, "subject": stored.subject}
    decision = stored.decision
    content = {"outcome": decision.outcome, "because": decision.because, "evidence": decision.evidence}
    if insert_new(conn, DECISIONS, row | content):
        told = {"subject": public(stored.subject), "outcome": decision.outcome}
        audit.tell(conn, "decision", stored.id, Deed(audit.SYSTEM, "decision", stored.at), told)


def public(subject: str) -> str:
    """A decision's subject without a camera's name: the chain is for ever, and a name may have to be forgotten.

    >>> public("gate v3"), public("threshold lobby"), public("trigger")
    ('gate v3', 'threshold', 'trigger')
    """
    return subject if re.fullmatch(r"[a-z]+( v\d+)?", subject) else subject.split(" ", 1)[0]


def _read_decision(row: Sequence[Any]) -> StoredDecision:
    id_, model, at, subject, outcome, because, evidence = row
    return StoredDecision(id_, model, at, subject, Decision(Outcome(outcome), tuple(because), evidence))


def _decision_query() -> Select[Any]:
    return select(D.id, D.model, D.at, D.subject, D.outcome, D.because, D.evidence)


def decision(conn: Connection, id_: str) -> StoredDecision:
    """Raises NotFound."""
    row = conn.execute(_decision_query().where(D.id == id_)).first()
    if row is None:
        raise NotFound(f"No decision {id_!r} is stored; `keepfit decisions` lists them.")
    return _read_decision(row)


def decisions(
    conn: Connection, model: str | None, subject: str | None, limit: int,
    until: datetime | None = None, begins: str = "",
) -> list[StoredDecision]:  # fmt: skip
    """Newest first. The subject "gate" also finds "gate v3"; `begins` is how an id begins."""
    query = _decision_query()
    if model is not None:
        query = query.where(D.model == model)
    if subject is not None:
        query = query.where(or_(D.subject == subject, D.subject.startswith(subject + " ", autoescape=True)))
    if until is not None:
        query = query.where(D.at <= until)
    if begins:
        query = query.where(func.substr(D.id, 1, len(begins)) == begins)
    rows = conn.execute(query.order_by(D.at.desc(), D.seq.desc()).limit(limit))
    return [_read_decision(row) for row in rows]


def deploy(
    conn: Connection, wanted: Deployment, cause: Cause, after: int | None, values: Mapping[str, Any]
) -> Deployment:
    """Appends a row and returns it with its id; the token of a cause that was used before returns the row of then.

    Raises Refused when the newest row is another than `after`.
    """
    one_at_a_time(conn, "deployments", wanted.model)
    token = cause.token
    if token is not None:
        known = conn.execute(_deployment_query().where(T.model == wanted.model, T.token == token)).all()
        if known:
            return _read_deployments(conn, known)[0]
    if after is not None:
        check_newest(conn, wanted.model, after)
    for name, value in values.items():
        put_value(conn, wanted.model, name, value)
    traffic = wanted.traffic
    shares = sorted(traffic.shares.items())
    result = conn.execute(
        insert(DEPLOYMENTS)
        .values(model=wanted.model, at=wanted.at, actor=wanted.actor, reason=wanted.reason, kind=wanted.kind)
        .values(shares=shares, shadow=traffic.shadow, decision_id=wanted.decision_id, token=token)
        .returning(T.id)
    )
    number = result.scalar_one()
    deed = Deed(wanted.actor, cause.action or _ACTIONS.get(wanted.kind, wanted.kind), wanted.at)
    audit.tell(conn, "deployment", number, deed, whole=True)
    rows = conn.execute(_deployment_query().where(T.id == number)).all()
    return _read_deployments(conn, rows)[0]


def check_newest(conn: Connection, model: str, expected: int) -> None:
    """Raises Refused when somebody has deployed since."""
    newest = conn.execute(select(func.max(T.id)).where(T.model == model)).scalar()
    if newest != expected:
        raise Refused(f"another deployment of {model!r} came between ({newest}); look at `keepfit history`")


def put_all(conn: Connection, model: str, values: Mapping[str, Any], after: int) -> None:
    """Replaces several values. Raises Refused unless `after` is the newest deployment."""
    one_at_a_time(conn, "deployments", model)
    check_newest(conn, model, after)
    for name, value in values.items():
        put_value(conn, model, name, value)


def _deployment_query() -> Select[Any]:
    return select(T.id, T.model, T.at, T.actor, T.reason, T.shares, T.shadow, T.kind, T.decision_id, T.token)


def _read_deployments(conn: Connection, rows: Sequence[Row[Any]]) -> list[Deployment]:
    ids = [row.id for row in rows] or [0]
    a = APPLIED.c
    query = select(a.deployment_id, a.worker, a.at).where(a.deployment_id.between(min(ids), max(ids)))
    applied: dict[int, list[tuple[str, datetime]]] = {}
    for deployment_id, worker, at in conn.execute(query.order_by(a.at, a.worker)):
        applied.setdefault(deployment_id, []).append((worker, at))
    return [_read_deployment(row, tuple(applied.get(row.id, ()))) for row in rows]


def _read_deployment(row: Sequence[Any], applied: tuple[tuple[str, datetime], ...]) -> Deployment:
    id_, model, at, actor, reason, shares, shadow, kind, decision_id, token = row
    traffic = Traffic(dict(shares), tuple(shadow))
    return Deployment(id_, model, at, actor, reason, traffic, kind, decision_id, applied, token)


def deployments(conn: Connection, model: str | None, limit: int, until: datetime | None = None) -> list[Deployment]:
    """Newest first: the last written, whatever its time says; `until` (inclusive) hides later ones."""
    query = _deployment_query()
    if model is not None:
        query = query.where(T.model == model)
    if until is not None:
        query = query.where(T.at <= until)
    return _read_deployments(conn, conn.execute(query.order_by(T.id.desc()).limit(limit)).all())


def applied(conn: Connection, deployment_id: int, worker: str, at: datetime) -> None:
    """Notes when a worker began to serve it; the first time holds. Raises NotFound for an unknown deployment."""
    model = conn.execute(select(T.model).where(T.id == deployment_id)).scalar()
    if model is None:
        raise NotFound(f"No deployment {deployment_id} is stored; `keepfit history` lists them.")
    insert_or_skip(conn, APPLIED, [{"deployment_id": deployment_id, "worker": worker, "model": model, "at": at}])


def add_event(conn: Connection, event: Event) -> None:
    """Writes it unless its id is there."""
    row = {"model": event.model, "id": event.id, "at": event.at, "kind": event.kind, "actor": event.actor}
    if insert_new(conn, EVENTS, row | {"details": event.details, "handled_by": event.handled_by}):
        # the hash alone: what others send may hold what must be forgotten one day
        told = {"kind": event.kind, "details_sha256": digest(event.details)}
        audit.append(conn, event.model, Deed(event.actor, "event", event.at), f"event {event.id}", told)


def waiting_events(conn: Connection, model: str) -> list[Event]:
    """What nobody has taken up, oldest first."""
    query = select(V.id, V.model, V.at, V.kind, V.actor, V.details, V.handled_by)
    query = query.where(V.model == model, V.handled_by.is_(None)).order_by(V.at, V.seq)
    return [Event(*row) for row in conn.execute(query)]


def handle_events(conn: Connection, ids: Sequence[str], handled_by: str) -> None:
    """Marks events that still wait as taken up."""
    conn.execute(update(EVENTS).where(V.id.in_(ids), V.handled_by.is_(None)).values(handled_by=handled_by))


def get_value(conn: Connection, model: str, name: str) -> Any:
    """The value put last, or None."""
    n = NAMED_VALUES.c
    return conn.execute(select(n.value).where(n.model == model, n.name == name)).scalar()


def put_value(conn: Connection, model: str, name: str, value: Any) -> None:
    """Replaces the value of that name."""
    insert_or_replace(conn, NAMED_VALUES, {"model": model, "name": name, "value": value})
