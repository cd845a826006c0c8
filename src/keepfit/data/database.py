"""The database under the record store: opening it, transactions, and its errors as sentences."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    QueuePool,
    Table,
    and_,
    create_engine,
    event,
    func,
    make_url,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError, StatementError

from keepfit.data import upgrading
from keepfit.data.schema import NAMED_VALUES
from keepfit.errors import BackendError, InvalidInput, SettingsError
from keepfit.redaction import redacted

T = TypeVar("T")
IN_LIST = 1000
"""Values in one IN list; databases limit them."""
_PATIENCE = 10.0  # seconds to wait for another writer, unless the URL says ?timeout=
_LEAST_SPACE = 1 << 20  # bytes that must be free for a store to count as writable
_SENTENCES = (
    (r"(database|table) is locked|lock timeout", "is locked by another program; try again, or stop what holds it"),
    (r"disk is full|no space left|could not extend file", "has no space left on its disk; free some and try again"),
    (r"unable to open|no such file", "cannot be opened; check that its folder exists and may be written"),
    (r"readonly|read-only|permission denied", "may not be written; check its permissions"),
    (r"malformed|not a database|file is encrypted", "is damaged or no keepfit database; restore a backup"),
    (r"disk i/o error", "cannot be read or written (disk error); check the disk"),
    (r"no such table|relation .* does not exist", "lacks its tables; restart keepfit, which makes them"),
    (r"connect|server closed|terminat|timeout", "does not answer; check that it runs and that the URL is right"),
)


@dataclass(frozen=True)
class Database:
    """Engine and place of an open database; safe to use from many threads."""

    engine: Engine
    name: str
    """For people: the file, or the URL without its password."""
    path: Path | None = None
    """The file (SQLite only)."""
    inode: int = 0

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state. Raises BackendError."""
        self._check_file()
        with said(self.name), self.engine.connect() as conn, conn.begin():
            yield conn

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is durable when the block ends and undone when it raises. Raises BackendError."""
        self._check_file()
        with said(self.name), self.engine.execution_options(keepfit_writes=True).connect() as conn, conn.begin():
            yield conn

    def check_writable(self) -> None:
        """Writes and takes it back. Raises BackendError."""
        with self.write() as conn:
            insert_or_replace(conn, NAMED_VALUES, {"model": "", "name": "writable", "value": True})
            conn.rollback()
        if self.path is not None and shutil.disk_usage(self.path.parent).free < _LEAST_SPACE:
            raise BackendError(f"The database {self.name} has no space left on its disk; free some and try again.")

    def _check_file(self) -> None:
        # SQLite would go on writing into a file that was deleted or replaced, and everything would be lost.
        if self.path is None:
            return
        try:
            same = os.stat(self.path).st_ino == self.inode
        except OSError as error:
            raise BackendError(f"The database {self.name} is gone; restore a backup and restart keepfit.") from error
        if not same:
            raise BackendError(f"The database {self.name} was replaced while in use; restart keepfit.")


@contextmanager
def said(name: str) -> Iterator[None]:
    """Turns the database's own errors into BackendError with a sentence."""
    try:
        yield
    except StatementError as error:
        if error.orig is not None and not isinstance(error, DBAPIError):
            raise error.orig from error  # a value that cannot be stored: not the database's fault
        if "index row" in str(error):  # PostgreSQL indexes at most 2,704 bytes
            raise InvalidInput("An id, key, group or name is too long; use at most 1,000 characters.") from error
        raise BackendError(f"The database {name} {_sentence(str(error))}.") from error
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise BackendError(f"The database {name} {_sentence(str(error))}.") from error


def _sentence(text: str) -> str:
    first = text.split("\n[SQL:", maxsplit=1)[0]
    for pattern, sentence in _SENTENCES:
        if re.search(pattern, first, re.IGNORECASE):
            return sentence
    return f"refused: {' '.join(first.split())[:300]}"


def open_database(url: str) -> Database:
    """Opens, and creates or upgrades, the database at a URL.

    `sqlite:///FILE` (with `?timeout=SECONDS` to wait for other writers, 10 unless said) or `postgresql://...`.
    Raises SettingsError for a URL that cannot be meant, BackendError when the database cannot be opened, is damaged
    or was made by a newer keepfit.
    """
    parsed = _parse(url)
    database = _open_sqlite(parsed) if parsed.get_backend_name() == "sqlite" else _open_postgresql(parsed)
    try:
        with database.read() as conn:
            current = upgrading.is_current(conn)
        if not current:
            with database.write() as conn:
                one_at_a_time(conn, "schema", "")
                upgrading.migrate(conn)
    except BaseException:
        database.engine.dispose()
        raise
    return database


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise SettingsError("The database URL cannot be read; write sqlite:///FILE or postgresql://...") from error
    backend = parsed.get_backend_name()
    if backend not in {"sqlite", "postgresql", "postgres"}:
        raise SettingsError(f"The database {backend!r} is not supported; write sqlite:///FILE or postgresql://...")
    if backend == "sqlite" and parsed.database in {None, "", ":memory:"}:
        raise SettingsError("A database in memory would be lost at the end; write sqlite:///FILE.")
    return parsed


