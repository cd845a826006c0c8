"""Retention: how long records stay. What is over a limit, and the rows of the store that may go by it.

Labelled and queued examples, and predictions that a monitor still looks at, are left out by the queries themselves, so
that no caller can delete them by mistake.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, Select, delete, exists, func, select, type_coerce

from keepfit.clock import spelt
from keepfit.data import audit
from keepfit.data.audit import Deed
from keepfit.data.database import Database, chunks, one_at_a_time
from keepfit.data.history import get_value
from keepfit.data.schema import DECISIONS, DEPLOYMENTS, EXAMPLES, JOBS, LABELS, NAMED_VALUES, PREDICTIONS, QUEUE
from keepfit.decision import Outcome

E = EXAMPLES.c
P = PREDICTIONS.c
D = DECISIONS.c
AT_ONCE = 500
"""Rows in one transaction, so that nobody waits long for the database."""
HOUR = 3_600_000_000
"""Microseconds."""
_NUMBER = r"[+-]?\d[\d.,]*(e[+-]?\d+)?( (day|hour|minute|second)s?)?"
PINNED = "pinned"
"""Under this name the store keeps the versions that a person wants to stay: {"3": {"actor", "at"}}."""
REMOVED = "removed"
"""Under this name the store keeps the versions whose files are gone: {"3": {"at"}}."""


@dataclass(frozen=True)
class Keep:
    """How long a kind of thing is kept, and how many of the newest; zero is no limit."""

    age: timedelta = timedelta(0)
    most: int = 0

    def __bool__(self) -> bool:
        return bool(self.age or self.most)

    def over(self, times: Sequence[datetime], now: datetime) -> list[str | None]:
        """For each of these, newest first, why it is over a limit; None for what is within both.

        >>> now = datetime(2025, 1, 3)
        >>> Keep(most=1).over([now, now - timedelta(days=1)], now)
        [None, 'there are 1 newer ones and 1 are kept']
        """
        return [self._why(place, at, now) for place, at in enumerate(times)]

    def _why(self, place: int, at: datetime, now: datetime) -> str | None:
        if self.age and now - at > self.age:
            return f"it is older than {spelt(self.age)}"
        return f"there are {place} newer ones and {self.most} are kept" if self.most and place >= self.most else None


@dataclass(frozen=True)
class Rows:
    """Some rows of the store: how many, and roughly how many bytes of the database they take."""

    count: int = 0
    size: int = 0


class StoredRows:
    """The rows of an open store that may go."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def models(self) -> list[str]:
        """Every model that the store has heard of, also those that the settings no longer name."""
        with self._db.read() as conn:
            tables = (DEPLOYMENTS, JOBS, NAMED_VALUES)
            found = {name for table in tables for name in conn.execute(select(table.c.model).distinct()).scalars()}
        return sorted(found - {""})

    def old_predictions(self, model: str, keep: Keep, now: datetime, before: datetime) -> Rows:
        """Predictions over the limit, made before `before`, of examples that are neither labelled nor queued."""
        with self._db.read() as conn:
            end = _end(conn, model, keep, now, before)
            if end is None:
                return Rows()
            embedding = func.sum(func.length(P.embedding) + func.length(P.scores) + func.length(P.context) + 200)
            query = select(func.count(), embedding).where(*_free(model, end))
            count, size = conn.execute(query).one()
            texts = select(func.sum(func.length(E.content) + func.length(E.context) + 100)).where(
                E.model == model, E.id.in_(select(P.example_id).where(*_free(model, end)))
            )
            return Rows(int(count), int(size or 0) + int(conn.execute(texts).scalar() or 0))

    def spared_predictions(self, model: str, keep: Keep, now: datetime, before: datetime) -> dict[str, int]:
        """How many predictions over the limit are kept all the same, by why."""
        with self._db.read() as conn:
            end = _end(conn, model, keep, now, None)
            if end is None:
                return {}
            over = (P.model == model, P.time < end)
            count = select(func.count()).select_from(PREDICTIONS)
            counts = {
                "they are labelled": count.where(*over, _labelled()),
                "their labels are asked for": count.where(*over, _queued(), ~_labelled()),
                "a monitor still looks at them": count.where(*over, P.time >= before, ~_queued(), ~_labelled()),
            }
            found = {why: int(conn.execute(query).scalar_one()) for why, query in counts.items()}
        return {why: number for why, number in found.items() if number}

    def delete_predictions(self, model: str, keep: Keep, now: datetime, before: datetime) -> int:
        """Delete some of `old_predictions`, each with its example once nothing else speaks of that; 0: none is left."""
        with self._db.write() as conn:
            one_at_a_time(conn, "labels", model)  # no label may come for an example that is on its way out
            end = _end(conn, model, keep, now, before)
            if end is None:
                return 0
            rows = conn.execute(select(P.id, P.example_id).where(*_free(model, end)).limit(AT_ONCE)).all()
            conn.execute(delete(PREDICTIONS).where(P.model == model, P.id.in_([row.id for row in rows])))
            named = exists().where(P.model == E.model, P.example_id == E.id)
            ids = sorted({row.example_id for row in rows})
            conn.execute(delete(EXAMPLES).where(E.model == model, E.id.in_(ids), ~named))
        return len(rows)

    def old_waits(self, model: str, age: timedelta, now: datetime) -> Rows:
        """Checks that came to nothing, older than `age`, beyond the first of each hour; looks at a rollout that bring
        no new reason.
        """
        with self._db.read() as conn:
            size = func.sum(func.length(D.because) + func.length(D.evidence) + 100)
            count, bytes_ = conn.execute(
                select(func.count(), size).where(D.seq.in_(_waits(conn, model, now - age)))
            ).one()
            holds = _repeated_holds(conn, model, now - age)
        return Rows(int(count) + len(holds), int(bytes_ or 0) + sum(holds.values()))

    def delete_waits(self, model: str, age: timedelta, now: datetime) -> int:
        """Delete `old_waits`, some at a time; how many went. They are looked for once, while others may write."""
        with self._db.read() as conn:
            found = [*conn.execute(_waits(conn, model, now - age)).scalars(), *_repeated_holds(conn, model, now - age)]
        count = 0
        for some in chunks(found, AT_ONCE):
            with self._db.write() as conn:
                kept = D.id != _told(conn, model)  # the announcer may have come to one of them meanwhile
                ids = conn.execute(select(D.id).where(D.seq.in_(some), kept)).scalars().all()
                conn.execute(delete(DECISIONS).where(D.model == model, D.id.in_(ids)))
                if ids:
                    gone = {audit.ROWS_GONE: [f"decision {id_}" for id_ in ids]}
                    audit.append(conn, model, Deed(audit.SYSTEM, audit.THIN, now), f"{len(ids)} checks", gone)
            count += len(ids)
        return count

    def contents(self, model: str) -> list[Any]:
        """What the examples that are left are of."""
        with self._db.read() as conn:
            return list(conn.execute(select(E.content).where(E.model == model)).scalars())


