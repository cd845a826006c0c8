"""What the drawing of questions looks at in the store: who may be drawn, who was, and how soon answers come."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, exists, func, select

from keepfit.data.database import chunks
from keepfit.data.labellers import heard
from keepfit.data.predictions import PREDICTION_COLUMNS, label_sets, read_prediction
from keepfit.data.records import AUDIT, MEASURING, STREAM, UNIFORM, Prediction, Source, Window, is_content_hash
from keepfit.data.schema import LABELS, PREDICTIONS, QUEUE

L, P, Q = LABELS.c, PREDICTIONS.c, QUEUE.c


@dataclass(frozen=True)
class Question:
    """One question, and when it was answered first."""

    at: datetime
    """When it was asked."""
    said: datetime
    """When the model had answered."""
    answered: datetime | None
    """When the label came; None while it is missing."""
    example_id: str = ""
    propensity: float = 1.0


def repeated(conn: Connection, model: str, since: datetime, window: Window) -> set[str]:
    """Ids of the live predictions of the window whose very content was answered before, from `since` on.

    A text's group is the hash of it; any other group (a video, a conversation) holds what is not alike.
    """
    live = (P.model == model, P.shadow.is_(False), P.stage != STREAM)
    here = select(P.id, P.group).where(*live, P.time >= window.start, P.time < window.end).order_by(P.time, P.id)
    rows = [(id_, group) for id_, group in conn.execute(here) if is_content_hash(group)]
    known: set[str] = set()
    if since < window.start:
        for chunk in chunks(sorted({group for _, group in rows})):
            query = select(P.group).where(*live, P.group.in_(chunk), P.time >= since, P.time < window.start)
            known.update(conn.execute(query.distinct()).scalars())
    found = set()
    for id_, group in rows:
        if group in known:
            found.add(id_)
        known.add(group)
    return found


def alike(conn: Connection, model: str, example_ids: Collection[str]) -> dict[str, str]:
    """Of each example what is the same for examples of the very same content; its own id where nothing says so."""
    found = {id_: id_ for id_ in example_ids}
    for chunk in chunks(sorted(example_ids)):
        query = select(P.example_id, P.group).where(P.model == model, P.example_id.in_(chunk)).distinct()
        found |= {id_: group for id_, group in conn.execute(query) if is_content_hash(group)}
    return found


def parts_of(conn: Connection, model: str, example_ids: Collection[str]) -> dict[str, dict[str, datetime]]:
    """Which parts of the queue drew an example, and when last; nothing of what was never asked about.

    Earlier releases drew alike from all answers, and noted no parts.
    """
    found: dict[str, dict[str, datetime]] = {}
    for chunk in chunks(sorted(example_ids)):
        query = select(Q.example_id, Q.asked_at, Q.parts).where(Q.model == model, Q.example_id.in_(chunk))
        for example_id, at, parts in conn.execute(query.order_by(Q.asked_at, Q.seq)):
            found.setdefault(example_id, {}).update(dict.fromkeys(parts or (UNIFORM,), at))
    return found


def alike_from_all(source: Source, parts: Collection[str]) -> bool:
    """Whether a label of this source that measures was drawn alike from all answers, maybe by another part as well.

    A label that nobody asked for, and one of which no part is on record, came about alike from all.
    """
    return source is not Source.ASKED or not parts or UNIFORM in parts or AUDIT in parts


def asked(conn: Connection, model: str, window: Window) -> list[Question]:
    """The questions asked in the window, oldest first, each with its first answer that measures.

    An audit is answered by an asked label alone: what the usual way brings says nothing of the audit.
    """
    measured = L.source.in_([source.value for source in MEASURING])
    ours = (L.model == Q.model, L.example_id == Q.example_id, measured, heard(model))
    first = select(func.min(L.time)).where(*ours).correlate(QUEUE).scalar_subquery()
    blind = select(func.min(L.time)).where(*ours, L.source == Source.ASKED.value).correlate(QUEUE).scalar_subquery()
    query = (
        select(Q.asked_at, P.time, first, blind, Q.parts, Q.example_id, Q.propensity)
        .select_from(QUEUE.join(PREDICTIONS, (P.model == Q.model) & (P.id == Q.prediction_id)))
        .where(Q.model == model, Q.asked_at >= window.start, Q.asked_at < window.end)
        .order_by(Q.asked_at, Q.seq)
    )
    return [
        Question(at, said, own if AUDIT in (parts or {}) else any_, example_id, propensity)
        for at, said, any_, own, parts, example_id, propensity in conn.execute(query)
    ]  # fmt: skip


def unanswered(conn: Connection, model: str, window: Window, version: int | None) -> list[tuple[Prediction, float]]:
    """The answers of the window that were asked about and have no label that measures, with their chances."""
    measured = L.source.in_([source.value for source in MEASURING])
    answered = exists().where(L.model == Q.model, L.example_id == Q.example_id, measured, heard(model))
    query = (
        select(Q.propensity, *PREDICTION_COLUMNS)
        .select_from(QUEUE.join(PREDICTIONS, (P.model == Q.model) & (P.id == Q.prediction_id)))
        .where(Q.model == model, P.time >= window.start, P.time < window.end, ~answered)
        .order_by(P.time, P.id)
    )
    if version is not None:
        query = query.where(P.version == version)
    sets = label_sets(conn, model)
    return [(read_prediction(row, sets), float(chance)) for chance, *row in conn.execute(query)]
