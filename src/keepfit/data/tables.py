"""Tables on disk (CSV, TSV, JSON lines, Parquet; plain or gzip) as a stream of records of strings."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, time
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from keepfit.errors import InvalidInput

Kind = Literal["csv", "jsonl", "parquet"]
DELIMITERS = (",", "\t", ";", "|")
LONGEST = 16 * 2**20
"""Characters in one field or line; over it a quote was most likely never closed."""
HEAD = 2**16
"""Characters that are looked at to find the delimiter."""
UNPACK = (EOFError, gzip.BadGzipFile, zlib.error)


@dataclass(frozen=True)
class Record:
    """One row as it stands in the file."""

    number: int
    """Counted from 1, the header not included, blank lines not included."""
    values: dict[str, str]
    """Every column; a missing value is the empty string."""
    error: str | None = None
    nested: frozenset[str] = frozenset()
    """Columns that held a list or an object (their value is its JSON)."""


@dataclass(frozen=True)
class Dialect:
    """How a delimited file is written."""

    delimiter: str
    quoted: bool = True

    def reader(self, lines: Iterable[str]) -> Iterator[list[str]]:
        """The rows of some lines; raises csv.Error on a broken one and can go on behind it."""
        csv.field_size_limit(LONGEST)  # a setting of the whole process; its default refuses 131,072 characters
        quoting: Any = csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE
        return csv.reader(lines, delimiter=self.delimiter, quoting=quoting)


def read_records(path: Path) -> Iterator[Record]:
    """Every row in the order of the file, in constant memory.

    Raises InvalidInput (with a sentence) when there is no such file or it is none of the known kinds; a single bad
    row is a Record with an error.
    """
    kind = kind_of(path)
    readers = {"csv": _read_delimited, "jsonl": _read_jsonl, "parquet": _read_parquet}
    return _explained(readers[kind](path), path)


def column_names(path: Path) -> tuple[str, ...]:
    """The columns in the order of the file; for JSON lines those of the first thousand rows."""
    kind = kind_of(path)
    if kind == "parquet":
        with _parquet(path) as file:
            return tuple(file.schema_arrow.names)
    if kind == "csv":
        return _header(path, dialect_of(path))
    names: dict[str, None] = {}
    for record in islice(read_records(path), 1000):
        names.update(dict.fromkeys(record.values))
    return tuple(names)


def kind_of(path: Path) -> Kind:
    """What the first bytes and the name say. Raises InvalidInput for a missing, empty or foreign file."""
    try:
        with _bytes(path) as file:
            head = file.read(4096)
    except OSError as error:
        raise InvalidInput(f"the file {path} cannot be read: {error.strerror or error}") from error
    except UNPACK as error:
        raise InvalidInput(f"{path.name} is a damaged gzip file ({error}); fetch or pack it again") from error
    if not head.strip():
        raise InvalidInput(f"{path.name} is empty; it needs a line of column names and one line per example")
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"%PDF", b"BZh", b"\xfd7zXZ", b"(\xb5/\xfd")):
        raise InvalidInput(f"{path.name} is no text table; save it as CSV, JSON lines or Parquet (plain or .gz)")
    suffix = _suffix(path)
    if suffix in {".parquet", ".pq"}:
        raise InvalidInput(f"{path.name} is called Parquet but does not begin like it; rename or save it again")
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if suffix in {".jsonl", ".ndjson", ".json"} or (suffix not in {".csv", ".tsv", ".tab"} and start[:1] == b"{"):
        if start[:1] == b"[":
            raise InvalidInput(f"{path.name} is one JSON array; write one JSON object per line instead (JSON lines)")
        return "jsonl"
    return "csv"


def dialect_of(path: Path) -> Dialect:
    """The delimiter by the file's name if its header has it, else the one that fits the first rows best."""
    with _text(path) as file:
        head = file.read(HEAD)
    lines = head.splitlines(keepends=True)
    if len(head) == HEAD and len(lines) > 1:
        lines.pop()
    usual = "\t" if _suffix(path) in {".tsv", ".tab"} else ","
    best, delimiter = 0.0, usual
    for candidate in (usual, *(d for d in DELIMITERS if d != usual)):
        score = _fit(_rows(lines, Dialect(candidate)))
        if score > best + 1e-9:
            best, delimiter = score, candidate
    plain = _rows(lines, Dialect(delimiter, quoted=False))
    if _fit(plain) == 1 and len(plain) > len(_rows(lines, Dialect(delimiter))) and not _well_quoted(lines, delimiter):
        return Dialect(delimiter, quoted=False)  # its quotation marks are just characters, as in many TSV files
    return Dialect(delimiter)


def _well_quoted(lines: Sequence[str], delimiter: str) -> bool:
    """Whether every quotation mark that opens a field also closes one, and all rows are as wide as the header."""
    try:
        return _fit([row for row in csv.reader(lines, delimiter=delimiter, strict=True) if row]) == 1
    except csv.Error:
        return False


def _fit(rows: Sequence[list[str]]) -> float:
    """The share of rows as wide as the header, 0 when that has one column only."""
    if not rows or len(rows[0]) < 2:
        return 0.0
    return sum(len(row) == len(rows[0]) for row in rows) / len(rows)


