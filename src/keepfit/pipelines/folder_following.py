"""Files of a folder that grow: tables of lines at their end, Parquet files by being written anew with more rows."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq

from keepfit.errors import InvalidInput
from keepfit.pipelines.table_following import ROWS, Mark, Row

CHUNK = 8 * 2**20
"""Bytes of a file that are read at once."""
GUARD = 2**16
"""Of the bytes behind the mark the first and the last so many are compared with what was read."""
SETTLED = timedelta(seconds=2)
"""A Parquet file counts when it has not changed for so long: it is whole only at its end."""
SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".parquet"})


@dataclass
class FolderSource:
    """The tables of a folder: CSV, TSV and JSON lines that grow at their end, and Parquet files."""

    folder: Path
    clock: Callable[[], datetime]
    reading: ParquetReading | None = None
    """The file that is under way, so that what was read of it is neither read nor compared again for each part."""

    def names(self) -> list[str]:
        """The files, by name."""
        if not self.folder.is_dir():
            return []
        files = (p for p in self.folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
        return sorted(p.name for p in files if p.is_file())

    def read(self, name: str, mark: Mark) -> tuple[list[tuple[str, Row]], Mark]:
        """As Source says."""
        path = self.folder / name
        try:
            stat = path.stat()
            if path.suffix.lower() != ".parquet":
                return read_lines(path, stat.st_size, mark)
            seen = f"{stat.st_size}-{stat.st_mtime_ns}"
            fresh = self.clock().timestamp() - stat.st_mtime < SETTLED.total_seconds()
            return ([], mark) if fresh or mark.get("seen") == seen else self.read_parquet(path, seen, mark)
        except FileNotFoundError:
            return [], mark
        except OSError as error:
            raise InvalidInput(f"it cannot be read: {error.strerror}") from error

    def read_parquet(self, path: Path, seen: str, mark: Mark) -> tuple[list[tuple[str, Row]], Mark]:
        """Rows behind the mark of a whole file; one that was written anew must begin with the rows that were read."""
        start = int(mark.get("row", 0))
        try:
            if self.reading is None or self.reading.at != (path, seen, start):
                self.stop()
                self.reading = ParquetReading(path, seen)
                self.reading.pass_over(start, mark.get("guard"))
            reading = self.reading
            rows = [(f"{path.name}:{start + place}", row) for place, row in enumerate(reading.rows(ROWS), 1)]
        except (OSError, ValueError) as error:
            self.stop()
            raise InvalidInput(f"it is no whole Parquet file ({error})") from error
        whole = {"seen": seen} if reading.ended else {}
        if whole:
            self.stop()
        return rows, {"row": reading.row, "guard": reading.guard(), **whole}

    def stop(self) -> None:
        """Closes what is under way."""
        if self.reading is not None:
            self.reading.close()
        self.reading = None


class ParquetReading:
    """One way through a file, from its first row to its last. Raises OSError or ValueError where it is damaged."""

    def __init__(self, path: Path, seen: str) -> None:
        """`seen`: its size and time, by which it is known to be the same."""
        self.path, self.seen, self.row = path, seen, 0
        self._file = pq.ParquetFile(path)
        self._batches = self._file.iter_batches(ROWS)
        self._next: list[Row] = []
        self._hash = hashlib.sha256(b"[")

    @property
    def at(self) -> tuple[Path, str, int]:
        """Which file, as it was when, and how many rows of it were read."""
        return self.path, self.seen, self.row

    @property
    def ended(self) -> bool:
        """Whether all was read."""
        return bool(self.row == self._file.metadata.num_rows)

    def rows(self, most: int) -> list[Row]:
        """The next ones, one at least unless it ended."""
        while not self._next and not self.ended:
            self._next = next(self._batches).to_pylist()
        found, self._next = self._next[:most], self._next[most:]
        for row in found:
            self._hash.update(f"{', ' if self.row else ''}{row!r}".encode())
            self.row += 1
        return found

    def pass_over(self, count: int, guard: str | None) -> None:
        """The rows that were read before. Raises InvalidInput when they are not what they were."""
        while self.row < count and self.rows(count - self.row):
            pass
        if self.row < count or (count and self.guard() != guard):
            self.close()
            raise InvalidInput(f"its first {count} rows, which were read, have changed; go on in a new file")

    def guard(self) -> str:
        """A hash of what was read: of the rows as a list, however it was divided."""
        so_far = self._hash.copy()
        so_far.update(b"]")
        return so_far.hexdigest()

    def close(self) -> None:
        """The file."""
        self._file.close()


def read_lines(path: Path, size: int, mark: Mark) -> tuple[list[tuple[str, Row]], Mark]:
    """Whole lines behind the mark; a last line without its end waits."""
    offset, row = int(mark.get("offset", 0)), int(mark.get("row", 0))
    if size < offset:
        raise InvalidInput(f"it shrank from {offset} to {size} bytes; it is not read again, go on in a new file")
    if size == offset:
        return [], mark
    with path.open("rb") as file:
        if offset and guard(file, offset) != mark.get("guard"):
            raise InvalidInput(f"its first {offset} bytes, which were read, have changed; go on in a new file")
        file.seek(offset)
        whole = whole_lines(file.read(CHUNK), path.suffix.lower() != ".jsonl")
        if not whole:
            if size - offset >= CHUNK:
                raise InvalidInput(f"a line has more than {CHUNK} bytes; a quote was most likely never closed")
            return [], mark
        after = {"offset": offset + len(whole), "row": row, "guard": guard(file, offset + len(whole))}
    header, rows = parsed(path, whole, mark.get("header"))
    if not rows:  # a header alone is read again with the first row
        return [], mark
    named = [(f"{path.name}:{row + place}", one) for place, one in enumerate(rows, 1)]
    return named, {**after, "row": row + len(named), **({} if header is None else {"header": header})}


def whole_lines(content: bytes, quoted: bool) -> bytes:
    """Up to the last line end that is no part of a quoted field."""
    end = content.rfind(b"\n")
    quotes = content.count(b'"', 0, max(0, end)) if quoted else 0
    while quotes % 2 and end >= 0:
        before = content.rfind(b"\n", 0, end)
        quotes -= content.count(b'"', max(0, before), end)
        end = before
    return content[: end + 1]


def guard(file: Any, offset: int) -> str:
    """A hash of the first and the last bytes before a place."""
    file.seek(0)
    first = file.read(min(GUARD, offset))
    file.seek(max(0, offset - GUARD))
    return hashlib.sha256(first + file.read(min(GUARD, offset))).hexdigest()


def parsed(path: Path, content: bytes, header: Sequence[str] | None) -> tuple[Sequence[str] | None, list[Row]]:
    """The rows of whole lines, and the header of a CSV or TSV."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"it is not UTF-8 ({error})") from error
    if path.suffix.lower() == ".jsonl":
        return None, [json_row(line) for line in text.split("\n") if line.strip()]
    lines = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    try:
        csv.field_size_limit(CHUNK)
        cells = [line for line in lines if line]
    except csv.Error as error:
        raise InvalidInput(f"it is no table that can be read ({error})") from error
    if header is None:
        if not cells:
            return None, []
        header, cells = cells[0], cells[1:]
    # cells that do not fit the header (a comma that is not quoted) make a row that cannot be taken
    return header, [dict(zip(header, line, strict=True)) if len(line) == len(header) else {} for line in cells]


def json_row(line: str) -> Row:
    """An object; `probabilities` of it become columns. What is none becomes a row that cannot be taken."""
    try:
        row = orjson.loads(line)
    except ValueError:
        return {}
    if not isinstance(row, dict):
        return {}
    inner = row.pop("probabilities", None)
    return row | ({f"p_{label}": p for label, p in inner.items()} if isinstance(inner, dict) else {})
