"""A search through every file below a folder, as bytes and decoded, for what must not be there any more."""

from __future__ import annotations

import gzip
import mmap
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import default
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Connection, select

from keepfit.data.needles import Needles
from keepfit.data.schema import METADATA
from keepfit.errors import BackendError

SQLITE = b"SQLite format 3\x00"
TEXTS = 1 << 16
"""Bytes by which a file is taken for text: binary files have a null byte among them."""


@dataclass(frozen=True)
class Hit:
    """Something is still there."""

    where: str
    count: int


@dataclass(frozen=True)
class Searched:
    """What was looked through and what was found."""

    files: int = 0
    bytes: int = 0
    rows: int = 0
    """Of a database elsewhere."""
    hits: tuple[Hit, ...] = ()
    unread: tuple[str, ...] = field(default=())
    """Files that could not be read."""

    @property
    def found(self) -> int:
        """All hits."""
        return sum(hit.count for hit in self.hits)

    def __str__(self) -> str:
        rows = f" and {self.rows} rows of the database" if self.rows else ""
        return f"searched {self.files} files, {self.bytes} bytes{rows}: {self.found} found"


def search_folder(folder: Path, needles: Needles) -> Searched:
    """Every file below the folder."""
    files = size = 0
    hits, unread = [], []
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()):
        try:
            size += path.stat().st_size
            count = occurrences(path, needles)
        except FileNotFoundError:
            continue  # it went while we looked
        except (OSError, sqlite3.Error, pa.ArrowException, zlib.error, EOFError, BackendError) as error:
            unread.append(f"{path.relative_to(folder)} ({error})")
            continue
        files += 1
        if count:
            hits.append(Hit(path.relative_to(folder).as_posix(), count))
    return Searched(files, size, 0, tuple(hits), tuple(unread))


def occurrences(path: Path, needles: Needles) -> int:
    """How often a needle is in one file, in its bytes or in what they hold packed."""
    if not needles or not path.stat().st_size:
        return 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        content = mapped[:]
    if content.startswith(SQLITE):
        return _explained(needles.count(content, bounded=False), cells(path), needles)
    if path.suffix == ".parquet":
        packed = needles.count(content, bounded=False)
        return _explained(packed, unpacked(path.name, content), needles, anyhow=True)
    inside = sum(needles.count(part) for part in unpacked(path.name, content))
    return needles.count(content, bounded=b"\x00" not in content[:TEXTS]) + inside


def _explained(raw: int, parts: Iterable[str | bytes], needles: Needles, anyhow: bool = False) -> int:
    """Cells decide, since their bytes lie side by side in a file; bytes that no cell explains were not wiped.

    Without `anyhow` cells are read only where the bytes have something, for nothing is packed.
    """
    if not raw and not anyhow:
        return 0
    whole = within = 0
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode("utf-8", "surrogateescape")
        within += needles.count(data, bounded=False)
        whole += needles.count(data)
    return whole if within else raw


def unpacked(name: str, content: bytes) -> Iterator[bytes]:
    """What a packed file holds: a gzip file, the cells of a Parquet file, the parts of a letter."""
    lower = name.lower()
    if lower.endswith(".gz"):
        inner = gzip.decompress(content)
        yield inner
        yield from unpacked(lower.removesuffix(".gz"), inner)
    elif lower.endswith(".parquet"):
        with pq.ParquetFile(BytesIO(content)) as file:
            for batch in file.iter_batches(batch_size=2000):
                for row in batch.to_pylist():
                    yield from (str(cell).encode("utf-8", "surrogatepass") for cell in row.values())
    elif lower.endswith(".eml"):
        for part in message_from_bytes(content, policy=default).walk():
            if part.get_content_maintype() == "text":
                yield str(part.get_content()).encode("utf-8", "surrogatepass")


def cells(path: Path) -> Iterator[str | bytes]:
    """Every text and blob of a SQLite database, and every text of its schema."""
    with closing(sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, timeout=10)) as conn:
        conn.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        names = [name for (name,) in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for name in names:
            for row in conn.execute(f'SELECT * FROM "{name}"'):
                yield from (cell for cell in row if isinstance(cell, str | bytes))


def search_rows(conn: Connection, needles: Needles) -> Searched:
    """Every row of keepfit's own tables, of a database that is no file here."""
    count, hits = 0, []
    for table in METADATA.sorted_tables:
        found = 0
        for row in conn.execution_options(yield_per=1000).execute(select(table)):
            count += 1
            found += sum(needles.in_text(text) for cell in row for text in _texts(cell))
        if found:
            hits.append(Hit(table.name, found))
    return Searched(rows=count, hits=tuple(hits))


def _texts(cell: Any) -> Iterator[str]:
    if isinstance(cell, str):
        yield cell
    elif isinstance(cell, dict):
        for name, each in cell.items():
            yield str(name)
            yield from _texts(each)
    elif isinstance(cell, list | tuple):
        for each in cell:
            yield from _texts(each)


def wiped(path: Path) -> str | None:
    """Give back and overwrite what deleted rows left in a SQLite file; why that could not be done, or None."""
    try:
        with closing(sqlite3.connect(path, timeout=10, isolation_level=None)) as conn:
            conn.execute("PRAGMA secure_delete=ON")
            conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            conn.execute("VACUUM")
            busy, _, _ = conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error as error:
        return f"{path.name} could not be vacuumed ({error}); run this again when it is not in use"
    return f"the log of {path.name} is in use by another process; run this again" if busy else None


def blank_cells(path: Path, needles: Needles) -> int:
    """Replace what is found in the text cells of a SQLite file that keepfit's own tables are not in; how many cells."""
    changed = 0
    with closing(sqlite3.connect(path, timeout=10, isolation_level=None)) as conn:
        conn.execute("PRAGMA secure_delete=ON")
        for (table,) in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            columns = [row[1] for row in conn.execute(f'PRAGMA table_info("{table}")')]
            for column in columns:
                query = f'SELECT rowid, "{column}" FROM "{table}" WHERE typeof("{column}") = \'text\''
                for rowid, cell in conn.execute(query).fetchall():
                    new = needles.blanked(cell)
                    if new != cell:
                        conn.execute(f'UPDATE "{table}" SET "{column}" = ? WHERE rowid = ?', (new, rowid))
                        changed += 1
    return changed


def sqlite_files(folder: Path) -> list[Path]:
    """The SQLite databases below a folder."""
    found = []
    for path in sorted(folder.rglob("*.db")):
        with path.open("rb") as file:
            if file.read(len(SQLITE)) == SQLITE:
                found.append(path)
    return found
