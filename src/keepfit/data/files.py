"""Reading a labelled (or unlabelled) table row by row, whatever kind of file it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path

from keepfit.data.columns import Columns, Sample, check_named, choose_columns
from keepfit.data.tables import Record, column_names, read_records
from keepfit.data.times import parse_time
from keepfit.errors import InvalidInput

__all__ = ["Columns", "RawRow", "column_names", "guess_columns", "read_rows"]

SAMPLED = 2000
"""Rows that are looked at to tell the columns."""


@dataclass(frozen=True)
class RawRow:
    """One row. With an `error` (a clause such as "has 3 fields ...") content and label are None."""

    number: int
    """Counted from 1; the header is not counted."""
    values: Mapping[str, str]
    """All columns of the file, as text."""
    content: str | tuple[str, ...] | None = None
    """A str for one text column, a tuple in the order of `Columns.text` for several."""
    label: str | None = None
    id: str | None = None
    key: str | None = None
    time: datetime | None = None
    context: Mapping[str, str] = field(default_factory=dict)
    split: str | None = None
    """As the file says it, lower case; None without a split column."""
    error: str | None = None


def guess_columns(path: Path, columns: Columns = Columns(), need_label: bool = True) -> Columns:  # noqa: B008
    """Fill the gaps of `columns`; what is named is only checked.

    Raises InvalidInput with the list of columns when one is unknown or the text (or a needed label) cannot be told.
    """
    path = Path(path)
    header = column_names(path)
    if not header:
        raise InvalidInput(f"{path.name} has no columns; JSON lines need one object per line, a CSV a header line")
    if columns.text and (columns.label or not need_label):
        check_named(Sample(path.name, header, ()), columns.named())
    rows = [record.values for record in islice(read_records(path), SAMPLED) if record.error is None]
    return choose_columns(Sample(path.name, header, rows), columns, need_label)


def read_rows(path: Path, columns: Columns = Columns(), need_label: bool = True) -> Iterator[RawRow]:  # noqa: B008
    """Every row in the order of the file, in constant memory; a bad row comes with its error, none is left out.

    Raises InvalidInput before the first row when the columns cannot be told, and while reading when the file turns
    out to be damaged.
    """
    path = Path(path)
    chosen = guess_columns(path, columns, need_label)
    return (_row(record, chosen, need_label) for record in read_records(path))


def _row(record: Record, columns: Columns, need_label: bool) -> RawRow:
    def cell(column: str | None) -> str | None:
        return record.values.get(column, "").strip() or None if column is not None else None

    texts = tuple(record.values.get(column, "") for column in columns.text)
    error = record.error or _objection(record, columns, texts, cell(columns.label), need_label)
    moment = cell(columns.time)
    split = cell(columns.split)
    return RawRow(
        number=record.number,
        values=record.values,
        content=None if error else texts[0] if len(texts) == 1 else texts,
        label=None if error else cell(columns.label),
        id=cell(columns.id),
        key=cell(columns.key),
        time=parse_time(moment) if moment else None,
        context={column: record.values.get(column, "") for column in columns.context},
        split=split.lower() if split else None,
        error=error,
    )


def _objection(
    record: Record, columns: Columns, texts: tuple[str, ...], label: str | None, need_label: bool
) -> str | None:
    nested = [column for column in columns.text if column in record.nested]
    if nested:
        return f"holds a list or an object in {nested[0]!r} instead of text"
    if not any(text.strip() for text in texts):
        return EMPTY_TEXT
    return EMPTY_LABEL if need_label and label is None else None


EMPTY_TEXT = "has an empty text"
EMPTY_LABEL = "has no label"
