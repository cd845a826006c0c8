"""How snapshot rows lie in a Parquet file, and the hash of their content."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from keepfit.data.splits import UNKNOWN_TIME, SnapshotRow, Split, parts_of
from keepfit.errors import BackendError, InvalidInput

FORMAT = "keepfit snapshot 1"
CHUNK = 2000
"""Rows that are in memory at once while writing."""
FIXED = pa.schema(
    [
        ("id", pa.string()),
        ("group", pa.string()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("split", pa.string()),
        ("label", pa.string()),
        ("fresh", pa.bool_()),
        ("weight", pa.float64()),
        ("contradicted", pa.bool_()),
        ("source", pa.string()),
        ("key", pa.string()),
        ("context", pa.string()),
    ]
)


def stored_name(column: str) -> str:
    """A content column's name in the file: its own, unless that is taken."""
    return f"content_{column}" if column in FIXED.names else column


def storable(text: str) -> str:
    """The text as UTF-8 can hold it: a lone surrogate becomes U+FFFD.

    >>> storable("a\\ud800b")
    'a�b'
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


class ContentHash:
    """The same for the same rows in any order; of 32 bytes per row."""

    def __init__(self, columns: tuple[str, ...]) -> None:
        self._columns = columns
        self._digests: list[bytes] = []

    def add(self, values: Mapping[str, Any]) -> None:
        """Count one row, as `encode` made it."""
        plain = [v.isoformat() if isinstance(v, datetime) else v for v in values.values()]
        line = json.dumps(plain, ensure_ascii=False, separators=(",", ":"))
        self._digests.append(hashlib.sha256(line.encode("utf-8")).digest())

    def hexdigest(self) -> str:
        """32 hex digits."""
        whole = hashlib.sha256(json.dumps([FORMAT, *self._columns]).encode("utf-8"))
        for digest in sorted(self._digests):
            whole.update(digest)
        return whole.hexdigest()[:32]


def encode(row: SnapshotRow, columns: tuple[str, ...]) -> dict[str, Any]:
    """A row as plain values in the order of the file. Raises InvalidInput when its content does not fit."""
    parts = parts_of(row.content)
    if len(parts) != len(columns) or not all(isinstance(part, str) for part in parts):
        raise InvalidInput(f"example {row.id!r:.60} needs text for each of the columns {', '.join(columns)}")
    context = {storable(name): storable(value) for name, value in sorted(row.context.items())}
    return {
        "id": storable(row.id),
        "group": storable(row.group),
        "time": row.time.astimezone(UTC),
        "split": row.split.value,
        "label": storable(row.label),
        "fresh": row.fresh,
        "weight": float(row.weight),
        "contradicted": row.contradicted,
        "source": str(row.source),
        "key": None if row.key is None else storable(row.key),
        "context": json.dumps(context, ensure_ascii=False),
        **{stored_name(column): storable(part) for column, part in zip(columns, parts, strict=True)},
    }


def decode(values: Mapping[str, Any], columns: tuple[str, ...]) -> SnapshotRow:
    """The inverse of `encode`."""
    parts = tuple(values[stored_name(column)] for column in columns)
    plain = {name: values[name] for name in FIXED.names}
    plain |= {"split": Split(values["split"]), "context": json.loads(values["context"])}
    return SnapshotRow(content=parts[0] if len(parts) == 1 else parts, **plain)


def write_rows(folder: Path, rows: Iterable[SnapshotRow], columns: tuple[str, ...]) -> tuple[Path, str, list[str]]:
    """Write a temporary file into `folder`; returns it with the content's hash and the sorted labels.

    Holds `CHUNK` rows at a time. Raises BackendError when it cannot be written (the disk is full), and then leaves
    nothing behind.
    """
    schema = pa.schema(
        [*FIXED, *((stored_name(column), pa.string()) for column in columns)],
        metadata={"keepfit": json.dumps({"format": FORMAT, "columns": columns})},
    )
    digest, labels, temporary = ContentHash(columns), set[str](), _temporary(folder)
    try:
        encoded = (encode(row, columns) for row in rows)
        with temporary.open("wb") as file:
            with pq.ParquetWriter(file, schema, compression="zstd") as writer:
                while chunk := list(islice(encoded, CHUNK)):
                    for values in chunk:
                        digest.add(values)
                        labels.add(values["label"])
                    writer.write_batch(pa.RecordBatch.from_pylist(chunk, schema=schema))
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise unwritable(folder, error) from error
        raise
    return temporary, digest.hexdigest(), sorted(labels)


def write_text(path: Path, text: str) -> None:
    """Replace a file's text at once, durably. Raises BackendError, leaving what was there."""
    temporary = _temporary(path.parent)
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise unwritable(path.parent, error) from error
    move(temporary, path)


def move(temporary: Path, path: Path) -> None:
    """Give a finished file its name, durably."""
    try:
        os.replace(temporary, path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise unwritable(path.parent, error) from error


def read_columns(path: Path) -> tuple[str, ...]:
    """The content columns that the file names."""
    with readable(path):
        found = json.loads((pq.read_schema(path).metadata or {}).get(b"keepfit", b"{}"))
    if found.get("format") != FORMAT:
        raise BackendError(f"{path} is no snapshot that this keepfit reads; import the data again")
    return tuple(found["columns"])


def read_values(path: Path, split: Split | None = None) -> Iterator[dict[str, Any]]:
    """The rows as `encode` made them, `CHUNK` at a time, of one part or of all."""
    with readable(path), pq.ParquetFile(path, buffer_size=2**20) as file:
        for batch in file.iter_batches(batch_size=CHUNK):
            micros = batch.column("time").cast(pa.int64())  # whole numbers: no zone database is needed
            for values in batch.set_column(FIXED.get_field_index("time"), "time", micros).to_pylist():
                if split is None or values["split"] == split.value:
                    values["time"] = UNKNOWN_TIME + timedelta(microseconds=values["time"])
                    yield values


def read_rows(path: Path, columns: Sequence[str]) -> Iterator[SnapshotRow]:
    """The rows in the order of the file."""
    return (decode(values, tuple(columns)) for values in read_values(path))


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """What a damaged or missing snapshot file raises comes out as BackendError."""
    try:
        yield
    except (OSError, pa.ArrowException, ValueError, KeyError) as error:
        raise BackendError(
            f"the snapshot {path} is damaged ({error}); restore it from a backup or import the data again"
        ) from error


def unwritable(folder: Path, error: OSError) -> BackendError:
    """The sentence for a snapshot that could not be written."""
    return BackendError(f"the snapshot cannot be written to {folder} ({error}); free some space or check the folder")


def _temporary(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=folder, prefix=".writing-", delete=False) as file:
            return Path(file.name)
    except OSError as error:
        raise unwritable(folder, error) from error
