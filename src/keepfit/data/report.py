"""The report on a labelled file: what is in it, what is doubtful, and what makes it unusable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from keepfit.data.allocation import Allocation
from keepfit.data.census import Census
from keepfit.data.columns import MOST_CLASSES, Columns
from keepfit.data.files import guess_columns, read_rows
from keepfit.data.multilabel import several_labels
from keepfit.data.splits import PART_NAMES, Split

FEW_ROWS = 10
"""A class with fewer rows is warned about."""
UNBALANCED = 10
"""The largest class has so many times the rows of the smallest: warned about."""
SHOWN = 20
"""Classes that the text shows; the JSON has all."""


@dataclass(frozen=True)
class Report:
    """Counts and findings; sentences in `problems` forbid training, those in `warnings` do not."""

    name: str
    columns: Columns
    rows: int
    classes: Mapping[str, int]
    """Rows per class, the largest first."""
    lengths: Mapping[str, int]
    """Characters per text: median, p95, max."""
    counts: Mapping[str, int]
    """empty, unlabelled, unreadable, repeats, contradictory, encoding_faults, leaks (rows, the last two texts)."""
    parts: Mapping[str, int]
    """Distinct texts per part of the snapshot that would be made."""
    warnings: tuple[str, ...] = field(default=())
    problems: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"columns": self.columns.to_json()}

    def as_text(self) -> str:
        """Aligned lines for a terminal."""
        return "\n".join(_lines(self))


def check_file(path: Path, columns: Columns = Columns(), shares: tuple[float, float] = (0.1, 0.1)) -> Report:  # noqa: B008
    """Read the file once and report. `shares` are those of validation and test.

    Raises InvalidInput when the file cannot be read at all or its columns cannot be told.
    """
    return survey(path, columns, shares)[0]


def survey(path: Path, columns: Columns, shares: tuple[float, float]) -> tuple[Report, Census, Allocation]:
    """The report, with the counts and the parts that it is made from."""
    path = Path(path)
    columns = guess_columns(path, columns)
    census = Census()
    for row in read_rows(path, columns):
        census.add(row, has_parts=columns.split is not None, has_time=columns.time is not None)
    allocation = Allocation(census, shares)
    texts = allocation.texts()
    report = Report(
        name=path.name,
        columns=columns,
        rows=census.rows,
        classes=dict(sorted(census.classes.items(), key=lambda item: (-item[1], item[0]))),
        lengths=_lengths(census),
        counts={
            "empty": census.empty,
            "unlabelled": census.unlabelled,
            "unreadable": census.unreadable,
            "repeats": census.repeats,
            "contradictory": census.contradictory,
            "encoding_faults": census.faults,
            "leaks": census.leaks,
        },
        parts={part.value: classes.total() for part, classes in texts.items()},
        warnings=tuple(_warnings(census, allocation, texts)),
        problems=tuple(_problems(census, allocation, columns)),
    )
    return report, census, allocation


def _lengths(census: Census) -> dict[str, int]:
    lengths = np.asarray(census.lengths, dtype=np.int64)
    if not len(lengths):
        return {"median": 0, "p95": 0, "max": 0}
    median, p95 = np.percentile(lengths, [50, 95])
    return {"median": round(median), "p95": round(p95), "max": int(lengths.max())}


def _problems(census: Census, allocation: Allocation, columns: Columns) -> Iterator[str]:
    label = columns.label
    if not census.classes:
        yield f"there is no usable row among {census.rows:,}" + _first(census)
        return
    if census.unreadable > 0.5 * census.rows:
        yield f"most rows cannot be read ({census.unreadable:,} of {census.rows:,}{_first(census)})"
    several = several_labels(census.classes)
    if several is not None:
        yield (
            f"the label column {label!r} holds several labels in one cell (such as {several!r:.80}), and a keepfit "
            "model gives each text exactly one: choose one label per row, or make one file per label with yes and no"
        )
    elif len(allocation.classes) > MOST_CLASSES:
        yield (
            f"the label column {label!r} has {len(census.classes):,} different values, and at most {MOST_CLASSES} "
            "classes can be learnt: is it the right column? If it is, join rare classes"
        )
    elif len(census.classes) == 1:
        only = next(iter(census.classes))
        yield f"all rows have the same label ({only!r:.60}); it takes two classes or more to learn"
    elif len(allocation.classes) < 2:
        yield f"fewer than two classes of {label!r} have two rows or more; add rows, or check the label column"
    if census.unknown_parts:
        worst = ", ".join(repr(value) for value, _ in census.unknown_parts.most_common(3))
        yield f"the split column {columns.split!r} says {worst}; it may say {', '.join(PART_NAMES)}"


def _warnings(census: Census, allocation: Allocation, texts: Mapping[Split, Mapping[str, int]]) -> Iterator[str]:
    usable = len(census.lengths)
    if census.unreadable:
        yield f"{_count(census.unreadable)} that cannot be read will be left out{_first(census)}"
    if census.empty:
        yield f"{_count(census.empty)} without text will be left out"
    if census.unlabelled:
        yield f"{_count(census.unlabelled)} without a label will be left out"
    if census.contradictory:
        yield (
            f"{_count(census.contradictory, 'text')} with two labels or more: the label that most rows of "
            "a text have is kept, and where there is none the text is left out"
        )
    if census.leaks:
        leaks = _count(census.leaks, "text")
        yield f"{leaks} in more than one part will stay in the last of train, validation, test only"
    if census.faults:
        yield f"{_count(census.faults)} with damaged characters (� or Ã©, for example): save the file as UTF-8"
    if census.untimed:
        yield f"{_count(census.untimed)} without a time that can be read will count as old"
    if census.repeated_ids:
        yield f"{_count(census.repeated_ids)} with the id of an earlier row will get a new one"
    if 0 < usable < 50:
        yield f"{usable} usable rows are very few; a few hundred are a start"
    yield from _class_warnings(allocation, texts)


def _class_warnings(allocation: Allocation, texts: Mapping[Split, Mapping[str, int]]) -> Iterator[str]:
    if allocation.left_out:
        yield f"classes with a single row are left out: {_some(allocation.left_out)}"
    alike = Counter(label.casefold() for label in [*allocation.classes, *allocation.left_out])
    twins = [label for label in allocation.classes if alike[label.casefold()] > 1]
    if twins:
        yield f"classes that differ in upper and lower case only count as different: {_some(twins)}"
    few = [label for label, n in allocation.classes.items() if n < FEW_ROWS]
    if few:
        yield f"classes with fewer than {FEW_ROWS} rows can hardly be learnt: {_some(few)}"
    sizes = allocation.classes.values()
    if sizes and max(sizes) >= UNBALANCED * min(sizes):
        yield f"the largest class has {max(sizes) / min(sizes):,.0f} times the rows of the smallest"
    for part, classes in texts.items():
        missing = [label for label in allocation.classes if not classes.get(label)]
        if missing and len(missing) == len(allocation.classes):
            yield f"the {part} part is empty"
        elif missing:
            yield f"the {part} part has no row of {_some(missing)}"


def _count(n: int, noun: str = "row") -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def _first(census: Census) -> str:
    return f"; the first: {census.first_unreadable}" if census.first_unreadable else ""


def _some(labels: Mapping[str, int] | list[str]) -> str:
    names = [f"{label:.40}" for label in labels]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _lines(report: Report) -> Iterator[str]:
    yield f"{report.name}: {report.rows:,} rows, {len(report.classes):,} classes"
    for role, column in report.columns.named():
        yield f"  {role + ' column':<22}{column}"
    width = max((min(len(label), 40) for label in report.classes), default=0)
    total = max(sum(report.classes.values()), 1)
    for label, n in list(report.classes.items())[:SHOWN]:
        yield f"  {label:<{width}.40}  {n:>9,}  {n / total:>6.1%}"
    if len(report.classes) > SHOWN:
        yield f"  and {len(report.classes) - SHOWN:,} more"
    facts = {f"length, {name}": f"{n:,} characters" for name, n in report.lengths.items()}
    facts |= {name.replace("_", " "): f"{n:,}" for name, n in report.counts.items()}
    facts["distinct texts"] = ", ".join(f"{name} {n:,}" for name, n in report.parts.items())
    for name, value in facts.items():
        yield f"  {name:<22}{value}"
    for title, sentences in (("warning", report.warnings), ("problem", report.problems)):
        for sentence in sentences:
            yield f"{title}: {sentence}"
