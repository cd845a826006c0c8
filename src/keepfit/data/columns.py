"""Which column is the text, which the label: as named, else by well-known names, else by what they hold."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from keepfit.data.splits import PART_NAMES
from keepfit.data.times import parse_time
from keepfit.errors import InvalidInput

TEXTS = tuple(
    word
    for line in (
        "text review content sentence message comment tweet body document question utterance post headline",
        "reviewtext reviewbody reviewcontent messagetext tweettext commenttext sms query email feedback complaint",
        "description abstract article news passage prompt summary title subject",
    )
    for word in line.split()
)
"""Best first; compared without case, spaces and signs, as the other names."""
LABELS = tuple(
    word
    for line in (
        "label sentiment category class target topic intent emotion tag labels classname labelname",
        "y polarity stars rating",
    )
    for word in line.split()
)
HEADS = ("title", "subject")
BODIES = ("body", "content", "description", "message")
TIMES = ("time", "timestamp", "datetime", "date", "createdat")
MOST_CLASSES = 150
SHORT = 60
"""Characters that a label has at most, when it is found by what it holds."""


@dataclass(frozen=True)
class Columns:
    """The roles of a table's columns; what is None or empty is found automatically (or is not there)."""

    text: tuple[str, ...] = ()
    label: str | None = None
    id: str | None = None
    key: str | None = None
    time: str | None = None
    split: str | None = None
    context: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def named(self) -> list[tuple[str, str]]:
        """(role, column) for each that is given."""
        single = [("label", self.label), ("id", self.id), ("key", self.key), ("time", self.time), ("split", self.split)]
        several = [("text", c) for c in self.text] + [("context", c) for c in self.context]
        return several + [(role, column) for role, column in single if column is not None]


@dataclass(frozen=True)
class Sample:
    """The first rows of a table."""

    name: str
    """Of the file, for sentences."""
    header: tuple[str, ...]
    rows: Sequence[Mapping[str, str]]

    def values(self, column: str) -> list[str]:
        """What the column holds, without the empty ones."""
        return [row[column] for row in self.rows if row.get(column)]

    def listing(self) -> str:
        """The columns, for a sentence."""
        return ", ".join(self.header)


def choose_columns(sample: Sample, wanted: Columns, need_label: bool) -> Columns:
    """Fill the gaps of `wanted`. Raises InvalidInput with the columns when one is unknown or cannot be told."""
    check_named(sample, wanted.named())
    label = wanted.label or _by_name(sample, LABELS, wanted.text)
    text = wanted.text or _texts_by_name(sample, {label} if label else set())
    if not wanted.text or not wanted.label:
        _refuse_missing_header(sample)
    if need_label and len(sample.header) < 2:
        raise InvalidInput(
            f"{sample.name} has one column only ({sample.header[0]!r:.60}), so there is no label; "
            "its delimiter must be a comma, tab, semicolon or |"
        )
    if not text:
        text = (_text_by_content(sample, {c for c in (label, wanted.id, wanted.key, wanted.time, wanted.split) if c}),)
    if need_label and not label:
        label = _label_by_content(sample, {*text, *(c for _, c in wanted.named())})
    return replace(_side_columns(sample, wanted, {*text, label or ""}), text=text, label=label)


def check_named(sample: Sample, named: Sequence[tuple[str, str]]) -> None:
    """Raises InvalidInput for one of these (role, column) that the table lacks, with the nearest name."""
    for role, column in named:
        if column not in sample.header:
            near = difflib.get_close_matches(column.lower(), [c.lower() for c in sample.header], 1, 0.5)
            hint = next((f"; did you mean {c!r}?" for c in sample.header if near and c.lower() == near[0]), "")
            if len(sample.header) == 1:
                hint = "; its delimiter must be a comma, tab, semicolon or |"
            message = f"{sample.name} has no column {column!r}; its columns are {sample.listing():.300}{hint}"
            raise InvalidInput(message, role)


def plain_name(name: str) -> str:
    """Without case, spaces and signs."""
    return "".join(c for c in name.lower() if c.isalnum())


def _by_name(sample: Sample, names: Sequence[str], taken: Collection[str]) -> str | None:
    free = {plain_name(column): column for column in reversed(sample.header) if column not in taken}
    return next((free[name] for name in names if name in free), None)


def _texts_by_name(sample: Sample, taken: Collection[str]) -> tuple[str, ...]:
    """One column, or a heading and its body; a column called `text` is meant alone."""
    if not _by_name(sample, ("text",), taken):
        head, body = _by_name(sample, HEADS, taken), _by_name(sample, BODIES, taken)
        if head and body:
            return (head, body)
    found = _by_name(sample, TEXTS, taken)
    return (found,) if found else ()


def _refuse_missing_header(sample: Sample) -> None:
    """A column whose name is also one of its first values, and an unlikely name, is a row of data."""
    known = {*TEXTS, *LABELS}
    if any(plain_name(c) in known for c in sample.header):
        return
    if any(column in sample.values(column) for column in sample.header):
        raise InvalidInput(
            f"the first line of {sample.name} seems to be data ({sample.listing():.80}); "
            "put a line with the column names before it, such as text,label"
        )


def _text_by_content(sample: Sample, taken: Collection[str]) -> str:
    def mean_length(column: str) -> float:
        values = sample.values(column)
        if not values or all(v.startswith(("http://", "https://")) for v in values):
            return 0.0
        return sum(map(len, values)) / len(values)

    best = max((c for c in sample.header if c not in taken), key=mean_length, default=None)
    if best is None or (sample.rows and not any(c.isalpha() for v in sample.values(best) for c in v)):
        raise InvalidInput(
            f"cannot tell which column of {sample.name} is the text ({sample.listing()}); name it",
            "text",
        )
    return best


def _label_by_content(sample: Sample, taken: Collection[str]) -> str:
    """The only column with few, short, repeated values."""
    found: dict[str, int] = {}
    for column in sample.header:
        values = sample.values(column)
        kinds = len(set(values))
        free = column not in taken and plain_name(column) not in {"split", "id", *TIMES}
        few = kinds <= max(2, min(MOST_CLASSES, len(values) // 2))
        if free and values and few and max(map(len, values)) <= SHORT:
            found[column] = kinds
    if len(found) > 1:
        found = {column: kinds for column, kinds in found.items() if kinds > 1} or found
    if len(found) == 1:
        return next(iter(found))
    choice = f"it could be {' or '.join(found)}" if found else f"its columns are {sample.listing()}"
    raise InvalidInput(f"cannot tell which column of {sample.name} is the label: {choice}; name it", "label")


def _side_columns(sample: Sample, wanted: Columns, taken: Collection[str]) -> Columns:
    """id, key, time and split under their own names, when what they hold fits."""

    def found(names: Sequence[str]) -> str | None:
        return _by_name(sample, names, {*taken, *(c for _, c in wanted.named())})

    identity, key, moment, split = found(("id",)), found(("key",)), found(TIMES), found(("split",))
    if identity and len(set(sample.values(identity))) < len(sample.rows):
        identity = None
    if moment and sum(parse_time(v) is None for v in sample.values(moment)) > 0.1 * len(sample.rows):
        moment = None
    if split and not {v.strip().lower() for v in sample.values(split)} <= set(PART_NAMES):
        split = None
    return replace(
        wanted,
        id=wanted.id or identity,
        key=wanted.key or key,
        time=wanted.time or moment,
        split=wanted.split or split,
    )
