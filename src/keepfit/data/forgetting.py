"""Forgetting: which rows of the store are about one example or one key, and their removal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Table, delete, func, or_, select, text, type_coerce, update
from sqlalchemy.types import Text

from keepfit.data import audit
from keepfit.data.audit import KINDS, Deed
from keepfit.data.database import Database, chunks, one_at_a_time
from keepfit.data.history import get_value, put_value
from keepfit.data.needles import SHORTEST_TEXT, Needles
from keepfit.data.schema import (
    DECISIONS,
    DEPLOYMENTS,
    EVENTS,
    EXAMPLES,
    FAILURES,
    JOBS,
    LABELS,
    METADATA,
    NAMED_VALUES,
    PREDICTIONS,
    QUEUE,
)
from keepfit.data.splits import parts_of

E = EXAMPLES.c
P = PREDICTIONS.c
CHUNK = 300
ABOUT = (E.id, P.example_id, LABELS.c.example_id, QUEUE.c.example_id)
"""Where the rows about an example name it: examples, predictions, labels, the queue."""
QUOTING: tuple[tuple[Table, tuple[str, ...]], ...] = (
    (DECISIONS, ("subject", "because", "evidence")),
    (EVENTS, ("details",)),
    (JOBS, ("request", "result")),
    (DEPLOYMENTS, ("reason",)),
    (FAILURES, ("message",)),
    (NAMED_VALUES, ("value",)),
)
"""Tables whose rows stay, and their columns that may quote a text or a name."""

TOLD = {kind.table.name: name for name, kind in KINDS.items()}
"""Tables whose rows the audit chain holds to what it was told."""

Source = Callable[[str], str | None]
"""The stored file that a content is a part of; None where the content is the thing itself."""


@dataclass(frozen=True)
class Person:
    """Whom to forget: one example by its own id or a prediction's, or all of a key."""

    id: str | None = None
    key: str | None = None

    def named(self, id_: str, key: str | None) -> bool:
        """Whether a row of this id and key is theirs."""
        return key == self.key if self.key is not None else id_ == self.id


@dataclass(frozen=True)
class Traces:
    """What is known of a person: enough to find everything else that is theirs."""

    person: Person
    ids: frozenset[str] = frozenset()
    """Of examples and predictions."""
    texts: frozenset[str] = frozenset()
    """The columns of their contents."""
    contents: frozenset[Any] = frozenset()
    """Their contents as they are."""
    sources: frozenset[str] = frozenset()
    """Stored files that their contents are parts of."""

    def __or__(self, other: Traces) -> Traces:
        return Traces(
            self.person, self.ids | other.ids, self.texts | other.texts, self.contents | other.contents,
            self.sources | other.sources,
        )  # fmt: skip

    @classmethod
    def of(cls, person: Person, ids: Iterable[str], contents: Iterable[Any], source: Source) -> Traces:
        """What these contents and ids tell."""
        kept = frozenset(contents)
        files = {content: source(content) for content in kept if isinstance(content, str)}
        texts = {part for content in kept if files.get(content) is None for part in parts_of(content)}
        sources = frozenset(file for file in files.values() if file is not None)
        return cls(person, frozenset(ids), frozenset(p for p in texts if isinstance(p, str)), kept, sources)

    def holds(self, content: Any, source: Source) -> bool:
        """Whether a row of this content goes, whoever's it is: the same text, if it is long enough to tell a person."""
        if isinstance(content, str) and (file := source(content)) is not None:
            return file in self.sources
        return content in self.contents and any(len(part) >= SHORTEST_TEXT for part in parts_of(content))

    def needles(self) -> Needles:
        """What must not be found afterwards."""
        key = () if self.person.key is None else (self.person.key,)
        return Needles({*self.ids, *key, *self.sources}, self.texts)


@dataclass(frozen=True)
class Counts:
    """How many rows of each table went, or were changed."""

    examples: int = 0
    predictions: int = 0
    labels: int = 0
    queued: int = 0
    quoting: int = field(default=0)
    """Rows of other tables from which a quotation was taken."""

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.examples + other.examples, self.predictions + other.predictions, self.labels + other.labels,
            self.queued + other.queued, self.quoting + other.quoting,
        )  # fmt: skip