def _labelled() -> ColumnElement[bool]:
    return exists().where(LABELS.c.model == P.model, LABELS.c.example_id == P.example_id)


def _queued() -> ColumnElement[bool]:
    return exists().where(QUEUE.c.model == P.model, QUEUE.c.example_id == P.example_id)


def _free(model: str, end: datetime) -> tuple[ColumnElement[bool], ...]:
    return (P.model == model, P.time < end, ~_labelled(), ~_queued())


def _end(conn: Connection, model: str, keep: Keep, now: datetime, before: datetime | None) -> datetime | None:
    """Predictions made before this are over the limit (and before `before`); None when none can be."""
    ends = [now - keep.age] if keep.age else []
    if keep.most:
        newest = select(P.time).where(P.model == model).order_by(P.time.desc()).offset(keep.most - 1).limit(1)
        if (last := conn.execute(newest).scalar()) is not None:
            ends.append(last)
    if not ends:
        return None
    return max(ends) if before is None else min(max(ends), before)


def _told(conn: Connection, model: str) -> str:
    """The decision from which the announcer goes on."""
    return (get_value(conn, model, "announced") or {}).get("decision") or ""


def _repeated_holds(conn: Connection, model: str, end: datetime) -> dict[int, int]:
    """Of the looks at a rollout before `end` that held it, by number with their rough bytes, those that may go.

    The first and the last of each rollout stay, and those whose reason is not that of the one before; a reason with
    other numbers is the same.
    """
    told = _told(conn, model)
    held = (D.model == model, D.subject.startswith("rollout "), D.outcome == Outcome.HOLD.value, D.at < end)
    rows = conn.execute(select(D.seq, D.id, D.because, D.evidence).where(*held).order_by(D.seq)).all()
    rollouts: dict[Any, list[Any]] = {}
    for row in rows:
        rollouts.setdefault(row.evidence.get("rollout"), []).append(row)
    return {
        row.seq: len(str(row.because)) + len(str(row.evidence)) + 100
        for looks in rollouts.values()
        for before, row in pairwise(looks[:-1])
        if row.id != told and _without_numbers(row.because) == _without_numbers(before.because)
    }


def _without_numbers(because: Sequence[str]) -> str:
    """A reason without its numbers; how long is a number, too.

    >>> _without_numbers(["baking for 59 seconds of 1 hour"]) == _without_numbers(["baking for 1 minute of 1 hour"])
    True
    """
    return re.sub(rf"{_NUMBER}( {_NUMBER})*", "#", " | ".join(because))


def _waits(conn: Connection, model: str, end: datetime) -> Select[Any]:
    told = _told(conn, model)
    hour = type_coerce(D.at, BigInteger) // HOUR
    turn = func.row_number().over(partition_by=hour, order_by=D.seq)
    ranked = select(D.seq, turn.label("turn")).where(
        D.model == model, D.subject == "trigger", D.outcome == Outcome.WAIT.value, D.at < end
    )
    inner = ranked.subquery()
    return select(D.seq).where(D.seq.in_(select(inner.c.seq).where(inner.c.turn > 1)), D.id != told)
