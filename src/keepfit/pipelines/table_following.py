"""Following answers that another system writes down: files of a folder that appear and grow, or a table that grows.

How far it was read is stored in the transaction of the answers, so each row is read once, also across a kill. What lies
behind that mark is never read again: when it changes, people hear of it.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import orjson
import pyarrow.parquet as pq

from keepfit.clock import Clock
from keepfit.data.records import text_group
from keepfit.data.store import RecordStore
from keepfit.data.times import parse_time
from keepfit.decision import Decision, Outcome
from keepfit.errors import InvalidInput
from keepfit.pipelines.intake import Intake, Said

FOLLOWED = "followed"
"""Under this name the store keeps how far each source was read."""
CHUNK = 8 * 2**20
"""Bytes of a file that are read at once."""
ROWS = 5000
GUARD = 2**16
"""Of the bytes behind the mark the first and the last so many are compared with what was read."""
SETTLED = timedelta(seconds=2)
"""A Parquet file counts when it has not changed for so long: it is whole only at its end."""
CURSORS = frozenset({int, float, str})
"""Kinds of values that grow and can be kept, besides times."""
SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".parquet"})

Row = Mapping[str, Any]
Mark = dict[str, Any]


@dataclass(frozen=True)
class Roles:
    """Which column holds what."""

    id: str = "id"
    text: tuple[str, ...] = ("text",)
    label: str = "label"
    score: str = "score"
    probabilities: str = "p_"
    version: str = "version"
    key: str = "key"
    time: str = "time"
    fixed_version: str | None = None
    """Where no column names it."""

    def said(self, row: Row, otherwise: str) -> Said:
        """The answer of a row; its id is `otherwise` where no column has it. Raises InvalidInput."""
        values = {name: value for name, value in row.items() if not nothing(value)}
        chances = {name.removeprefix(self.probabilities): number(value, name)
                   for name, value in values.items() if name.startswith(self.probabilities)}  # fmt: skip
        texts = tuple(str(values.get(name, "")) for name in self.text)
        text = None if not any(texts) else texts[0] if len(texts) == 1 else texts
        version = values.get(self.version, self.fixed_version)
        if version is None:
            raise InvalidInput(f"no column {self.version!r} names the version; set follow.version", "version")
        single = None if chances or self.label not in values else str(values[self.label])
        score = number(values[self.score], self.score) if single is not None and self.score in values else None
        key = values.get(self.key)
        return Said(
            str(values.get(self.id, otherwise)), str(version), text, embedding_of(values.get("embedding")),
            chances or None, single, score, None if key is None else str(key), moment(values.get(self.time)),
        )  # fmt: skip


def nothing(value: Any) -> bool:
    """An empty cell."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def number(value: Any, column: str) -> float:
    """Raises InvalidInput."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InvalidInput(f"{value!r} in the column {column!r} is no number", column) from None


def embedding_of(value: Any) -> Sequence[float] | None:
    """A list, or its JSON. Raises InvalidInput."""
    try:
        found = orjson.loads(value) if isinstance(value, str) else value
        return None if found is None else [float(one) for one in found]
    except (TypeError, ValueError):
        raise InvalidInput("the embedding is no list of numbers", "embedding") from None


def moment(value: Any) -> datetime | None:
    """A time; without a zone it is UTC. Raises InvalidInput."""
    if value is None:
        return None
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    found = parse_time(value.isoformat() if isinstance(value, date) else str(value))
    if found is None:
        raise InvalidInput(f"{value!r} is no time; write one like 2026-01-31T12:00:00Z", "time")
    return found


class Source(Protocol):
    """Something that grows."""

    def read(self, name: str, mark: Mark) -> tuple[list[tuple[str, Row]], Mark]:
        """Some rows behind the mark, each with an id of its own, and the mark behind them; no rows: nothing is new.

        Raises InvalidInput when what was read is not there any more as it was.
        """
        ...

    def names(self) -> list[str]:
        """What can be read."""
        ...


@dataclass
class Follower:
    """Takes in what a source has got since the last look; one for each model."""

    model: str
    store: RecordStore
    source: Source
    roles: Roles
    intake: Intake
    clock: Clock
    every: timedelta = timedelta(seconds=10)
    due: datetime | None = None

    def poll(self) -> int:
        """How many rows were read, when it is time to look."""
        now = self.clock.now()
        if self.due is not None and now < self.due <= now + self.every:
            return 0
        self.due = now + self.every
        return sum(self.follow(name) for name in self.source.names())

    def follow(self, name: str) -> int:
        """Everything of one file, or of the table."""
        read = 0
        while True:
            marks = dict(self.store.get(self.model, FOLLOWED) or {})
            mark = dict(marks.get(name) or {})
            if mark.get("broken"):
                return read
            try:
                rows, after = self.source.read(name, mark)
            except InvalidInput as error:
                self.say(f"{name}: {error}", name)
                self.store.put(self.model, FOLLOWED, {**marks, name: {**mark, "broken": str(error)}})
                return read
            if not rows:
                return read
            read += len(rows)
            self.take(name, rows, {**marks, name: after})

    def take(self, name: str, rows: Sequence[tuple[str, Row]], marks: Mapping[str, Any]) -> None:
        """Rows with their mark; those that cannot be taken are told of, and not read again."""
        said, wrong = [], []
        for id_, row in rows:
            try:
                said.append(self.roles.said(row, id_))
            except InvalidInput as error:
                wrong.append(f"{id_!r}: {error}")
        _, refused = self.intake.take_what_fits(said, {FOLLOWED: dict(marks)})
        if wrong or refused:
            found = [*wrong, *refused]
            self.say(f"{len(found)} of {len(rows)} rows of {name} were left out, the first: {found[0]}", rows[0][0])

    def say(self, words: str, what: str) -> None:
        """A decision that people hear of, once."""
        id_ = text_group(f"{self.model} follow {what} {words}")
        self.store.add_decision(self.model, "follow", Decision(Outcome.FAIL, (words,)), self.clock.now(), id_)


@dataclass(frozen=True)
class FolderSource:
    """The tables of a folder: CSV, TSV and JSON lines that grow at their end, and Parquet files."""

    folder: Path
    clock: Callable[[], datetime]

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
            return ([], mark) if fresh or mark.get("seen") == seen else read_parquet(path, seen, mark)
        except FileNotFoundError:
            return [], mark
        except OSError as error:
            raise InvalidInput(f"it cannot be read: {error.strerror}") from error


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
    named = [(f"{path.name}:{row + place}", one) for place, one in enumerate(rows, 1)]
    return named, {**after, "row": row + len(named), **({} if header is None else {"header": header})}


def whole_lines(content: bytes, quoted: bool) -> bytes:
    """Up to the last line end that is no part of a quoted field."""
    end = content.rfind(b"\n")
    while quoted and end >= 0 and content.count(b'"', 0, end) % 2:
        end = content.rfind(b"\n", 0, end)
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


def read_parquet(path: Path, seen: str, mark: Mark) -> tuple[list[tuple[str, Row]], Mark]:
    """Rows behind the mark of a whole file; one that was written anew must begin with the rows that were read."""
    start = int(mark.get("row", 0))
    try:
        table = pq.read_table(path)
    except (OSError, ValueError) as error:
        raise InvalidInput(f"it is no whole Parquet file ({error})") from error
    if table.num_rows < start or rows_hash(table.slice(0, start)) != mark.get("guard", rows_hash(table.slice(0, 0))):
        raise InvalidInput(f"its first {start} rows, which were read, have changed; go on in a new file")
    part = table.slice(start, ROWS)
    end = start + part.num_rows
    rows = [(f"{path.name}:{start + place}", row) for place, row in enumerate(part.to_pylist(), 1)]
    whole = {"seen": seen} if end == table.num_rows else {}
    return rows, {"row": end, "guard": rows_hash(table.slice(0, end)), **whole}


def rows_hash(table: Any) -> str:
    """Of what the rows say."""
    return hashlib.sha256(repr(table.to_pylist()).encode()).hexdigest()


@dataclass(frozen=True)
class QuerySource:
    """A table of a database, read in the order of a column that only grows and has each value once."""

    rows: Callable[[Any], Iterator[Row]]
    """What the query gives for a cursor, in its order."""
    cursor: str
    start: Any
    name: str = "query"

    def names(self) -> list[str]:
        """One."""
        return [self.name]

    def read(self, name: str, mark: Mark) -> tuple[list[tuple[str, Row]], Mark]:
        """As Source says. Raises InvalidInput where the cursor does not grow."""
        before = stored_cursor(mark["cursor"]) if "cursor" in mark else self.start
        found: list[tuple[str, Row]] = []
        for row in self.rows(before):
            if self.cursor not in row:
                raise InvalidInput(f"the query gives no column {self.cursor!r}; select it, too")
            value = row[self.cursor]
            if type(value) not in CURSORS and not isinstance(value, datetime):
                raise InvalidInput(f"{self.cursor!r} is a {type(value).__name__}; take a number, a text or a time")
            if (found or "cursor" in mark) and not value > before:
                raise InvalidInput(
                    f"{self.cursor!r} does not grow ({before!r}, then {value!r}); order the query by it, and ask "
                    "for rows with a larger one than :cursor"
                )
            before = value
            found.append((str(value), {name: one for name, one in row.items() if name != self.cursor or name == "id"}))
            if len(found) == ROWS:
                break
        return found, {"cursor": kept_cursor(before)} if found else mark


def kept_cursor(value: Any) -> Any:
    """As JSON."""
    return {"time": value.isoformat()} if isinstance(value, datetime) else value


def stored_cursor(value: Any) -> Any:
    """What `kept_cursor` gave."""
    return datetime.fromisoformat(value["time"]) if isinstance(value, dict) else value
