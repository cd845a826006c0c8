"""A row of a history, read strictly: what is wrong with it is counted with the first rows, and nothing is guessed."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import Any

from keepfit.clock import SKEW
from keepfit.data.past_columns import PastColumns
from keepfit.data.stored_types import microseconds
from keepfit.data.tables import Record
from keepfit.data.times import in_zone, is_ambiguous, read_time

TOLERANCE = 0.01
"""By so much probabilities may miss 1: they are often rounded."""
LONGEST_TEXT, LONGEST_NAME = 1_000_000, 1_000
SHOWN = 3
"""Rows that are named of each kind of fault."""
UNREADABLE = "\N{REPLACEMENT CHARACTER}"
NAIVE = "times name no zone"
SUMS = "probabilities do not add up to 1"


@dataclass(frozen=True)
class PastRow:
    """One past answer."""

    number: int
    id: str
    content: str | tuple[str, ...]
    time: datetime
    version: str
    said: str | None
    """The answer, where it is given as a label."""
    scores: Mapping[str, float] | None
    """Probabilities by class, adding up to 1."""
    label: str | None
    label_time: datetime | None
    key: str | None
    context: Mapping[str, str]
    group: str | None = None
    """Of the text as it came, where it is not kept so."""

    def prediction_id(self) -> str:
        """The same for the same answer, however often it is imported."""
        return digest(f"answer\0{self.id}\0{self.version}\0{microseconds(self.time)}")

    @property
    def answer(self) -> str:
        """The class that was answered."""
        if self.scores is None:
            return self.said or ""
        return max(self.scores, key=lambda name: self.scores[name])  # type: ignore[index]


class Fault(Exception):
    """What is wrong with one row: its kind, and what it says."""

    def __init__(self, kind: str, seen: str = "") -> None:
        super().__init__(kind)
        self.kind, self.seen = kind, seen


@dataclass
class Faults:
    """Counts of each kind, with the first rows."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, number: int, seen: str = "") -> None:
        """One more."""
        self.counts[kind] += 1
        if self.counts[kind] <= SHOWN:
            self.first.setdefault(kind, []).append(f"row {number}" + (f" ({seen:.80})" if seen else ""))

    def sentences(self) -> list[str]:
        """Each kind with its number and first rows, the most frequent first."""
        return [f"{n} rows: {kind}, first {', '.join(self.first[kind])}" for kind, n in self.counts.most_common()]


@dataclass(frozen=True)
class Terms:
    """What a person allows."""

    columns: PastColumns
    zone: tzinfo | None = None
    """Of times that name none; None: such are refused."""
    name: str = "elsewhere"
    """The version's name where no column says it."""
    normalise: bool = False
    """Probabilities that do not add up to 1 are divided by their sum."""
    skip_bad: bool = False
    """Rows with a fault are left out and counted, instead of refused all together."""


