"""Is the audit chain whole, and is what it tells of still as it says? Streams both, a page at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, func, select

from keepfit.data import audit
from keepfit.data.audit import KINDS, PAGE, ROW, ROW_GONE, ROW_SHA256, Kind
from keepfit.data.chain import BEGIN, AuditEntry, Flaw, Head, broken_links, digest, moved
from keepfit.data.schema import AUDIT
from keepfit.telling import Progress

MOST = 1000
"""So many flaws are kept; the others are counted."""


@dataclass(frozen=True)
class Inspection:
    """What was found."""

    entries: int
    head: Head | None
    flaws: tuple[Flaw, ...]
    """In the order of the chain, then those of rows; the first MOST."""
    count: int
    """Of all flaws."""
    before: Mapping[str, int] = field(default_factory=dict)
    """Rows by kind that are older than the chain: nothing vouches for them."""

    @property
    def whole(self) -> bool:
        """Nothing is wrong."""
        return self.count == 0

    @property
    def first_broken(self) -> int | None:
        """The number of the first entry at which the chain itself is broken."""
        chain = [
            f.seq for f in self.flaws if f.seq is not None and f.kind in {"edited", "moved", "removed", "relinked"}
        ]
        return min(chain, default=None)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "whole": self.whole, "entries": self.entries, "head": None if self.head is None else str(self.head),
            "first_broken": self.first_broken, "flaws": [flaw.to_json() for flaw in self.flaws], "count": self.count,
            "before_the_chain": dict(self.before),
        }  # fmt: skip


class Inspector:
    """One inspection, on a connection that sees one state of the database."""

    def __init__(self, conn: Connection, progress: Progress) -> None:
        self._conn, self._progress = conn, progress
        self._flaws: list[Flaw] = []
        self._misfits: list[AuditEntry] = []
        self._count = self._done = self._entries = 0
        self._first: AuditEntry | None = None
        self._head: Head | None = None
        self._gone = set(audit.thinned_out(conn))
        self._before: dict[str, int] = {}
        counts = [select(func.count()).select_from(table) for table in (AUDIT, *(k.table for k in KINDS.values()))]
        self._total = sum(int(conn.execute(count).scalar_one()) for count in counts)

    def run(self, head: Head | None) -> Inspection:
        """Everything; `head` is one that was kept elsewhere."""
        for flaw, entry in broken_links(self._walk()):
            self._add(flaw)
            if flaw.kind == "edited" and len(self._misfits) < MOST:
                self._misfits.append(entry)
        self._name_moved()
        if self._head is None:
            self._add(Flaw("cut", None, "audit", "the chain is empty: every entry was removed"))
        if head is not None and not self._holds(head):
            sentence = f"entry {head.seq} with that hash is no longer in the chain: its end was cut off, or all was"
            self._add(Flaw("cut", head.seq, f"entry {head.seq}", f"{sentence} written anew"))
        for name, kind in KINDS.items():
            self._compare(name, kind)
        return Inspection(self._entries, self._head, tuple(self._flaws), self._count, self._before)

    def _add(self, flaw: Flaw) -> None:
        self._count += 1
        if len(self._flaws) < MOST:
            self._flaws.append(flaw)

    def _step(self, done: int) -> None:
        self._done += done
        self._progress(self._done, self._total)

    def _walk(self) -> Iterator[AuditEntry]:
        for page in audit.stream(self._conn):
            self._first = self._first or page[0]
            self._head = page[-1].head
            self._entries += len(page)
            yield from page
            for name, kind in KINDS.items():
                self._look_for_gone(name, kind, page)
            self._step(len(page))

    def _name_moved(self) -> None:
        """What was only put in another's place was not edited."""
        places = moved(self._misfits)
        self._flaws = [
            replace(flaw, kind="moved", sentence=f"{flaw.subject} stands in another's place: it was {places[flaw.seq]}")
            if flaw.kind == "edited" and flaw.seq in places
            else flaw
            for flaw in self._flaws
        ]

    def _holds(self, head: Head) -> bool:
        found = self._conn.execute(select(AUDIT.c.hash).where(AUDIT.c.seq == head.seq)).scalar()
        return found == head.hash

    def _look_for_gone(self, name: str, kind: Kind, page: list[AuditEntry]) -> None:
        """Rows that the chain tells of and that are not there any more."""
        told = {e.subject: e for e in page if e.subject.startswith(f"{name} ") and audit.says_state(e)}
        keys = {subject.removeprefix(f"{name} ") for subject in told}
        if name == "deployment":
            numbers = [int(key) for key in keys if key.isdecimal()]
            there = {str(n) for n in self._conn.execute(select(kind.key).where(kind.key.in_(numbers))).scalars()}
        else:
            there = set(self._conn.execute(select(kind.key).where(kind.key.in_(sorted(keys)))).scalars())
        lost = {f"{name} {key}" for key in keys - there} - self._gone
        last = audit.states(self._conn, lost) if lost else {}
        for subject in sorted(lost):
            if not last[subject].details.get(ROW_GONE):
                self._gone.add(subject)
                sentence = f"{subject} is gone from the store; entry {told[subject].seq} of the chain tells of it"
                self._add(Flaw("gone", told[subject].seq, subject, sentence))

    def _compare(self, name: str, kind: Kind) -> None:
        """Every stored row with the last entry about it."""
        before = self._existed(name)
        last = None
        while True:
            query = audit.as_stored(kind.table).order_by(kind.order).limit(PAGE)
            page = self._conn.execute(query if last is None else query.where(kind.order > last)).all()
            if not page:
                return
            rows = [audit.state_of(kind.table, row) for row in page]
            subjects = {f"{name} {row[kind.key.name]}": row for row in rows}
            told = audit.states(self._conn, subjects)
            for subject, row in subjects.items():
                if subject in told:
                    self._check(subject, row, told[subject])
                elif before(row[kind.order.name]):
                    self._before[name] = self._before.get(name, 0) + 1
                else:
                    sentence = f"{subject} is in the store, but the chain does not tell of it: it was put there by hand"
                    self._add(Flaw("unchained", None, subject, sentence))
            last = rows[-1][kind.order.name]
            self._step(len(page))

    def _existed(self, name: str) -> Callable[[Any], bool]:
        """Whether a row is older than the chain, by what its first entry says."""
        first = self._first
        told = first.details.get("before", {}) if first is not None and first.action == BEGIN else {}
        mark = told.get(name)
        if isinstance(mark, list):
            names = frozenset(mark)
            return lambda value: value in names
        return lambda value: isinstance(mark, int) and value <= mark

    def _check(self, subject: str, state: Mapping[str, Any], entry: AuditEntry) -> None:
        if entry.details.get(ROW_GONE):
            words = f"{subject} was taken away by {entry.actor} and is there again"
        elif (row := entry.details.get(ROW)) is not None:
            wrong = sorted(name for name in {*row, *state} if row.get(name) != state.get(name))
            words = f"{subject} is not as entry {entry.seq} says: {', '.join(wrong)} was changed" if wrong else ""
        else:
            same = entry.details.get(ROW_SHA256) == digest(state)
            words = "" if same else f"{subject} is not as entry {entry.seq} says: its stored row was changed"
        if words:
            self._add(Flaw("changed", entry.seq, subject, words))


def inspect(conn: Connection, head: Head | None = None, progress: Progress = lambda done, total: None) -> Inspection:
    """The whole chain, and every deployment, decision and token that it tells of."""
    if conn.dialect.name == "postgresql":
        conn.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")  # what is written meanwhile is no flaw
    return Inspector(conn, progress).run(head)