def _rows(lines: Iterable[str], dialect: Dialect) -> list[list[str]]:
    rows: list[list[str]] = []
    reader = dialect.reader(lines)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return rows
        except csv.Error:
            continue
        if row:
            rows.append(row)


def _header(path: Path, dialect: Dialect) -> tuple[str, ...]:
    with _text(path) as file:
        try:
            first = next((row for row in dialect.reader(file) if row), [])
        except csv.Error as error:
            raise InvalidInput(f"the first line of {path.name} cannot be read as column names: {error}") from error
    names: list[str] = []
    for number, cell in enumerate(first, 1):
        name = cell.strip() or f"column_{number}"
        names.append(name if name not in names else f"{name}_{number}")
    return tuple(names)


def _read_delimited(path: Path) -> Iterator[Record]:
    dialect = dialect_of(path)
    header = _header(path, dialect)
    with _text(path) as file:
        reader = dialect.reader(file)
        number = -1
        while True:
            error = None
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as cause:
                row, error = [""], f"cannot be read ({cause}); is a quotation mark not closed?"
            if not row:
                continue
            number += 1
            if number == 0:
                continue
            if error is None and len(row) != len(header):
                error = f"has {len(row)} fields where the header has {len(header)}"
            cells = row + [""] * (len(header) - len(row))
            yield Record(number, dict(zip(header, cells, strict=False)), error)


def _read_jsonl(path: Path) -> Iterator[Record]:
    columns: dict[str, None] = {}
    with _text(path) as file:
        number = 0
        while line := file.readline(LONGEST):
            if not line.strip():
                continue
            number += 1
            if len(line) == LONGEST and not line.endswith("\n"):
                while (rest := file.readline(LONGEST)) and not rest.endswith("\n"):
                    pass
                yield Record(number, dict.fromkeys(columns, ""), f"is longer than {LONGEST} characters")
                continue
            record = _json_record(number, line)
            columns.update(dict.fromkeys(record.values))
            yield Record(number, dict.fromkeys(columns, "") | record.values, record.error, record.nested)


def _json_record(number: int, line: str) -> Record:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Record(number, {}, f"is not JSON ({error})")
    if not isinstance(found, dict):
        return Record(number, {}, "is not a JSON object with named columns")
    return _of_values(number, found)


def _read_parquet(path: Path) -> Iterator[Record]:
    with _parquet(path) as file:
        number = 0
        for batch in file.iter_batches(batch_size=1000):
            for row in batch.to_pylist():
                number += 1
                yield _of_values(number, row)


def _of_values(number: int, row: dict[str, Any]) -> Record:
    nested = frozenset(name for name, value in row.items() if isinstance(value, list | dict))
    return Record(number, {str(name): as_text(value) for name, value in row.items()}, None, nested)


def as_text(value: Any) -> str:
    """A value as the text that a CSV would hold: 1 for 1.0, true for True, nothing for null.

    >>> [as_text(v) for v in (1, 1.0, 0.5, True, None, "NA", ["a"])]
    ['1', '1', '0.5', 'true', '', 'NA', '["a"]']
    """
    match value:
        case str():
            return value
        case None:
            return ""
        case bool():
            return str(value).lower()
        case float():
            return _number(value)
        case bytes():
            return value.decode("utf-8", "replace")
        case datetime() | date() | time():
            return value.isoformat()
        case list() | dict():
            return json.dumps(value, ensure_ascii=False, default=as_text)
        case _:
            return str(value)


def _number(value: float) -> str:
    if math.isnan(value):
        return ""
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def _suffix(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def _bytes(path: Path) -> BufferedReader | gzip.GzipFile:
    """The file's bytes, unpacked when they begin like gzip, whatever the name says."""
    file = path.open("rb")
    packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    if not packed:
        return file
    file.close()
    return gzip.open(path, "rb")


@contextmanager
def _text(path: Path) -> Iterator[io.TextIOWrapper]:
    """UTF-8 with or without a mark, UTF-16 with one; what is neither becomes U+FFFD and is counted by the report."""
    with _bytes(path) as file:
        mark = file.read(2)
        file.seek(0)
        encoding = "utf-16" if mark in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig"
        with io.TextIOWrapper(file, encoding=encoding, errors="replace", newline="") as text:
            yield text


@contextmanager
def _parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """A Parquet file; a packed one is unpacked to a temporary file first, since Parquet is read from its end."""
    try:
        with tempfile.TemporaryFile() as unpacked, _bytes(path) as file:
            source: IO[bytes] | BufferedReader | gzip.GzipFile = file
            if isinstance(file, gzip.GzipFile):
                shutil.copyfileobj(file, unpacked)
                source = unpacked
            yield pq.ParquetFile(source, buffer_size=2**20)
    except pa.ArrowInvalid as error:
        raise InvalidInput(f"{path.name} is a damaged Parquet file ({error}); save it again") from error


def _explained(records: Iterator[Record], path: Path) -> Iterator[Record]:
    """The same records; what fails while reading is said in a sentence."""
    try:
        yield from records
    except UNPACK as error:
        raise InvalidInput(f"{path.name} is a damaged gzip file ({error}); fetch or pack it again") from error
    except OSError as error:
        raise InvalidInput(f"{path.name} cannot be read to its end: {error}") from error


def rows_of_parquet(path: Path) -> int:
    """How many rows a Parquet file says that it has."""
    with _parquet(path) as file:
        return int(file.metadata.num_rows)