def _open_sqlite(url: URL) -> Database:
    path = Path(str(url.database)).absolute()
    patience = _patience(url)
    with said(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        _switch_to_wal(path, patience)
        inode = os.stat(path).st_ino
    place = f"file:{quote(str(path))}?mode=rw"  # never creates the file anew after it was deleted

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(place, uri=True, timeout=patience, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA synchronous=FULL")  # durable when it returns, also when the power fails
        connection.execute("PRAGMA cache_size=-32000")  # KiB: random ids touch pages all over the indexes
        return connection

    engine = create_engine(
        "sqlite://", creator=connect, poolclass=QueuePool, pool_size=8, max_overflow=120, hide_parameters=True
    )
    event.listen(engine, "begin", _begin)
    return Database(engine, str(path), path, inode)


def _patience(url: URL) -> float:
    if unknown := set(url.query) - {"timeout"}:
        raise SettingsError(f"The database URL has an unknown option {min(unknown)!r}; only timeout=SECONDS is known.")
    try:
        return float(str(url.query.get("timeout", _PATIENCE)))
    except ValueError as error:
        raise SettingsError("The timeout in the database URL is no number; write ?timeout=10.") from error


def _switch_to_wal(path: Path, patience: float) -> None:
    # SQLite does not wait for other openers here, however long its timeout, so we do.
    deadline = time.monotonic() + patience
    with closing(sqlite3.connect(path, timeout=patience)) as connection:
        while True:
            try:
                connection.execute("PRAGMA journal_mode=WAL")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                return


def _begin(conn: Connection) -> None:
    # IMMEDIATE: a transaction that reads before it writes would otherwise fail when another one wrote in between.
    writes = conn.get_execution_options().get("keepfit_writes", False)
    conn.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _open_postgresql(url: URL) -> Database:
    name = redacted(url.render_as_string(hide_password=True))
    try:
        engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_pre_ping=True,
            pool_size=8,
            max_overflow=24,
            hide_parameters=True,
            connect_args=_patient(url),
        )
    except ModuleNotFoundError as error:
        raise SettingsError('PostgreSQL needs psycopg: run pip install "keepfit[postgres]".') from error
    return Database(engine, name)


def _patient(url: URL) -> dict[str, Any]:
    """As on SQLite nobody waits for another's lock, or for a server that is away, without end; the URL may differ."""
    waits: dict[str, Any] = {"connect_timeout": int(_PATIENCE), "options": f"-c lock_timeout={int(_PATIENCE)}s"}
    return {name: value for name, value in waits.items() if name not in url.query}


def one_at_a_time(conn: Connection, what: str, model: str) -> None:
    """Until the transaction ends nobody else passes here with the same words (SQLite has one writer anyhow)."""
    if conn.dialect.name == "postgresql":
        conn.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"keepfit {what} {model!r}", 0))))


def chunks(values: Iterable[T], size: int = IN_LIST) -> Iterator[list[T]]:
    """Lists of so many at most."""
    rest = iter(values)
    while chunk := list(islice(rest, size)):
        yield chunk


def insert_or_skip(conn: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Inserts the rows whose keys are not there yet."""
    if rows:
        conn.execute(_insert(conn, table).on_conflict_do_nothing(), rows)


def insert_new(conn: Connection, table: Table, row: dict[str, Any]) -> bool:
    """Inserts the row unless its keys are there; whether it was new."""
    statement = _insert(conn, table).values(row).on_conflict_do_nothing()
    return conn.execute(statement.returning(*table.primary_key)).first() is not None


def insert_or_replace(conn: Connection, table: Table, row: dict[str, Any]) -> None:
    """Inserts the row, or sets the columns of the one with its primary key."""
    statement = _insert(conn, table)
    keys = [column.name for column in table.primary_key]
    changed = {name: statement.excluded[name] for name in row if name not in keys}
    conn.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed), [row])


def newer_wins(conn: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Inserts the rows; one whose primary key is there replaces it if its `time` is later and its `content` differs."""
    if not rows:
        return
    statement = _insert(conn, table)
    keys = [column.name for column in table.primary_key]
    new = statement.excluded
    later = and_(new.time > table.c.time, new.content != table.c.content)
    changed = {name: new[name] for name in rows[0] if name not in keys}
    conn.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed, where=later), rows)


def _insert(conn: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    return postgresql.insert(table) if conn.dialect.name == "postgresql" else sqlite.insert(table)
