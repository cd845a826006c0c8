"""Where a history is read from: a file, or a query of another database; one record after the other."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from keepfit.data.columns import Sample
from keepfit.data.tables import Record, as_text, column_names, kind_of, read_records, rows_of_parquet
from keepfit.errors import BackendError, InvalidInput, SettingsError
from keepfit.redaction import redacted, remember

SAMPLED = 2_000
BATCH = 2_000
"""Rows that are fetched from a database at once."""


class PastSource(Protocol):
    """A table of past answers."""

    name: str
    """For sentences; without passwords."""

    def identity(self) -> str:
        """The same as long as it is the same table or file."""
        ...

    def sample(self) -> Sample:
        """The columns and the first rows."""
        ...

    def total(self) -> int | None:
        """How many rows there are, where that is known before they are read."""
        ...

    def records(self) -> Iterator[Record]:
        """Every row, in constant memory. Raises InvalidInput when the table changes while it is read."""
        ...

    def notes(self) -> list[str]:
        """What is to be said about the last reading."""
        ...


@dataclass
class PastFile:
    """CSV, TSV, JSON lines or Parquet, plain or gzip."""

    path: Path
    name: str = ""

    def __post_init__(self) -> None:
        self.name = self.path.name

    def identity(self) -> str:
        stat = self.path.stat()
        return _hash(f"{self.path.absolute()} {stat.st_size} {stat.st_mtime_ns}")

    def sample(self) -> Sample:
        header = column_names(self.path)
        rows = [record.values for record in islice(read_records(self.path), SAMPLED) if record.error is None]
        return Sample(self.name, header, rows)

    def total(self) -> int | None:
        return rows_of_parquet(self.path) if kind_of(self.path) == "parquet" else None

    def records(self) -> Iterator[Record]:
        before = self.identity()
        yield from read_records(self.path)
        if self.identity() != before:
            raise InvalidInput(f"{self.name} was changed while it was read; nothing was imported: import it again")

    def notes(self) -> list[str]:
        return []


@dataclass
class PastQuery:
    """What a query of another database gives; read in one transaction, of one state where the database has that."""

    url: str
    query: str
    name: str = ""
    _notes: list[str] = field(default_factory=list)
    _counted: int | None = None
    """Rows when they were counted, so that the query is not asked once more for that before it is read."""

    def __post_init__(self) -> None:
        try:
            parsed = make_url(self.url)
            remember(parsed.password or "")
        except ArgumentError as error:
            words = "--from is no database URL; write dialect://user:password@host/name, env:NAME or file:PATH"
            raise SettingsError(words) from error
        self.query = self.query.strip().rstrip(";")
        if not self.query.lower().startswith(("select", "with", "table", "values")):
            raise SettingsError("--query must be one SELECT; keepfit only reads from the other database")
        self.name = redacted(parsed.render_as_string(hide_password=True))

    def identity(self) -> str:
        return _hash(f"{make_url(self.url).set(password=None)} {self.query}")

    def sample(self) -> Sample:
        with self._reading() as conn:
            result = conn.execution_options(stream_results=True).execute(text(self.query))
            header = _header(result.keys())
            rows = [dict(zip(header, map(as_text, row), strict=True)) for row in result.fetchmany(SAMPLED)]
            result.close()
        if not rows:
            raise InvalidInput(f"the query gives no row of {self.name}; nothing is there to import")
        return Sample(f"the query of {self.name}", header, rows)

    def total(self) -> int | None:
        with self._reading() as conn:
            self._counted = self._count(conn)
        return self._counted

    def records(self) -> Iterator[Record]:
        self._notes.clear()
        number = 0
        with self._reading() as conn:
            before = self._count(conn) if self._counted is None else self._counted
            result = conn.execution_options(stream_results=True, yield_per=BATCH).execute(text(self.query))
            header = _header(result.keys())
            for row in result:
                number += 1
                yield _record(number, header, row)
        with self._reading() as conn:
            after = self._count(conn)
        if number < before:
            raise InvalidInput(
                f"{self.name} lost rows while it was read ({before} rows before, {number} read); nothing was imported: "
                "import when nothing deletes from it"
            )
        if after != before:
            words = f"{self.name} went from {before} to {after} rows meanwhile; {number} of one state were read"
            self._notes.append(f"{words}, and the same command adds what came since")

    def notes(self) -> list[str]:
        return list(self._notes)

    def _count(self, conn: Connection) -> int:
        return int(conn.execute(text(f"SELECT COUNT(*) FROM ({self.query}) AS counted")).scalar_one())

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """A transaction that sees one state, where the database has such. Raises BackendError."""
        engine = self._engine()
        try:
            with engine.connect() as conn, conn.begin():
                if engine.dialect.name == "sqlite":
                    conn.exec_driver_sql("BEGIN")  # the driver would begin with the first write alone
                yield conn
                conn.rollback()
        except SQLAlchemyError as error:
            words = " ".join(str(getattr(error, "orig", None) or error).split())
            raise BackendError(f"{self.name} cannot be read: {redacted(words)[:300]}") from error
        finally:
            engine.dispose()

    def _engine(self) -> Engine:
        url = make_url(self.url)
        options: dict[str, Any] = {}
        if url.get_backend_name() == "sqlite":
            if not url.database or not Path(url.database).is_file():
                raise InvalidInput(f"there is no database {url.database}")
        else:
            options["isolation_level"] = "REPEATABLE READ"
        return foreign_engine(self.url, **options)


def foreign_engine(address: str, **options: Any) -> Engine:
    """Of another system's database, by its SQLAlchemy URL; PostgreSQL by psycopg 3 unless the URL names a driver.

    Raises SettingsError for a URL that is none, or whose driver is not installed.
    """
    try:
        url = make_url(address)
        if url.get_backend_name() in ("postgresql", "postgres") and "+" not in url.drivername:
            url = url.set(drivername="postgresql+psycopg")
        return create_engine(url, hide_parameters=True, **options)
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise SettingsError(
            f"a database needs its driver ({error}); install it beside keepfit (PostgreSQL: pip install "
            '"keepfit[postgres]")'
        ) from error
    except (SQLAlchemyError, TypeError) as error:
        raise SettingsError(f"a database cannot be opened: {redacted(str(error))[:300]}") from error


def _header(keys: Any) -> tuple[str, ...]:
    names: list[str] = []
    for key in keys:
        if key in names:
            raise InvalidInput(f"the query gives two columns called {key!r}; name them apart with AS", "query")
        names.append(str(key))
    return tuple(names)


def _record(number: int, header: Sequence[str], row: Sequence[Any]) -> Record:
    nested = frozenset(name for name, value in zip(header, row, strict=True) if isinstance(value, list | dict))
    return Record(number, dict(zip(header, map(as_text, row), strict=True)), None, nested)


def _hash(words: str) -> str:
    return hashlib.sha256(words.encode("utf-8", "surrogatepass")).hexdigest()[:16]
