"""Scoring a file: every row of a table answered by one version, in constant memory, resumable after a kill."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from keepfit.data.files import Columns, RawRow, guess_columns, read_rows
from keepfit.data.records import FIRST
from keepfit.data.scored import Format, ScoredRows, kind_by_name
from keepfit.data.tables import column_names, kind_of, read_records
from keepfit.errors import InvalidInput, Refused
from keepfit.pipelines.parts import opened
from keepfit.tasks.task import Floats, Model, Prepared, first_of
from keepfit.telling import Progress

logger = logging.getLogger(__name__)

LARGEST = 16 * 2**20
"""Characters in a chunk, so that memory stays bounded whatever the rows hold."""
_ENCODING = 1
"""Raised when the same input would be written otherwise, so that parts of another release are not gone on with."""

T = TypeVar("T")


@dataclass(frozen=True)
class ScoreReport:
    """What became of a file."""

    rows: int
    errors: int
    """Rows that have an error instead of an answer."""
    resumed: int
    """Rows that an earlier, interrupted run had already written."""
    seconds: float
    """Of this run."""
    notes: tuple[str, ...] = ()
    """What the user should know: started anew, renamed columns."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"notes": list(self.notes)}


@dataclass(frozen=True, eq=False)
class _Chunk:
    rows: Sequence[RawRow]
    errors: Sequence[str | None]
    prepared: Prepared
    """Of the rows without an error, in their order, that the first stage has not answered."""
    first: Floats
    """What the first stage says of the rows without an error, shape (n, k)."""
    taken: NDArray[np.bool_]
    """Where that is the answer, shape (n,)."""


@dataclass(frozen=True)
class Sure:
    """A model, and from which score on its first stage answers."""

    model: Model
    sure_from: float | None

    def said(self, contents: Sequence[Any]) -> tuple[Floats, NDArray[np.bool_]]:
        """The first stage's scores (n, k), and where they are the answer (n,)."""
        first = first_of(self.model)
        if first is None or self.sure_from is None:
            return np.zeros((len(contents), len(self.model.labels)), np.float32), np.zeros(len(contents), np.bool_)
        scores, floor = first.scores(contents), max(self.sure_from, self.model.abstain_below or 0.0)
        return scores, scores.max(axis=1, initial=0.0) >= np.float32(floor)


def score_file(
    model: Model,
    source: Path,
    target: Path,
    columns: Columns,
    version: int,
    progress: Progress = lambda done, total: None,
    chunk: int = 2048,
    sure_from: float | None = None,
) -> ScoreReport:
    """Write the input's columns and `label, score, p_<label>, model_version, error` for each row, in order; where a
    first stage may answer, also `stage` (before error): first or model.

    The output's kind is its suffix's (csv, tsv, jsonl, parquet, each also with .gz); it replaces a file of that name,
    at once, when everything is done. A row that cannot be read or understood gets a sentence in `error`. Killed (or
    out of disk) and called again with the same arguments it goes on after the last durable chunk, and writes each
    row once; when input, version or options have changed it starts anew, and says so in the notes.

    `sure_from`: rows whose top score by the model's first stage reaches it have the first stage's answer; None: none.

    Raises InvalidInput (input or output cannot be meant), Refused (another process writes the same output, or the
    input changed meanwhile), BackendError (disk full; what is done is kept).
    """
    started = time.monotonic()
    source, target = Path(source), Path(target)
    kind, packed = kind_by_name(target)
    _check_places(source, target)
    columns = guess_columns(source, columns, need_label=False)
    before = _stamp(source)
    total, names = _census(source)
    form = Format(kind, packed, names, model.labels, version, sure_from is not None)
    origin = _origin(source, form, columns, model, chunk) | ({} if sure_from is None else {"sure_from": sure_from})
    cascade = Sure(model, sure_from)
    with opened(target, origin) as parts:
        notes = _notes(form, parts.anew, target)
        resumed = parts.rows
        progress(resumed, total)
        for each in _ahead(_chunks(cascade, source, columns, resumed, chunk)):
            rows = _answer(model, each)
            parts.add(form.encode(rows), len(rows), sum(error is not None for error in rows.errors))
            progress(parts.rows, total)
        if _stamp(source) != before:
            raise Refused(f"{source} changed while it was scored; run the same job again when it is complete.")
        rows_done, errors = parts.rows, parts.errors
        parts.publish(form.join)
    return ScoreReport(rows_done, errors, resumed, time.monotonic() - started, notes)


