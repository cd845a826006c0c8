"""The audit chain in the store: each change appends an entry in its own transaction, sealed with the one before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Column, Connection, Select, Table, TypeDecorator, func, insert, select, type_coerce
from sqlalchemy.engine.default import DefaultDialect

from keepfit.data.chain import BEGIN, AuditEntry, digest
from keepfit.data.database import Database, insert_or_replace, one_at_a_time
from keepfit.data.schema import AUDIT, DECISIONS, DEPLOYMENTS, NAMED_VALUES, TOKENS
from keepfit.data.stored_types import EPOCH, plain

A = AUDIT.c
BEGAN = "audit_began"
"""Under this name the store remembers that a chain was begun, so that one that is emptied is not begun anew."""
SYSTEM = "keepfit"
"""The actor of what keepfit does by itself."""
THIN, ROWS_GONE = "thin out", "rows_gone"
"""The action of an entry that names, in its details, many rows that were deleted on purpose."""

ROW, ROW_SHA256, ROW_GONE = "row", "row_sha256", "row_gone"
"""In an entry's details: the whole row of its subject, or the row's hash, or that the row was taken away on purpose.

The last entry that says one of these about a subject is what the stored row is held to.
"""
PAGE = 500
_DIALECT = DefaultDialect()


@dataclass(frozen=True)
class Kind:
    """A table whose rows the chain tells of."""

    table: Table
    key: Column[Any]
    """What names a row, after the kind's name, in the subject of an entry."""
    order: Column[Any]
    """Unique and rising, to read the table in pages."""


KINDS: Mapping[str, Kind] = {
    "deployment": Kind(DEPLOYMENTS, DEPLOYMENTS.c.id, DEPLOYMENTS.c.id),
    "decision": Kind(DECISIONS, DECISIONS.c.id, DECISIONS.c.seq),
    "token": Kind(TOKENS, TOKENS.c.name, TOKENS.c.name),
}


@dataclass(frozen=True)
class Deed:
    """Who did what, and when."""

    actor: str
    action: str
    at: datetime


def begin(database: Database, at: datetime) -> None:
    """Begins the chain of a database that has none, by saying which rows were there before it."""
    with database.read() as conn:
        if _began(conn):
            return
    with database.write() as conn:
        one_at_a_time(conn, "audit", "")
        if not _began(conn):
            last = {name: conn.execute(select(func.max(kind.order))).scalar() for name, kind in KINDS.items()}
            names = conn.execute(select(TOKENS.c.name).order_by(TOKENS.c.name)).scalars().all()
            before = {"deployment": last["deployment"] or 0, "decision": last["decision"] or 0, "token": list(names)}
            append(conn, "", Deed(SYSTEM, BEGIN, at), "audit", {"before": before})
            insert_or_replace(conn, NAMED_VALUES, {"model": "", "name": BEGAN, "value": at})


def _began(conn: Connection) -> bool:
    n = NAMED_VALUES.c
    return conn.execute(select(n.name).where(n.model == "", n.name == BEGAN)).first() is not None


def append(conn: Connection, model: str, deed: Deed, subject: str, details: Mapping[str, Any]) -> AuditEntry:
    """Appends an entry. Let it be the last that a transaction does, since all others wait from here to its end."""
    one_at_a_time(conn, "audit", "")
    last = conn.execute(select(A.seq, A.hash).order_by(A.seq.desc()).limit(1)).first()
    seq, previous = (1, "") if last is None else (last.seq + 1, last.hash)
    entry = AuditEntry(seq, model, deed.at, deed.actor, deed.action, subject, plain(details), previous).sealed()
    conn.execute(insert(AUDIT), {column.name: getattr(entry, column.name) for column in AUDIT.columns})
    return entry


def tell(
    conn: Connection, kind: str, key: Any, deed: Deed, details: Mapping[str, Any] | None = None, whole: bool = False
) -> AuditEntry:
    """Appends an entry about a stored row as it is now: its hash, or all of it. `verify` holds the row to it.

    Call it after every change of a deployment, decision or token, in the same transaction.
    """
    table = KINDS[kind].table
    row = conn.execute(as_stored(table).where(KINDS[kind].key == key)).one()
    now = state_of(table, row)
    state = {ROW: now} if whole else {ROW_SHA256: digest(now)}
    return append(conn, row.model or "", deed, f"{kind} {key}", {**(details or {}), **state})


def thinned_out(conn: Connection) -> Iterator[str]:
    """The subjects that entries of THIN name; what is no list of words says nothing, and shows as edited elsewhere."""
    query = as_stored(AUDIT).where(A.action == THIN).execution_options(stream_results=True)
    for row in conn.execute(query):
        details = _value(AUDIT.c.details, row.details)
        named = details.get(ROWS_GONE, ()) if isinstance(details, Mapping) else ()
        yield from (str(subject) for subject in named) if isinstance(named, list) else ()


@cache
def as_stored(table: Table) -> Select[Any]:
    """Rows as the database holds them: what was edited by hand may be nothing that can be read any more."""
    return select(
        *(
            type_coerce(column, column.type.impl_instance).label(column.name)
            if isinstance(column.type, TypeDecorator)
            else column
            for column in table.columns
        )
    )


def state_of(table: Table, row: Sequence[Any]) -> dict[str, Any]:
    """A row as plain values without the empty ones, so that a column of a later release changes no old hash."""
    named = zip(table.columns, row, strict=True)
    return {column.name: plain(_value(column, value)) for column, value in named if value is not None}


def _value(column: Column[Any], value: Any) -> Any:
    """What a stored value means; of what cannot be read the value itself."""
    if not isinstance(column.type, TypeDecorator):
        return value
    try:
        return column.type.process_result_value(value, _DIALECT)
    except (ValueError, TypeError, OverflowError):
        return {"unreadable": str(value)}


def _entry(row: Sequence[Any]) -> AuditEntry:
    seq, model, at, actor, action, subject, details, previous, hash_ = map(_value, AUDIT.columns, row)
    return AuditEntry(
        seq, str(model), at if isinstance(at, datetime) else EPOCH, str(actor), str(action), str(subject),
        details if isinstance(details, dict) else {"unreadable": str(details)}, str(previous), str(hash_),
    )  # fmt: skip


def entries(conn: Connection, model: str | None, limit: int, before: int | None = None) -> list[AuditEntry]:
    """Newest first; `before` is a number, for the next page. A model's own only, where one is named."""
    query = as_stored(AUDIT)
    if model is not None:
        query = query.where(A.model == model)
    if before is not None:
        query = query.where(A.seq < before)
    return [_entry(row) for row in conn.execute(query.order_by(A.seq.desc()).limit(limit))]


def stream(conn: Connection) -> Iterator[list[AuditEntry]]:
    """The whole chain from its first entry, a page at a time."""
    last = -(2**62)  # a forged number may be negative
    while page := conn.execute(as_stored(AUDIT).where(A.seq > last).order_by(A.seq).limit(PAGE)).all():
        yield [_entry(row) for row in page]
        last = page[-1].seq


def states(conn: Connection, subjects: Iterable[str]) -> dict[str, AuditEntry]:
    """Of each subject the last entry that says what its row holds."""
    wanted = list(subjects)
    query = as_stored(AUDIT).where(A.subject.in_(wanted)).order_by(A.seq)
    found = map(_entry, conn.execute(query))
    return {entry.subject: entry for entry in found if says_state(entry)}


def says_state(entry: AuditEntry) -> bool:
    """Whether a stored row is held to it."""
    return not {ROW, ROW_SHA256, ROW_GONE}.isdisjoint(entry.details)
