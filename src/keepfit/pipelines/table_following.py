"""Following answers that another system writes down: files of a folder that appear and grow, or a table that grows.

How far it was read is stored in the transaction of the answers, so each row is read once, also across a kill. What lies
behind that mark is never read again: when it changes, people hear of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Protocol

import orjson

from keepfit.clock import Clock
from keepfit.data.records import text_group
from keepfit.data.store import RecordStore
from keepfit.data.times import parse_time
from keepfit.decision import Decision, Outcome
from keepfit.errors import InvalidInput
from keepfit.pipelines.intake import Intake, Said

FOLLOWED = "followed"
"""Under this name the store keeps how far each source was read."""
ROWS = 5000
"""Of a source that are taken in at once."""
CURSORS = frozenset({int, float, str})
"""Kinds of values that grow and can be kept, besides times."""

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
        marks = dict(self.store.get(self.model, FOLLOWED) or {})
        return sum(self.follow(name, marks) for name in self.source.names())

    def follow(self, name: str, marks: dict[str, Mark]) -> int:
        """Everything of one file, or of the table; how far that is goes into the marks of all."""
        read = 0
        while True:
            mark = dict(marks.get(name) or {})
            if mark.get("broken"):
                return read
            try:
                rows, after = self.source.read(name, mark)
            except InvalidInput as error:
                self.say(f"{name}: {error}", name)
                marks[name] = {**mark, "broken": str(error)}
                self.store.put(self.model, FOLLOWED, marks)
                return read
            if not rows and after == mark:
                return read
            marks[name] = after
            if not rows:  # written anew without a new row: it need not be compared again
                self.store.put(self.model, FOLLOWED, marks)
                return read
            read += len(rows)
            self.take(name, rows, marks)

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