class StoredTraces:
    """What an open store knows of people, of every model."""

    def __init__(self, database: Database, source: Source = lambda content: None) -> None:
        self._db, self._source = database, source

    def find(self, person: Person) -> Traces:
        """The ids and contents of the examples of this person."""
        names = set() if person.id is None else {person.id}
        contents = []
        with self._db.read() as conn:
            for model, some in _by_model(_examples_of(conn, person)):
                names.update(some)
                made = select(P.id).where(P.model == model, P.example_id.in_(some))
                names.update(conn.execute(made).scalars())
                found = conn.execute(select(E.content).where(E.model == model, E.id.in_(some))).scalars()
                contents += [_content(each) for each in found]
        return Traces.of(person, names, contents, self._source)

    def examples(self, traces: Traces) -> list[tuple[str, str]]:
        """(model, id) of every example that goes: theirs, and others of the same text or the same stored file."""
        with self._db.read() as conn:
            found = set(_examples_of(conn, traces.person))
            for some in chunks((c for c in traces.contents if traces.holds(c, self._source)), CHUNK):
                rows = conn.execute(select(E.model, E.id).where(E.content.in_(some)))
                found.update((row.model, row.id) for row in rows)
            for file in sorted(traces.sources):
                begins = func.substr(type_coerce(E.content, Text), 2, len(file) + 1) == f"{file}#"
                found.update((row.model, row.id) for row in conn.execute(select(E.model, E.id).where(begins)))
        return sorted(found)

    def remove(self, examples: Sequence[tuple[str, str]]) -> Counts:
        """Delete examples with all that was said of them, some at a time; what is gone already is passed over."""
        total = Counts()
        for model, some in _by_model(examples):
            with self._db.write() as conn:
                self._wipe(conn)
                one_at_a_time(conn, "labels", model)
                gone = [conn.execute(delete(c.table).where(c.table.c.model == model, c.in_(some))) for c in ABOUT]
            total += Counts(*(result.rowcount for result in gone))
        return total

    def count(self, examples: Sequence[tuple[str, str]]) -> Counts:
        """What `remove` would delete."""
        total = Counts()
        with self._db.read() as conn:
            for model, some in _by_model(examples):
                queries = [
                    select(func.count()).select_from(c.table).where(c.table.c.model == model, c.in_(some))
                    for c in ABOUT
                ]
                total += Counts(*(int(conn.execute(query).scalar_one()) for query in queries))
        return total

    def changed_forms(self, needles: Needles) -> set[str]:
        """What behaviour checks made of the texts, as decisions quote it."""
        with self._db.read() as conn:
            evidence = conn.execute(select(DECISIONS.c.evidence)).scalars()
            return {form for each in evidence for form in needles.changed_forms(each)}

    def quoting(self, needles: Needles, at: datetime | None = None) -> int:
        """Take quotations out of the rows that stay, and tell the audit so (only count them without a time).

        Returns how many rows had one.
        """
        found = 0
        for table, columns in QUOTING:
            with self._db.read() as conn:
                query = select(*table.primary_key, *(table.c[name] for name in columns))
                rows = [row for row in conn.execute(query) if _scrubbed(row, columns, needles)]
            found += len(rows)
            for row in rows if at is not None else ():
                with self._db.write() as conn:
                    self._wipe(conn)
                    same = [column == getattr(row, column.name) for column in table.primary_key]
                    conn.execute(update(table).where(*same).values(**_scrubbed(row, columns, needles)))
                    if at is not None and (kind := TOLD.get(table.name)) is not None:
                        key = conn.execute(select(KINDS[kind].key).where(*same)).scalar_one()
                        audit.tell(conn, kind, key, Deed(audit.SYSTEM, "forget", at), whole=kind == "deployment")
        return found

    def rename(self, old: str, new: str) -> None:
        """A snapshot has another id now: values that name it follow, such as what the next retraining starts from."""
        value = NAMED_VALUES.c
        with self._db.write() as conn:
            for row in conn.execute(select(value.model, value.name, value.value)).all():
                if (changed := _renamed(row.value, old, new)) != row.value:
                    here = (value.model == row.model, value.name == row.name)
                    conn.execute(update(NAMED_VALUES).where(*here).values(value=changed))

    def unmark(self, models: Iterable[str]) -> None:
        """Which texts were labelled on which day goes: parts of their hashes, by which harm counts each once a day."""
        for model in models:
            with self._db.write() as conn:
                self._wipe(conn)
                value = get_value(conn, model, "harm")
                if isinstance(value, dict) and value.get("days"):
                    put_value(conn, model, "harm", {**value, "days": {}})

    def tidy(self) -> None:
        """Let PostgreSQL use the room of deleted rows again (SQLite files are vacuumed as files)."""
        if self._db.path is not None:
            return
        with self._db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
            for name in METADATA.tables:
                conn.execute(text(f'VACUUM "{name}"'))

    def _wipe(self, conn: Connection) -> None:
        if self._db.path is not None:
            conn.exec_driver_sql("PRAGMA secure_delete=ON")


def _examples_of(conn: Connection, person: Person) -> list[tuple[str, str]]:
    """(model, id) of the examples."""
    if person.key is not None:
        queries = [select(E.model, E.id).where(E.key == person.key)]
        queries.append(select(P.model, P.example_id).where(P.key == person.key))
    else:
        queries = [select(E.model, E.id).where(E.id == person.id)]
        queries.append(select(P.model, P.example_id).where(or_(P.id == person.id, P.example_id == person.id)))
    return sorted({(model, id_) for query in queries for model, id_ in conn.execute(query)})


def _by_model(examples: Iterable[tuple[str, str]]) -> Iterator[tuple[str, list[str]]]:
    for model, pairs in groupby(sorted(examples), key=itemgetter(0)):
        for some in chunks((id_ for _, id_ in pairs), CHUNK):
            yield model, some


def _content(stored: Any) -> Any:
    return tuple(stored) if isinstance(stored, list) else stored


def _scrubbed(row: Any, columns: Sequence[str], needles: Needles) -> dict[str, Any]:
    """The columns that must change, with their new values."""
    values = {name: getattr(row, name) for name in columns}
    return {name: new for name, value in values.items() if (new := needles.scrubbed(value)) != value}


def _renamed(value: Any, old: str, new: str) -> Any:
    if isinstance(value, dict):
        return {name: _renamed(each, old, new) for name, each in value.items()}
    if isinstance(value, list):
        return [_renamed(each, old, new) for each in value]
    return new if value == old else value
