"""A consistent copy of a database that is in use, as an SQLite file; and rows from one database into another.

SQLite is copied by its online backup within one read transaction, PostgreSQL by reading every table in one
repeatable-read transaction: in both cases others go on writing, and the copy shows one moment.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Connection, Engine, MetaData, Table, column, create_engine, func, insert, select, text

from keepfit.data.database import said
from keepfit.errors import BackendError, InvalidInput

Progress = Callable[[int, int], None]
"""Called with (done, of)."""
PAGES = 2000
"""Pages of SQLite between two words of progress."""
ROWS = 2000
"""Rows in memory at once."""


def copy_sqlite(source: Path, target: Path, progress: Progress = lambda done, of: None) -> None:
    """Copy a database file that others may be writing to. Raises BackendError when it is damaged or cannot be read.

    The transaction that stays open meanwhile is what keeps SQLite from beginning anew at each write of others.
    """
    with said(str(source)):
        target.unlink(missing_ok=True)
        with (
            closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True, isolation_level=None, timeout=10)) as there,
            closing(sqlite3.connect(target, isolation_level=None)) as here,
        ):
            there.execute("BEGIN")
            there.execute("SELECT count(*) FROM sqlite_master").fetchone()  # the moment that the copy shows
            there.backup(here, pages=PAGES, progress=lambda status, left, total: progress(total - left, total))
            here.execute("PRAGMA journal_mode=DELETE")  # the copy is one file
            check_whole(here, source)


def check_whole(connection: sqlite3.Connection, name: Path | str) -> None:
    """Raises BackendError for a damaged file."""
    found = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found is None or found[0] != "ok":
        raise BackendError(f"The database {name} is damaged ({found and found[0]}); restore a backup.")


@contextmanager
def one_moment(engine: Engine) -> Iterator[Connection]:
    """A transaction that sees one state of a PostgreSQL database, whatever others write meanwhile."""
    line = engine.connect().execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    with line as conn, conn.begin():
        conn.execute(text("SELECT 1"))  # the moment
        yield conn


def tables(
    conn: Connection, wanted: Callable[[str], bool] = lambda name: True, schema: str | None = None
) -> list[Table]:
    """The tables of a database as they are, by name; those that others refer to come first."""
    found = MetaData()
    found.reflect(conn, schema=schema, only=lambda name, _: wanted(name))
    return [table for table in found.sorted_tables if wanted(table.name)]


def copy_rows(
    source: Connection, there: Sequence[Table], target: Connection, here: Sequence[Table],
    progress: Progress = lambda done, of: None,
) -> int:  # fmt: skip
    """Copy every row, by the names of tables and columns; how many. Numbers that count by themselves go on after it.

    Raises InvalidInput when the target has no place for a table or column.
    """
    places, total, done = {table.name: table for table in here}, counted(source, there), 0
    for table in there:
        if not counted(source, [table]):
            continue
        place = places.get(table.name)
        lost = {c.name for c in table.columns} - ({c.name for c in place.columns} if place is not None else set())
        if place is None or lost:
            what = f"table {table.name}" if place is None else f"column {table.name}.{min(lost)}"
            raise InvalidInput(f"this installation's database has no {what}; install the release that made the backup")
        for chunk in source.execution_options(yield_per=ROWS).execute(select(table)).mappings().partitions(ROWS):
            target.execute(insert(place), [fitting(dict(row), place) for row in chunk])
            done += len(chunk)
            progress(done, total)
    if target.dialect.name == "postgresql":
        count_on(target, here)
    return done


def fitting(row: Mapping[str, Any], place: Table) -> dict[str, Any]:
    """A row as the other database takes it: what is JSON here may be a text there."""
    return {name: _fitting(value, isinstance(place.c[name].type, JSON)) for name, value in row.items()}


def _fitting(value: Any, to_json: bool) -> Any:
    if to_json:
        return json.loads(value) if isinstance(value, str) else value
    return json.dumps(value) if isinstance(value, dict | list) else value


def counted(conn: Connection, some: Iterable[Table]) -> int:
    """Rows of tables."""
    return sum(int(conn.execute(select(func.count()).select_from(table)).scalar_one()) for table in some)


def count_on(conn: Connection, some: Iterable[Table]) -> None:
    """PostgreSQL's counters know nothing of numbers that were given to them."""
    for table in some:
        named = table.name if table.schema is None else f"{table.schema}.{table.name}"
        for each in table.primary_key:
            sequence = conn.execute(select(func.pg_get_serial_sequence(named, each.name))).scalar()
            if sequence is not None:
                top = conn.execute(select(func.max(column(each.name))).select_from(table)).scalar() or 0
                conn.execute(select(func.setval(sequence, max(int(top), 1), bool(top))))


def empty(conn: Connection, some: Sequence[Table]) -> None:
    """Delete every row, those that refer to others first."""
    for table in reversed(some):
        conn.execute(table.delete())


def plain_engine(path: Path) -> Engine:
    """An SQLite file that nobody else uses; whoever reads it need not fear half of a write."""
    return create_engine(f"sqlite:///{path}", hide_parameters=True)


def moved(path: Path, old: str, new: str) -> int:
    """In every text of a database file, let what begins with the folder `old` begin with `new`; how many texts."""
    changed = 0
    with closing(sqlite3.connect(path)) as conn, conn:
        names = [name for (name,) in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for name in (name for name in names if not name.startswith("sqlite_")):
            for _, column_name, kind, *_ in conn.execute(f'PRAGMA table_info("{name}")').fetchall():
                if not str(kind).upper().startswith(("VARCHAR", "TEXT", "CHAR")):
                    continue
                for before, after in ((old, new), (f"file://{old}", f"file://{new}")):
                    exact = f'("{column_name}" = ? OR substr("{column_name}", 1, ?) = ?)'
                    changed += conn.execute(
                        f'UPDATE "{name}" SET "{column_name}" = ? || substr("{column_name}", ?) WHERE {exact}',
                        (after, len(before) + 1, before, len(before) + 1, f"{before}/"),
                    ).rowcount
    return changed