@dataclass
class Reader:
    """Makes rows of records; what is wrong, and what was mended, is counted."""

    terms: Terms
    now: datetime
    faults: Faults = field(default_factory=Faults)
    mended: Faults = field(default_factory=Faults)

    def read(self, record: Record) -> PastRow | None:
        """The row; None where it has a fault."""
        try:
            return self._read(record)
        except Fault as fault:
            self.faults.add(fault.kind, record.number, fault.seen)
            return None

    def _read(self, record: Record) -> PastRow:
        columns = self.terms.columns
        if record.error is not None:
            raise Fault("a row cannot be read", record.error)
        content = self._content(record)
        moment = self._time(record, columns.time)
        if moment is None:
            raise Fault("no time")
        scores, said = self._scores(record), self._cell(record, columns.prediction)
        if scores is None and not said:
            raise Fault("no answer")
        version = self.terms.name if columns.version is None else self._cell(record, columns.version)
        if not version:
            raise Fault("no version")
        given = self._cell(record, columns.id)
        if columns.id is not None and not given:
            raise Fault("no id")
        row = PastRow(
            record.number, given or content_id(content, moment), content, moment, version, said or None, scores,
            self._cell(record, columns.label) or None, self._label_time(record, moment),
            self._cell(record, columns.key) or None, {c: record.values.get(c, "") for c in columns.context},
        )  # fmt: skip
        if scores is not None and said:
            self._agree(row)
        if any(len(name) > LONGEST_NAME for name in (row.id, row.version, row.key or "", row.label or "", said)):
            raise Fault(f"an id, key, version or label has more than {LONGEST_NAME} characters")
        return row

    @staticmethod
    def _cell(record: Record, column: str | None) -> str:
        return "" if column is None else record.values.get(column, "").strip()

    def _content(self, record: Record) -> str | tuple[str, ...]:
        texts = tuple(record.values.get(column, "") for column in self.terms.columns.text)
        if not any(text.strip() for text in texts):
            raise Fault("an empty text")
        if sum(map(len, texts)) > LONGEST_TEXT:
            raise Fault(f"a text of more than {LONGEST_TEXT:,} characters", f"{sum(map(len, texts)):,}")
        if any(UNREADABLE in text for text in texts):
            self.mended.add("bytes that are no UTF-8 were replaced by U+FFFD", record.number)
        return texts[0] if len(texts) == 1 else texts

    def _time(self, record: Record, column: str | None) -> datetime | None:
        cell = self._cell(record, column)
        if not cell:
            return None
        moment = read_time(cell)
        if moment is None:
            raise Fault("a time that cannot be read", cell)
        if moment.tzinfo is None:
            moment = self._zoned(moment, record.number, cell)
        if moment > self.now + SKEW:
            raise Fault("a time in the future", cell)
        return moment

    def _zoned(self, moment: datetime, number: int, cell: str) -> datetime:
        zone = self.terms.zone
        if zone is None:
            raise Fault(NAIVE, cell)
        if is_ambiguous(moment, zone):
            self.mended.add(f"a time in an hour that comes twice or never in {zone} (the first is taken)", number, cell)
        try:
            return in_zone(moment, zone)
        except OverflowError:
            raise Fault("a time that cannot be read", cell) from None

    def _label_time(self, record: Record, moment: datetime) -> datetime | None:
        if self.terms.columns.label_time is None:
            return None
        found = self._time(record, self.terms.columns.label_time)
        if found is not None and found < moment - SKEW:
            raise Fault("a label that came before its answer", f"{found.isoformat()} before {moment.isoformat()}")
        return None if found is None else max(found, moment)

    def _scores(self, record: Record) -> Mapping[str, float] | None:
        columns = self.terms.columns
        if not columns.probabilities:
            return None
        if columns.as_objects:
            cells = self._object(self._cell(record, columns.probabilities[0]))
        else:
            cells = {
                name: self._cell(record, column)
                for column, name in zip(columns.probabilities, columns.classes, strict=True)
            }
        if not any(str(value).strip() for value in cells.values()):
            return None
        try:
            scores = {name: float(value) for name, value in cells.items()}
        except (TypeError, ValueError):
            raise Fault("probabilities that are no numbers", ", ".join(map(str, cells.values()))) from None
        return self._whole(record.number, scores)

    def _whole(self, number: int, scores: Mapping[str, float]) -> Mapping[str, float]:
        total, seen = sum(scores.values()), ", ".join(f"{value:g}" for value in scores.values())
        if not all(-1e-9 <= value <= 1 + TOLERANCE for value in scores.values()) and not self.terms.normalise:
            raise Fault("probabilities outside of 0 to 1", seen)
        if not total < float("inf") or total <= 0 or min(scores.values()) < -1e-9:  # NaN is not below infinity
            raise Fault("probabilities outside of 0 to 1", seen)
        if abs(total - 1) > TOLERANCE:
            if not self.terms.normalise:
                raise Fault(SUMS, f"{seen}: {total:.4g}")
            self.mended.add("probabilities were divided by their sum", number, f"{total:.4g}")
        return {name: max(value, 0.0) / total for name, value in scores.items()}

    @staticmethod
    def _object(cell: str) -> dict[str, Any]:
        if not cell:
            return {}
        try:
            found = json.loads(cell)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict) or not found:
            raise Fault("probabilities that are no object {class: probability}", cell)
        return {str(name): value for name, value in found.items()}

    @staticmethod
    def _agree(row: PastRow) -> None:
        scores = row.scores or {}
        said = row.said or ""
        if scores.get(said, -1.0) < max(scores.values()) - 1e-6:
            raise Fault("the answer is not the most probable class", f"{said}, while {row.answer} is")


def content_id(content: str | tuple[str, ...], moment: datetime) -> str:
    """The id of a row that has none: the hash of its content and time."""
    parts = content if isinstance(content, tuple) else (content,)
    return "row-" + digest("\x1f".join(parts) + f"\0{microseconds(moment)}")


def digest(words: str) -> str:
    """Half of a SHA-256, in hex."""
    return hashlib.sha256(words.encode("utf-8", "surrogatepass")).hexdigest()[:32]
