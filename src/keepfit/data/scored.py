"""Scored tables: the input's columns with the answers beside them, written as CSV, TSV, JSON lines or Parquet.

They are written in parts, each of them encoded on its own, which `join` makes one file of.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from keepfit.errors import InvalidInput

_KINDS = {
    ".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet",
    ".pq": "parquet",
}  # fmt: skip
_DELIMITERS = {"csv": ",", "tsv": "\t"}
_LONE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, eq=False)
class ScoredRows:
    """Some rows of the input, in its order, with what the model said of each."""

    values: Sequence[Mapping[str, str]]
    """The input's columns."""
    labels: Sequence[str | None]
    """None where the model abstained or the row is bad."""
    scores: NDArray[np.float32]
    """Shape (n, k); NaN where the row is bad."""
    errors: Sequence[str | None]
    """None where all is well."""
    stages: Sequence[str | None] = ()
    """Who answered, where the format says it; None where the row is bad."""

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Format:
    """The columns and the kind of a scored table."""

    kind: str
    """csv, tsv, jsonl or parquet."""
    packed: bool
    columns: tuple[str, ...]
    """Of the input, by their names there."""
    classes: tuple[str, ...]
    version: int
    staged: bool = False
    """Whether it is said who answered each row."""

    @property
    def answers(self) -> tuple[str, ...]:
        """The columns that scoring adds."""
        stage = ("stage",) if self.staged else ()
        return ("label", "score", *(f"p_{name}" for name in self.classes), "model_version", *stage, "error")

    @property
    def names(self) -> dict[str, str]:
        """What each column of the input is called in the output: `input_label` for one that is called `label`.

        >>> Format("csv", False, ("text", "label"), ("bad", "good"), 1).names
        {'text': 'text', 'label': 'input_label'}
        """
        taken = {*self.answers, *self.columns}
        names: dict[str, str] = {}
        for column in self.columns:
            name = column
            while name in self.answers or (name != column and name in taken):
                name = f"input_{name}"
            taken.add(name)
            names[column] = name
        return names

    @property
    def header(self) -> tuple[str, ...]:
        """All columns of the output."""
        return (*self.names.values(), *self.answers)

    def encode(self, rows: ScoredRows) -> bytes:
        """One part, without a header."""
        if self.kind == "parquet":
            return self._parquet(rows)
        lines = self._json_lines(rows) if self.kind == "jsonl" else self._delimited(rows)
        content = "".join(lines).encode()
        return gzip.compress(content, 6, mtime=0) if self.packed else content

    def join(self, parts: Iterable[Path], out: IO[bytes]) -> None:
        """Writes the header and all parts, in constant memory."""
        if self.kind == "parquet":
            self._join_parquet(parts, out)
            return
        if self.kind in _DELIMITERS:
            header = self._line(self.header).encode()
            out.write(gzip.compress(header, 6, mtime=0) if self.packed else header)
        for part in parts:  # packed parts too: gzip files may follow one another
            with part.open("rb") as file:
                shutil.copyfileobj(file, out, 1 << 20)

    def _delimited(self, rows: ScoredRows) -> Iterator[str]:
        for values, label, scores, *end in zip(rows.values, rows.labels, rows.scores, *self._ends(rows), strict=True):
            bad = bool(np.isnan(scores).any())
            said = [""] * (1 + len(scores)) if bad else [str(np.max(scores)), *map(str, scores)]
            given = [values.get(column, "") for column in self.columns]
            yield self._line([*given, label or "", *said, str(self.version), *(word or "" for word in end)])

    def _ends(self, rows: ScoredRows) -> tuple[Sequence[str | None], ...]:
        """The columns behind the version's."""
        return (rows.stages, rows.errors) if self.staged else (rows.errors,)

    def _line(self, cells: Iterable[str]) -> str:
        delimiter = _DELIMITERS[self.kind]
        return delimiter.join(_quoted(storable(cell), delimiter) for cell in cells) + "\n"

    def _json_lines(self, rows: ScoredRows) -> Iterator[str]:
        names = self.names
        for values, label, scores, *end in zip(rows.values, rows.labels, rows.scores, *self._ends(rows), strict=True):
            bad = bool(np.isnan(scores).any())
            numbers = [None] * (1 + len(scores)) if bad else [_short(np.max(scores)), *map(_short, scores)]
            given = {name: values.get(column, "") for column, name in names.items()}
            line: dict[str, Any] = given | dict(zip(self.answers, [label, *numbers, self.version, *end], strict=True))
            text = json.dumps(line, ensure_ascii=False)
            yield (json.dumps(line) if _LONE.search(text) else text) + "\n"

    def _parquet(self, rows: ScoredRows) -> bytes:
        good = ~np.isnan(rows.scores).any(axis=1)
        columns: list[pa.Array] = [
            pa.array([storable(values.get(column, "")) for values in rows.values], pa.string())
            for column in self.columns
        ]
        columns.append(pa.array([None if label is None else storable(label) for label in rows.labels], pa.string()))
        for scores in (rows.scores.max(axis=1, initial=-np.inf), *rows.scores.T):
            columns.append(pa.array(scores, pa.float32(), mask=~good))
        columns.append(pa.array([self.version] * len(rows), pa.int64()))
        for words in self._ends(rows):
            columns.append(pa.array([None if word is None else storable(word) for word in words], pa.string()))
        buffer = io.BytesIO()
        pq.write_table(pa.table(columns, schema=self._schema()), buffer)
        return buffer.getvalue()

    def _schema(self) -> Any:
        numbers = [(storable(name), pa.float32()) for name in ("score", *(f"p_{name}" for name in self.classes))]
        ends = [(name, pa.string()) for name in self.answers[2 + len(self.classes) + 1 :]]
        given = [(storable(name), pa.string()) for name in self.names.values()]
        return pa.schema([*given, ("label", pa.string()), *numbers, ("model_version", pa.int64()), *ends])

    def _join_parquet(self, parts: Iterable[Path], out: IO[bytes]) -> None:
        packer = gzip.GzipFile("", "wb", 6, out, mtime=0) if self.packed else nullcontext(out)
        with packer as sink, pq.ParquetWriter(sink, self._schema()) as writer:
            for part in parts:
                writer.write_table(pq.read_table(part))


def kind_by_name(path: Path) -> tuple[str, bool]:
    """(kind, packed) that an output's name asks for. Raises InvalidInput.

    >>> kind_by_name(Path("out.jsonl.gz"))
    ('jsonl', True)
    """
    name = path.name.lower()
    kind = _KINDS.get(Path(name.removesuffix(".gz")).suffix)
    if kind is None:
        raise InvalidInput(
            f"The output {path.name} must end in .csv, .tsv, .jsonl or .parquet (or one of these and .gz).", "output"
        )
    return kind, name.endswith(".gz")


def storable(text: str) -> str:
    """The same text with U+FFFD for lone surrogates, which UTF-8 cannot hold."""
    return _LONE.sub("\ufffd", text)


def _quoted(cell: str, delimiter: str) -> str:
    # csv.writer leaves a lone carriage return bare (before Python 3.13), which readers take for the end of the row
    if any(sign in cell for sign in (delimiter, '"', "\n", "\r")):
        return '"' + cell.replace('"', '""') + '"'
    return cell


def _short(value: np.float32) -> float:
    """The shortest number that is this float32."""
    return float(str(value))
