"""Where an answer comes from and what became of it: the queries behind `keepfit lineage`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, and_, func, or_, select

from keepfit.data.labelling import LABEL_NAMES, read_label
from keepfit.data.records import Label
from keepfit.data.schema import LABELS, PREDICTIONS
from keepfit.errors import NotFound

P = PREDICTIONS.c
L = LABELS.c


@dataclass(frozen=True)
class Made:
    """The predictions of one version."""

    count: int
    shadow: int
    """Of these, the ones that no user heard."""
    first: datetime | None
    last: datetime | None


def request_of(conn: Connection, model: str, prediction_id: str) -> str | None:
    """The id of the request that a prediction answered."""
    return conn.execute(select(P.request).where(P.model == model, P.id == prediction_id)).scalar()


def labels_of(conn: Connection, model: str, example_id: str) -> list[Label]:
    """Every label of one example, as they arrived."""
    query = select(*(L[name] for name in LABEL_NAMES)).where(L.model == model, L.example_id == example_id)
    return [read_label(row) for row in conn.execute(query.order_by(L.time, L.seq))]


def made_by(conn: Connection, model: str, version: int) -> Made:
    """How many predictions a version made, and in which time."""
    of_version = and_(P.model == model, P.version == version)
    count, first, last = conn.execute(select(func.count(), func.min(P.time), func.max(P.time)).where(of_version)).one()
    shadow = conn.execute(select(func.count()).select_from(PREDICTIONS).where(of_version, P.shadow.is_(True)))
    return Made(count, shadow.scalar_one(), first, last)


def prediction_ids(conn: Connection, model: str, versions: Collection[int], limit: int, after: str | None) -> list[str]:
    """By version, then by time; `after` is the last of the page before. Raises NotFound for an unknown `after`."""
    query = select(P.id).where(P.model == model, P.version.in_(sorted(versions)))
    if after is not None:
        last = conn.execute(select(P.version, P.time).where(P.model == model, P.id == after)).first()
        if last is None:
            raise NotFound(f"No prediction {after!r} of the model {model!r} is stored; give the last id of a page.")
        later = and_(P.version == last.version, or_(P.time > last.time, and_(P.time == last.time, P.id > after)))
        query = query.where(or_(P.version > last.version, later))
    return list(conn.execute(query.order_by(P.version, P.time, P.id).limit(limit)).scalars())