def _check_places(source: Path, target: Path) -> None:
    kind_of(source)  # a missing or foreign input is said first
    if target.exists() and os.path.samefile(source, target):
        raise InvalidInput(f"The output {target} is the input; choose another name for the output.", "output")
    if target.is_dir():
        raise InvalidInput(f"The output {target} is a folder; name a file in it.", "output")
    if not target.parent.is_dir():
        raise InvalidInput(f"The folder {target.parent} does not exist; make it first.", "output")


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _census(source: Path) -> tuple[int, tuple[str, ...]]:
    """How many rows there are and all columns that occur, those that only a late JSON line has, too."""
    names = dict.fromkeys(column_names(source))
    total = 0
    for record in read_records(source):
        total += 1
        if len(record.values) > len(names) or not names.keys() >= record.values.keys():
            names.update(dict.fromkeys(record.values))
    return total, tuple(names)


def _origin(source: Path, form: Format, columns: Columns, model: Model, chunk: int) -> dict[str, Any]:
    """Everything that the output depends on."""
    with source.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "encoding": _ENCODING,
        "input": content,
        "format": asdict(form),
        "columns": columns.to_json(),
        "abstain_below": model.abstain_below,
        "chunk": chunk,
    }


def _notes(form: Format, anew: bool, target: Path) -> tuple[str, ...]:
    notes = [f"The input's column {old!r} is called {new!r}." for old, new in form.names.items() if old != new]
    if anew:
        notes.append(f"Started {target.name} anew: input, model version or options changed since the unfinished run.")
    for note in notes:
        logger.warning(note)
    return tuple(notes)


def _chunks(cascade: Sure, source: Path, columns: Columns, skip: int, size: int) -> Iterator[_Chunk]:
    rows: list[RawRow] = []
    characters = 0
    for number, row in enumerate(read_rows(source, columns, need_label=False)):
        if number < skip:
            continue
        rows.append(row)
        characters += sum(map(len, row.values.values()))
        if len(rows) == size or characters >= LARGEST:
            yield _prepare(cascade, columns, rows)
            rows, characters = [], 0
    if rows:
        yield _prepare(cascade, columns, rows)


def _prepare(cascade: Sure, columns: Columns, rows: list[RawRow]) -> _Chunk:
    contents: list[Any] = []
    errors: list[str | None] = []
    for row in rows:
        if row.error is not None:
            errors.append(f"row {row.number} {row.error}")
            continue
        raw = dict(zip(columns.text, row.content, strict=True)) if isinstance(row.content, tuple) else row.content
        try:
            contents.append(cascade.model.read(raw))
        except InvalidInput as error:
            errors.append(str(error))
        else:
            errors.append(None)
    first, taken = cascade.said(contents)
    rest = [content for content, sure in zip(contents, taken, strict=True) if not sure]
    return _Chunk(rows, errors, cascade.model.prepare(rest), first, taken)


def _ahead(chunks: Iterator[T]) -> Iterator[T]:
    """The same, each made while the one before is worked on."""
    with ThreadPoolExecutor(1, "score-reader") as thread:
        coming = thread.submit(next, chunks, None)
        while (ready := coming.result()) is not None:
            coming = thread.submit(next, chunks, None)
            yield ready


def _answer(model: Model, chunk: _Chunk) -> ScoredRows:
    scores = np.full((len(chunk.rows), len(model.labels)), np.nan, np.float32)
    good = np.array([error is None for error in chunk.errors], np.bool_)
    said = chunk.first.copy()
    said[~chunk.taken] = _scores(model, chunk.prepared)
    scores[good] = said
    labels = [_label(model, row) if ok else None for row, ok in zip(scores, good, strict=True)]
    said_by = iter(chunk.taken)
    stages = [None if error is not None else FIRST if next(said_by) else "model" for error in chunk.errors]
    return ScoredRows([row.values for row in chunk.rows], labels, scores, chunk.errors, stages)


def _scores(model: Model, prepared: Prepared) -> Any:
    """Shape (n, k). Rows of like cost go to the engine together, so that little is padded."""
    order = np.argsort(np.asarray(prepared.costs, np.int64), kind="stable")
    alike = Prepared(*([part[i] for i in order] for part in (prepared.items, prepared.costs, prepared.measures)))
    scores = np.empty((len(order), len(model.labels)), np.float32)
    if len(order):
        scores[order] = model.infer(alike).scores
    return scores


def _label(model: Model, scores: Any) -> str | None:
    best = int(np.argmax(scores))
    unsure = model.abstain_below is not None and scores[best] < model.abstain_below
    return None if unsure else model.labels[best]
