"""The stage: a history that was read and found good, on the disk, before the first row of it is stored.

    STAGE/rows.parquet    one row group for each chunk
    STAGE/marks-00.bin    32 bytes a mark: hash of an id, hash of what stands under it; by the first byte of the former,
                          examples in the first half of the files, answers in the second

Nothing here grows in memory with the number of rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from keepfit.data.past_rows import SHOWN, PastRow
from keepfit.data.stored_types import EPOCH, microseconds

CHUNK = 10_000
BUCKETS = 64
HALF = BUCKETS // 2
ROWS = "rows.parquet"
_SCHEMA = pa.schema(
    [
        ("number", pa.int64()), ("id", pa.string()), ("content", pa.string()), ("time", pa.int64()),
        ("version", pa.string()), ("said", pa.string()), ("scores", pa.string()), ("label", pa.string()),
        ("label_time", pa.int64()), ("key", pa.string()), ("context", pa.string()), ("group", pa.string()),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Repeats:
    """What ids say that come more than once."""

    equal: int = 0
    """Rows that repeat another one."""
    other: int = 0
    """Ids under which different things stand."""
    first: tuple[str, ...] = ()
    """Hashes (hex) of the first such ids."""


@dataclass
class StageWriter:
    """Takes rows, chunk by chunk."""

    folder: Path
    _writer: pq.ParquetWriter = field(repr=False)
    _marks: list[IO[bytes]] = field(repr=False)
    rows: int = 0

    def add(self, rows: Sequence[PastRow]) -> None:
        """A chunk of rows, which is a row group."""
        self._writer.write_table(pa.Table.from_pylist([_plain(row) for row in rows], schema=_SCHEMA))
        for row in rows:
            self._mark(0, row.id, json.dumps(row.content))
            self._mark(HALF, row.prediction_id(), f"{row.answer} {row.scores}")
        self.rows += len(rows)

    def _mark(self, first: int, name: str, value: str) -> None:
        mark = _digest(name)
        self._marks[first + mark[0] % HALF].write(mark + _digest(value))


@contextmanager
def writing(folder: Path) -> Iterator[StageWriter]:
    """A stage that is being made, in an empty folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        marks: list[IO[bytes]] = []
        for n in range(BUCKETS):
            marks.append(stack.enter_context((folder / f"marks-{n:02}.bin").open("wb")))
        # not compressed: who has to forget a person's texts looks for their bytes
        writer = stack.enter_context(pq.ParquetWriter(folder / ROWS, _SCHEMA, compression="none"))
        yield StageWriter(folder, writer, marks)


def repeats(folder: Path) -> Repeats:
    """Compare all marks, one bucket after the other."""
    equal = other = 0
    first: list[str] = []
    for n in range(BUCKETS):
        marks = np.fromfile(folder / f"marks-{n:02}.bin", "S32")
        pairs = np.unique(marks)
        ids = np.ascontiguousarray(pairs.view(np.uint8).reshape(-1, 32)[:, :16]).view("S16").ravel()
        names, counts = np.unique(ids, return_counts=True)
        equal += len(marks) - len(pairs) if n >= HALF else 0  # one example may well have several answers
        other += int((counts > 1).sum())
        first += [name.ljust(16, b"\0").hex() for name in names[counts > 1][: max(0, SHOWN - len(first))].tolist()]
    return Repeats(equal, other, tuple(first))


def rows_named(folder: Path, hashes: Sequence[str]) -> list[PastRow]:
    """The first rows whose example or answer has one of these hashes, to show what differs."""
    wanted, found = set(hashes), []
    for rows in chunks(folder):
        for row in rows:
            if any(_digest(name).hex() in wanted for name in (row.id, row.prediction_id())):
                found.append(row)
                if len(found) == 2 * len(wanted):
                    return found
    return found


def chunks(folder: Path, after: int = 0) -> Iterator[list[PastRow]]:
    """The rows again, in the same chunks, without the first `after` of these."""
    with pq.ParquetFile(folder / ROWS) as file:
        for group in range(after, file.num_row_groups):
            yield [_row(values) for values in file.read_row_group(group).to_pylist()]


def _digest(words: str) -> bytes:
    return hashlib.blake2b(words.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _plain(row: PastRow) -> dict[str, Any]:
    content = row.content if isinstance(row.content, str) else list(row.content)
    return {
        "number": row.number, "id": _ascii(row.id), "content": json.dumps(content), "time": microseconds(row.time),
        "version": _ascii(row.version), "said": None if row.said is None else _ascii(row.said),
        "scores": None if row.scores is None else json.dumps(dict(row.scores)),
        "label": None if row.label is None else _ascii(row.label),
        "label_time": None if row.label_time is None else microseconds(row.label_time),
        "key": None if row.key is None else _ascii(row.key), "context": json.dumps(dict(row.context)),
        "group": row.group,
    }  # fmt: skip


def _ascii(words: str) -> str:
    """As JSON: a lone surrogate is no UTF-8, which Parquet wants."""
    return json.dumps(words)


def _row(values: dict[str, Any]) -> PastRow:
    def word(name: str) -> Any:
        return None if values[name] is None else json.loads(values[name])

    def moment(name: str) -> Any:
        return None if values[name] is None else EPOCH + timedelta(microseconds=values[name])

    content = word("content")
    return PastRow(
        values["number"], word("id"), tuple(content) if isinstance(content, list) else content, moment("time"),
        word("version"), word("said"), word("scores"), word("label"), moment("label_time"), word("key"),
        word("context"), values["group"],
    )  # fmt: skip
